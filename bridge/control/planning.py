"""Planning every view of a configuration, and opening what its sinks are.

The one thing to know: a view that is refused says so with its name and its query, so
that the place of the mistake can be shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.catalog import Catalog
from bridge.config import Config, TargetConfig, ViewConfig, load_plugin
from bridge.control.session import Session, wrapped
from bridge.derive.definition import read_definitions
from bridge.derive.plan import Planned as PlannedView
from bridge.derive.plan import plan_view, plan_ways
from bridge.derive.view import ViewPlan
from bridge.errors import QueryRefusal
from bridge.sink import Build, Shape, Sink, Target


class ViewRefusal(QueryRefusal):
    """A view's query that cannot be kept: which view, and its text as configured."""

    def __init__(self, view: str, query: str | None, refusal: QueryRefusal) -> None:
        super().__init__(
            f"view {view}: {refusal.message}",
            hint=refusal.hint,
            at=refusal.at,
            denied=refusal.denied,
        )
        self.view = view
        self.query = query


@dataclass(frozen=True, slots=True)
class Planned:
    """Every view of a configuration, planned by one state of the catalog."""

    catalog: Catalog
    plans: Mapping[str, ViewPlan]
    refused: Mapping[str, ViewRefusal] = field(default_factory=dict)
    """Views that could be kept when they were applied and cannot any more."""


async def read_views(session: Session, config: Config) -> Catalog:
    """What the source says of the views' queries and all that they refer to."""
    with wrapped():
        return await read_definitions(
            session, list(config.views.values()), config.source.search_path
        )


def plan_configured(view: ViewConfig, catalog: Catalog) -> ViewPlan:
    """The plan of a view of the file. ViewRefusal when it cannot be kept."""
    try:
        return plan_view(view, catalog)
    except QueryRefusal as refusal:
        raise ViewRefusal(view.name, view.query, refusal) from refusal


async def plan(
    session: Session, config: Config, *, applied: Collection[str] = ()
) -> Planned:
    """Read the catalog and plan every view. ViewRefusal, Transient or Halt.

    A view that is among the `applied`, and is refused now, stands in `refused`. Of
    thousands each lets others run before it: whoever holds the lease must say so.
    """
    catalog = await read_views(session, config)
    plans: dict[str, ViewPlan] = {}
    refused: dict[str, ViewRefusal] = {}
    for name, view in config.views.items():
        await asyncio.sleep(0)
        try:
            plans[name] = plan_configured(view, catalog)
        except ViewRefusal as refusal:
            if name not in applied:
                raise
            refused[name] = refusal
    return Planned(catalog, plans, refused)


async def plan_one(
    session: Session, config: Config, view: str
) -> tuple[PlannedView, Catalog]:
    """One view with the ways of its tables, for explaining. ViewRefusal."""
    only = replace(config, views={view: config.views[view]})
    catalog = await read_views(session, only)
    plan_configured(config.views[view], catalog)
    return plan_ways(config.views[view], catalog), catalog


def view_definition(view: ViewConfig) -> dict[str, Any]:
    """A view as the store keeps it, for people to read."""
    given = {
        "query": view.query,
        "table": view.table,
        "columns": view.columns and list(view.columns),
        "key": view.key and list(view.key),
        "functions": list(view.functions),
    }
    return {name: value for name, value in given.items() if value}


def sink_target(target: TargetConfig, plan: ViewPlan) -> Target:
    """The target as its sink is told of it."""
    return Target(
        view=target.view,
        sink=target.sink,
        name=target.name,
        shape=plan.shape,
        options=target.options,
    )


async def estimate(connection: Session, plan: ViewPlan) -> tuple[int, int]:
    """About how many documents a view has, and the bytes of their rows; 0: nobody has
    counted yet."""
    with wrapped():
        cursor = await connection.execute(plan.estimate_sql.encode())
        row = await cursor.fetchone()
    assert row is not None
    return int(row["documents"]), int(row["size_bytes"])


async def build(connection: Session, target: TargetConfig, plan: ViewPlan) -> Build:
    """What making the target anew would take."""
    documents, size_bytes = await estimate(connection, plan)
    return Build(sink_target(target, plan), documents, size_bytes)


def unplanned(target: TargetConfig) -> Target:
    """The same of a view that cannot be planned: nothing but its name."""
    return Target(target.view, target.sink, target.name, Shape((), ()), target.options)


@asynccontextmanager
async def open_sinks(config: Config) -> AsyncIterator[dict[str, Sink]]:
    """Every sink of the file, closed at the end. None is connected to by it."""
    async with AsyncExitStack() as stack:
        sinks: dict[str, Sink] = {}
        for name, sink in config.sinks.items():
            opened = await load_plugin(sink.type).open(name, sink.options)
            stack.push_async_callback(opened.close)
            sinks[name] = opened
        yield sinks
