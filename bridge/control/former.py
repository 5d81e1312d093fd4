"""Generations that were built from another definition than the file has now.

While a new generation is built, the one that readers see is fed on by the query that
it was built from, under a plan of its own.

The one thing to know: what is kept of a generation is the query as Postgres printed it
then, with every name qualified and every star expanded; it is planned again at each
start, since the tables may have changed under it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import permutations
from typing import Any

from bridge.catalog import Type
from bridge.config import Config, TargetConfig, ViewConfig
from bridge.control.planning import sink_target
from bridge.control.session import Session, wrapped
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, QueryRefusal
from bridge.sink import Generation, Sink, Target
from bridge.store.rows import GenerationKey, GenerationRow, GenerationState


@dataclass(frozen=True, slots=True)
class Former:
    """How each generation that is there is fed."""

    plans: Mapping[str, ViewPlan] = field(default_factory=dict)
    """Of former definitions, by names of their own, VIEW@DIGEST."""
    names: Mapping[GenerationKey, str] = field(default_factory=dict)
    """Which plan feeds a generation: one of these, or the view's own."""
    targets: Mapping[GenerationKey, Target] = field(default_factory=dict)
    """Of generations that were built with other options or another shape."""
    refused: Mapping[GenerationKey, str] = field(default_factory=dict)
    """Generations that cannot be fed any more, and why."""
    types: Mapping[int, Type] = field(default_factory=dict)

    def altered(self, targets: Mapping[GenerationKey, Target]) -> Former:
        """The same, but for generations that are for something else from now on."""
        return replace(self, targets={**self.targets, **targets})

    def without(self, lacking: Mapping[str, BridgeError]) -> Former:
        """The same, but for plans that the tables as they are do not allow."""
        refused = {
            key: lacking[name].message
            for key, name in self.names.items()
            if name in lacking
        }
        return replace(
            self,
            plans={n: plan for n, plan in self.plans.items() if n not in lacking},
            names={k: name for k, name in self.names.items() if k not in refused},
            refused={**self.refused, **refused},
        )


def built_from(
    plan: ViewPlan, view: ViewConfig, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What is kept with a generation, so that it can be fed later on."""
    return {
        "query": plan.query,
        "key": list(plan.shape.key),
        "functions": list(view.functions),
        "options": dict(options),
    }


async def plan_former(
    session: Session,
    config: Config,
    plans: Mapping[str, ViewPlan],
    generations: Iterable[GenerationRow],
) -> Former:
    """Plan what the generations were built from, where that is not what the file says
    now. Transient or Halt when the source cannot be asked."""
    wanted = {(target.sink, target.name): target for target in config.targets()}
    rows = [
        row
        for row in generations
        if row.state is not GenerationState.DROPPED and row.key[:2] in wanted
    ]
    definitions = {
        _name(row): _definition(row)
        for row in rows
        if "query" in row.definition and not _is_current(row, plans)
    }
    with wrapped():
        catalog = await read_definitions(
            session, list(definitions.values()), config.source.search_path
        )
    planned: dict[str, ViewPlan] = {}
    refusals: dict[str, str] = {}
    for name, definition in definitions.items():
        await asyncio.sleep(0)  # as for the others
        try:
            planned[name] = plan_view(definition, catalog)
        except QueryRefusal as refusal:
            refusals[name] = refusal.message
    names: dict[GenerationKey, str] = {}
    targets: dict[GenerationKey, Target] = {}
    refused: dict[GenerationKey, str] = {}
    for row in rows:
        name, plan = _plan_of(row, plans, planned)
        if plan is None:
            why = refusals.get(_name(row), "what it was built from is not known")
            refused[row.key] = f"its query cannot be kept any more: {why}"
            continue
        names[row.key] = name
        targets[row.key] = _target(row, wanted[row.key[:2]], plan)
    used = set(names.values())
    return Former(
        plans={name: plan for name, plan in planned.items() if name in used},
        names=names,
        targets=targets,
        refused=refused,
        types=catalog.types,
    )


def _name(row: GenerationRow) -> str:
    given = [row.definition.get(part) for part in ("query", "key", "functions")]
    return f"{row.view}@{sha256(json.dumps(given).encode()).hexdigest()[:8]}"


def _definition(row: GenerationRow) -> ViewDefinition:
    return ViewDefinition(
        name=_name(row),
        query=row.definition["query"],
        key=tuple(row.definition.get("key", ())) or None,
        functions=tuple(row.definition.get("functions", ())),
    )


def _is_current(row: GenerationRow, plans: Mapping[str, ViewPlan]) -> bool:
    plan = plans.get(row.view)
    return plan is not None and row.view_fingerprint == plan.fingerprint


def _plan_of(
    row: GenerationRow, plans: Mapping[str, ViewPlan], former: Mapping[str, ViewPlan]
) -> tuple[str, ViewPlan | None]:
    """The plan that feeds a generation, and its name."""
    plan = plans.get(row.view)
    own = former.get(_name(row))
    known = "query" in row.definition
    if plan is not None and (
        _is_current(row, plans)
        or (own is not None and own.fingerprint == plan.fingerprint)
        or not (known or row.view_fingerprint)  # of a history that has ended
    ):
        return row.view, plan
    return _name(row), own


def _target(row: GenerationRow, wanted: TargetConfig, plan: ViewPlan) -> Target:
    """Under the name that the view has by now: it is one and the same target."""
    now = sink_target(wanted, plan)
    return replace(now, options=row.definition.get("options", now.options))


def displaced(
    generations: Collection[Generation], sinks: Mapping[str, Sink]
) -> set[Generation]:
    """Generations that cannot stand beside a newer one that is there: what is written
    for that one would be mixed with what is written for them."""
    of: dict[Target, list[Generation]] = {}
    for generation in generations:
        of.setdefault(generation.target, []).append(generation)
    return {
        older
        for target, found in of.items()
        for older, newer in permutations(found, 2)
        if older.number < newer.number
        and not sinks[target.sink].side_by_side(older.target, newer.target)
    }
