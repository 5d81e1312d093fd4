"""Reading the catalog: every query of the configuration, and all that it stands on.

The one thing to know: only what the views refer to is read, from one connection in
one transaction, which is rolled back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import pq

from bridge.catalog.analysis import (
    Connection,
    analyse,
    bare,
    failure,
    fetch,
    read_otherwise,
    reads_as_printed,
    table_query,
)
from bridge.catalog.model import (
    Analysis,
    AnalysisFailure,
    Catalog,
    DatabaseView,
    Function,
    Index,
    Leaf,
    Names,
    RelationKind,
    Table,
    TableColumn,
    Type,
    Uses,
)
from bridge.catalog.nodetree import uses
from bridge.changes import Identity

_PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "timezone_abbreviations": "Default",
}
"""What the text of constants in a printed query, and its meaning, depend on."""


class Definition(Protocol):
    """What is read of a view's definition."""

    @property
    def name(self) -> str:
        """The view's name."""

    @property
    def query(self) -> str | None:
        """Its `select`, or None where a table is given."""

    @property
    def table(self) -> str | None:
        """A table's name, as in SQL."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns of that table; None: all."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """Output columns that are the key; None: to be found."""

    @property
    def functions(self) -> tuple[str, ...]:
        """Functions declared to read no table, as `schema.name`."""


def statement(name: str) -> LiteralString:
    """The SQL file of that name beside this module."""
    path = files("bridge.catalog").joinpath(f"sql/{name}.sql")
    return path.read_text("utf-8")


async def read_catalog(
    connection: Connection,
    definitions: Iterable[Definition],
    search_path: Sequence[str] = ("public",),
    *,
    refuse: Callable[[Definition], AnalysisFailure | None] = lambda _: None,
) -> Catalog:
    """What Postgres says of the definitions and of all that they refer to.

    The connection must be in autocommit mode and outside a transaction. A query that
    Postgres refuses is an `AnalysisFailure` in the result, as is one for which
    `refuse` gives one, which is then not shown to Postgres at all. psycopg.Error when
    the server cannot be asked.
    """
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    async with connection.transaction(force_rollback=True):
        await connection.execute(b"set transaction read write", prepare=False)
        for setting, value in _PINNED.items():
            await fetch(
                connection, "select pg_catalog.set_config($1, $2, true)", setting, value
            )
        [(path,)] = await fetch(
            connection,
            """
            select pg_catalog.concat_ws(', ', 'pg_catalog', (
                select pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ' order by o)
                  from pg_catalog.unnest($1::text[]) with ordinality p(s, o)))
            """,
            list(search_path),
        )
        await fetch(
            connection, "select pg_catalog.set_config('search_path', $1, true)", path
        )
        analyses: dict[str, Analysis | AnalysisFailure] = {}
        for definition in definitions:
            failure = refuse(definition)
            analyses[definition.name] = (
                failure
                if failure is not None
                else await _analysed(connection, definition, path)
            )
        await fetch(
            connection,
            "select pg_catalog.set_config('search_path', 'pg_catalog', true)",
        )
        return await _complete(connection, analyses, path)


async def _analysed(
    connection: Connection, definition: Definition, path: str
) -> Analysis | AnalysisFailure:
    query = definition.query
    if query is None:
        assert definition.table is not None
        try:
            async with connection.transaction():
                query = await table_query(
                    connection, definition.table, definition.columns
                )
        except psycopg.Error as error:
            return failure(error, definition.table)
    return await analyse(connection, query, path)


async def _complete(
    connection: Connection,
    analyses: Mapping[str, Analysis | AnalysisFailure],
    path: str,
) -> Catalog:
    """Everything behind the analysed queries."""
    relations, view_uses = await _relations(connection, analyses)
    total = Uses()
    for own in (
        *(a.uses for a in analyses.values() if isinstance(a, Analysis)),
        *view_uses.values(),
    ):
        total |= own
    unlike = {
        oid: f"the view {relations[oid][1]}.{relations[oid][2]}"
        for oid, own in view_uses.items()
        if not await reads_as_printed(
            connection, _definition(relations[oid]), own, path
        )
    }
    columns = await _columns(connection, sorted(relations))
    tables = await _tables(connection, relations, columns)
    types = {c.type_oid for table in columns.values() for c in table}
    types |= total.types | total.read | total.shown
    for analysis in analyses.values():
        if isinstance(analysis, Analysis):
            types |= {column.type_oid for column in analysis.columns}
    functions = await fetch(
        connection,
        statement("functions"),
        sorted(total.functions),
        sorted(total.operators),
    )
    operators = await fetch(
        connection,
        "select oid::int8, oprcode::oid::int8 from pg_catalog.pg_operator "
        "where oid = any ($1::oid[])",
        sorted(total.operators),
    )
    [(version,)] = await fetch(
        connection, "select pg_catalog.current_setting('server_version_num')::int4"
    )
    return Catalog(
        analyses={
            name: _refused(analysis, view_uses, unlike)
            for name, analysis in analyses.items()
        },
        tables=tables,
        views={
            oid: DatabaseView(
                oid,
                row[1],
                row[2],
                tuple(c.name for c in columns[oid]),
                _definition(row),
            )
            for oid, row in relations.items()
            if row[3] == RelationKind.VIEW
        },
        view_uses=view_uses,
        types=await read_types(connection, types),
        functions={row[0]: _function(row) for row in functions},
        operators=dict(operators),
        function_names=await _names(connection, statement("function_names")),
        operator_names=await _names(connection, statement("operator_names")),
        loose_casts=bool((await fetch(connection, statement("loose_casts")))[0][0]),
        version=version,
    )


async def _relations(
    connection: Connection, analyses: Mapping[str, Analysis | AnalysisFailure]
) -> tuple[dict[int, tuple[Any, ...]], dict[int, Uses]]:
    """The tables and views behind the analysed queries, and what the views use."""
    relations: dict[int, tuple[Any, ...]] = {}
    view_uses: dict[int, Uses] = {}
    wanted: set[int] = set()
    for analysis in analyses.values():
        if isinstance(analysis, Analysis):
            wanted |= analysis.uses.relations
    while wanted:
        rows = await fetch(connection, statement("relations"), sorted(wanted))
        relations.update((row[0], row) for row in rows)
        found: set[int] = set()
        for row in rows:
            if row[3] == RelationKind.VIEW and row[10] is not None:
                view_uses[row[0]] = uses(row[10])
                found |= view_uses[row[0]].relations
        wanted = found - relations.keys()
    return relations, view_uses


def _definition(row: tuple[Any, ...]) -> str:
    """The query of a view of the database, as Postgres prints it."""
    return bare(row[9])


def _refused(
    analysis: Analysis | AnalysisFailure,
    view_uses: Mapping[int, Uses],
    unlike: Mapping[int, str],
) -> Analysis | AnalysisFailure:
    """The analysis, or that a view in it cannot be taken at its word."""
    if isinstance(analysis, AnalysisFailure):
        return analysis
    seen: set[int] = set()
    waiting = set(analysis.uses.relations)
    while waiting:
        seen |= waiting
        waiting = {
            inner
            for oid in waiting & view_uses.keys()
            for inner in view_uses[oid].relations
        } - seen
    for oid in sorted(seen & unlike.keys()):
        return read_otherwise(analysis.source, unlike[oid])
    return analysis


async def read_types(connection: Connection, oids: Iterable[int]) -> dict[int, Type]:
    """These types and all that they are made of, by oid."""
    rows = await fetch(connection, statement("types"), sorted(oids))
    return {
        row[0]: Type(
            oid=row[0],
            schema=row[1],
            name=row[2],
            kind=row[3],
            category=row[4],
            element=row[5],
            is_array=row[6],
            base=row[7],
            base_modifier=row[8],
            members=tuple(zip(row[9] or (), row[10] or (), row[11] or (), strict=True)),
            labels=tuple(row[12]),
            text_by_output=row[13],
            equals=None if row[14] is None else (row[14][0], row[14][1]),
            extension=row[15],
            json_cast=row[16],
        )
        for row in rows
    }


async def _names(
    connection: Connection, query: LiteralString
) -> dict[tuple[str, str], Names]:
    rows = await fetch(connection, query)
    return {(schema, name): Names(*facts) for schema, name, *facts in rows}


def _function(row: tuple[Any, ...]) -> Function:
    oid, schema, name, volatility, kind, returns_set, strict, language, *rest = row
    arguments, extension, body = rest
    return Function(
        oid,
        schema,
        name,
        volatility,
        kind,
        returns_set,
        strict,
        language,
        tuple(arguments),
        extension,
        body,
    )


async def _columns(
    connection: Connection, oids: Sequence[int]
) -> dict[int, list[TableColumn]]:
    found: dict[int, list[TableColumn]] = defaultdict(list)
    for relation, *facts, collation in await fetch(
        connection, statement("columns"), oids
    ):
        facts.append(None if collation is None else tuple(collation))
        found[relation].append(TableColumn(*facts))
    return found


async def _tables(
    connection: Connection,
    relations: Mapping[int, tuple[Any, ...]],
    columns: Mapping[int, list[TableColumn]],
) -> dict[int, Table]:
    oids = sorted(o for o, row in relations.items() if row[3] != RelationKind.VIEW)
    indexes: dict[int, list[Index]] = defaultdict(list)
    for table, oid, name, names, *facts in await fetch(
        connection, statement("indexes"), oids
    ):
        indexes[table].append(Index(oid, name, tuple(names), *facts))
    leaves: dict[int, list[Leaf]] = defaultdict(list)
    for root, *row in await fetch(connection, statement("leaves"), oids):
        leaves[root].append(_leaf(row))
    return {
        oid: Table(
            oid=oid,
            schema=row[1],
            name=row[2],
            kind=RelationKind(row[3]),
            persistence=row[4],
            is_partition=row[5],
            children=row[6],
            readable=row[7],
            filtered=row[8],
            columns=tuple(columns[oid]),
            indexes=tuple(indexes[oid]),
            leaves=tuple(leaves[oid]),
        )
        for oid, row in ((oid, relations[oid]) for oid in oids)
    }


def _leaf(row: Sequence[Any]) -> Leaf:
    oid, schema, name, kind, persistence, identity, carried, key, *rest = row
    generated, filenode, rows, not_null = rest
    return Leaf(
        oid,
        schema,
        name,
        kind,
        persistence,
        Identity(identity),
        None if carried is None else frozenset(carried),
        None if key is None else frozenset(key),
        frozenset(generated),
        filenode,
        rows,
        frozenset(not_null),
    )
