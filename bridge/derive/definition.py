"""What a user says of a view, and planning it: from a query to a `ViewPlan`.

    definition = ViewDefinition("product", query="select …")
    catalog = await read_definitions(connection, [definition], ["public"])
    plan = plan_view(definition, catalog)            # pure; or QueryRefusal

The one thing to know: everything that needs the server is in `read_definitions`;
`bridge.derive.plan.plan_view` is a function of its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pglast import ast

from bridge.catalog import (
    Analysis,
    AnalysisFailure,
    Catalog,
    Definition,
    describe,
    read_catalog,
    read_types,
)
from bridge.derive.output import questions
from bridge.derive.parse import parse_printed, parse_source, place
from bridge.errors import QueryRefusal

if TYPE_CHECKING:
    from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class ViewDefinition:
    """A view as configured: either `query`, or `table` and perhaps `columns`."""

    name: str
    query: str | None = None
    table: str | None = None
    columns: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    """Output columns; None: found by the planner."""
    functions: tuple[str, ...] = ()
    """Functions declared to read no table, as `schema.name`."""


async def read_definitions(
    connection: AsyncConnection[Any],
    definitions: Sequence[Definition],
    search_path: Sequence[str] = ("public",),
) -> Catalog:
    """The catalog behind these views, for `plan_view`.

    `connection` is in autocommit mode and outside a transaction. Queries that are not
    one read-only `select` never reach the server. psycopg.Error when it cannot be
    asked; what is wrong with a definition shows when it is planned.
    """
    catalog = await read_catalog(connection, definitions, search_path, refuse=_refused)
    analyses = dict(catalog.analyses)
    found: set[int] = set()
    for name, analysis in analyses.items():
        if isinstance(analysis, Analysis):
            parts = await describe(connection, _questions(analysis, catalog))
            analyses[name] = replace(analysis, parts=parts)
            found |= {oid for oid, _ in parts.values()}
    types = dict(catalog.types)
    if found - types.keys():
        types |= await read_types(connection, found)
    return replace(catalog, analyses=analyses, types=types)


def _questions(analysis: Analysis, catalog: Catalog) -> list[str]:
    try:
        return questions(parse_printed(analysis.query), analysis, catalog)
    except (QueryRefusal, RecursionError):
        return []  # refused again, and told, when it is planned


def _refused(definition: Definition) -> AnalysisFailure | None:
    if definition.query is None:
        return None
    try:
        _refuse_doubled(parse_source(definition.query))
    except QueryRefusal as refusal:
        return AnalysisFailure(
            definition.query, refusal.message, refusal.hint, refusal.at
        )
    return None


def _refuse_doubled(statement: ast.SelectStmt) -> None:
    """Two columns of one name: Postgres would say so without the place."""
    names: set[str] = set()
    for target in statement.targetList or ():
        name = target.name
        if name is None and isinstance(target.val, ast.ColumnRef):
            last = (target.val.fields or (None,))[-1]
            name = last.sval if isinstance(last, ast.String) else None
        if name is None:
            continue
        if name in names:
            raise QueryRefusal(
                f"two output columns are called {name}",
                hint="give one of them another name with `as`",
                at=place(target),
            )
        names.add(name)
