"""Which rows a document is made of: the ways to the key, walked from its end.

    for source in lineage(planned, catalog): run source.sql with the key's parts

The one thing to know: a row belongs to a document if its change would have it derived
again, and no condition of the query on one table alone leaves it out. So a row that
only a condition between several tables leaves out is still among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pglast import ast
from psycopg.sql import SQL, Composable, Identifier

from bridge.catalog import Catalog
from bridge.derive.key import Key
from bridge.derive.keyqueries import Way, names_of, sql_of
from bridge.derive.levels import ALL, Occurrence, Query
from bridge.derive.levels.edges import filters, spelled
from bridge.derive.levels.resolve import expand, occurrences
from bridge.derive.levels.safety import safe
from bridge.derive.plan import Planned
from bridge.derive.statements import of_text, operator, text_of


@dataclass(frozen=True, slots=True)
class RowSource:
    """One reference to a table, and the statement for its rows of one document.

    `sql` takes the key's parts, `$1`, `$2`, …, as texts, none of them null, and a
    limit after them. It gives `columns` of each row as texts, in their order.
    """

    table: str
    occurrence: str
    columns: tuple[str, ...]
    """The table's key."""
    sql: str


def lineage(planned: Planned, catalog: Catalog) -> list[RowSource]:
    """The statements for every table of a view, in the order of the query."""
    return [_source(way, planned.key, planned.query, catalog) for way in planned.ways]


def _source(way: Way, key: Key, query: Query, catalog: Catalog) -> RowSource:
    occurrence = way.occurrence
    names = names_of(occurrence, way.edges, occurrence.table.name)
    [columns, *_] = occurrence.table.keys
    alias = names[occurrence.alias]
    own = [Identifier(alias, column) for column in columns]
    types = [catalog.base_type(occurrence.table.column(c).type_oid) for c in columns]
    listed = [text_of(value, of) for value, of in zip(own, types, strict=True)]
    along = [occurrence, *(edge.target for edge in way.edges)]
    links = [sql_of(link.value, names) for edge in way.edges for link in edge.links]
    links += [sql_of(each, names) for each in _own(along, query, catalog)]
    links += _matches(key, names, catalog)
    statement = SQL(
        "select {columns}\n  from {tables}\n where {where}\n"
        " group by {own}\n order by {own}\n limit {limit}::pg_catalog.int8"
    ).format(
        columns=SQL(", ").join(listed),
        tables=SQL(",\n       ").join(_table(each, names) for each in along),
        where=SQL("\n   and ").join(SQL("({})").format(link) for link in links),
        own=SQL(", ").join(own),
        limit=SQL(f"${len(key.values) + 1}"),
    )
    return RowSource(
        str(occurrence.table), occurrence.alias, columns, statement.as_string(None)
    )


def _table(occurrence: Occurrence, names: Mapping[str, str]) -> Composable:
    table = occurrence.table
    return SQL("{}{} as {}").format(
        SQL("only " if occurrence.only else ""),
        Identifier(table.schema, table.name),
        Identifier(names[occurrence.alias]),
    )


def _own(
    along: Sequence[Occurrence], query: Query, catalog: Catalog
) -> Iterator[ast.Node]:
    """The conditions on one table of the way alone, without which it gives nothing."""
    for condition in query.conditions:
        for reading in expand(condition.value, condition.level):
            match occurrences(reading.refs):
                case [only] if only in along and safe(reading, catalog):
                    if filters(condition, reading, only, ALL):
                        yield spelled(reading.value)


def _matches(
    key: Key, names: Mapping[str, str], catalog: Catalog
) -> Iterator[Composable]:
    """The row at the end of the way has the key that is asked for."""
    for i, (value, column) in enumerate(zip(key.values, key.columns, strict=True)):
        given = SQL(f"${i + 1}::pg_catalog.text")
        if not isinstance(value, ast.ColumnRef):
            yield SQL("{} = {}").format(sql_of(value, names), given)
            continue
        of = catalog.base_type(key.occurrence.table.column(column).type_oid)
        # Found by an index, and then the same text: a citext 'A' is not the key 'a'.
        found = sql_of(value, names)
        yield SQL("{} {} {}").format(found, operator("=", of), of_text(given, of))
        yield SQL('{} collate pg_catalog."C" = {}').format(text_of(found, of), given)
