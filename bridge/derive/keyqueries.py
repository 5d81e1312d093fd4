"""The statements that find keys: from changed rows along the ways to the key.

A key query is a flat inner join: the changed rows in the place of their table, then
one table a hop, up to the one that has the key. Nothing else of the view is in it.

The one thing to know: every changed column is cast to its own type, so that the
indexes of the tables along the way serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pglast import ast
from psycopg.sql import SQL, Composable, Identifier

from bridge.catalog import Catalog, Table, TableColumn
from bridge.derive.key import Key
from bridge.derive.levels import Edge, Occurrence
from bridge.derive.levels.edges import spelled
from bridge.derive.levels.resolve import printed, renamed
from bridge.derive.statements import of_text, one_text, text_of, unnested
from bridge.derive.view import KeyQuery, TableName

CHANGED = "changed"
"""What the changed rows are called in every key query."""
_INTEGERS = frozenset({"int2", "int4", "int8"})


@dataclass(frozen=True, slots=True)
class Way:
    """The way of one occurrence to the key."""

    occurrence: Occurrence
    edges: tuple[Edge, ...]
    query: KeyQuery


def table_name(table: Table) -> TableName:
    """The table as a plan names it."""
    return TableName(table.oid, table.schema, table.name)


def way(
    occurrence: Occurrence, edges: tuple[Edge, ...], key: Key, catalog: Catalog
) -> Way:
    """The key query of one occurrence."""
    if not edges:
        return Way(occurrence, (), _own(occurrence, key, catalog))
    last = edges[-1]
    shortcut = _shortcut(last, key, catalog)
    joined = edges if shortcut is None else edges[:-1]
    columns = _columns(occurrence, edges[0])
    if shortcut is not None and not joined:
        columns = tuple(dict.fromkeys(shortcut))
        given = not any(_nullable(occurrence.table, c) for c in shortcut)
        if given and columns == shortcut:
            return Way(occurrence, edges, _as_it_is(occurrence, columns))
    names = names_of(occurrence, joined)
    where: Composable = SQL("")
    if shortcut is None:
        end, parts = key.occurrence, list(zip(key.values, key.columns, strict=True))
    else:
        end = last.source
        parts = [(_column(end, column), column) for column in shortcut]
        known = SQL(" and ").join(
            SQL("{} is not null").format(sql_of(value, names)) for value, _ in parts
        )
        where = SQL("\n where {}").format(known)
    statement = SQL("select distinct {}\n  from {}{}{}").format(
        SQL(", ").join(_text(v, end, c, catalog, names) for v, c in parts),
        _changed(occurrence, columns, catalog),
        SQL("").join(_join(edge, names) for edge in joined),
        where,
    )
    query = _query(occurrence, columns, catalog, statement)
    return Way(occurrence, edges, query)


def names_of(
    occurrence: Occurrence, edges: Sequence[Edge], first: str = CHANGED
) -> dict[str, str]:
    """What the tables of a way are called in its query: the same for the same way."""
    names = {occurrence.alias: first}
    for edge in edges:
        name, number = edge.target.table.name, 1
        while name in names.values():
            number += 1
            name = f"{edge.target.table.name}_{number}"
        names[edge.target.alias] = name
    return names


def _own(occurrence: Occurrence, key: Key, catalog: Catalog) -> KeyQuery:
    """The key's own rows: its columns as they are, or texts made of them."""
    columns = tuple(dict.fromkeys(key.columns))
    plain = all(isinstance(value, ast.ColumnRef) for value in key.values)
    if plain and columns == key.columns:
        return _as_it_is(occurrence, columns)
    names = names_of(occurrence, ())
    parts = [
        _text(value, occurrence, column, catalog, names)
        for value, column in zip(key.values, key.columns, strict=True)
    ]
    statement = SQL("select distinct {}\n  from {}").format(
        SQL(", ").join(parts), _changed(occurrence, columns, catalog)
    )
    return _query(occurrence, columns, catalog, statement)


def _as_it_is(occurrence: Occurrence, columns: tuple[str, ...]) -> KeyQuery:
    """The columns are the key."""
    return KeyQuery(table_name(occurrence.table), occurrence.alias, columns, None)


def _query(
    occurrence: Occurrence,
    columns: tuple[str, ...],
    catalog: Catalog,
    statement: Composable,
) -> KeyQuery:
    changed = _changed(occurrence, columns, catalog)
    return replace(
        _as_it_is(occurrence, columns),
        sql=statement.as_string(None),
        cast_sql=SQL("select * from {}").format(changed).as_string(None),
    )


def _columns(occurrence: Occurrence, edge: Edge) -> tuple[str, ...]:
    """The columns of the changed table that its edge needs."""
    return tuple(
        dict.fromkeys(
            ref.column
            for link in edge.links
            for ref in link.refs
            if ref.occurrence is occurrence
        )
    )


def _changed(
    occurrence: Occurrence, columns: Sequence[str], catalog: Catalog
) -> Composable:
    """The changed rows, as a table of the occurrence's name."""
    typed = SQL(", ").join(
        SQL("{} as {}").format(
            _collated(
                of_text(
                    Identifier("x", f"c{i + 1}"), catalog.base_type(column.type_oid)
                ),
                column,
            ),
            Identifier(column.name),
        )
        for i, column in enumerate(map(occurrence.table.column, columns))
    )
    return SQL("(select {} from {}) as {}").format(
        typed, unnested(len(columns), "x"), Identifier(CHANGED)
    )


def _collated(value: Composable, column: TableColumn) -> Composable:
    """The value under the collation of its column, which its text does not tell.

    Of two columns that are compared one alone may say which texts are equal.
    """
    if column.collation is None:
        return value
    return SQL("{} collate {}").format(value, Identifier(*column.collation))


def _join(edge: Edge, names: Mapping[str, str]) -> Composable:
    table = edge.target.table
    conditions = SQL(" and ").join(
        SQL("({})").format(sql_of(spelled(link.value), names)) for link in edge.links
    )
    return SQL("\n  join {}{} as {} on {}").format(
        SQL("only " if edge.target.only else ""),
        Identifier(table.schema, table.name),
        Identifier(names[edge.target.alias]),
        conditions,
    )


def sql_of(value: ast.Node, names: Mapping[str, str]) -> Composable:
    """An expression over the tables of a way."""
    return SQL(printed(renamed(value, names)))


def _text(
    value: ast.Node,
    occurrence: Occurrence,
    column: str,
    catalog: Catalog,
    names: Mapping[str, str],
) -> Composable:
    if not isinstance(value, ast.ColumnRef):
        return sql_of(value, names)  # it is a text already
    of = catalog.base_type(occurrence.table.column(column).type_oid)
    return text_of(sql_of(value, names), of)


def _column(occurrence: Occurrence, column: str) -> ast.ColumnRef:
    return ast.ColumnRef(
        fields=(ast.String(sval=occurrence.alias), ast.String(sval=column))
    )


def _nullable(table: Table, column: str) -> bool:
    return not table.column(column).not_null


def _shortcut(last: Edge, key: Key, catalog: Catalog) -> tuple[str, ...] | None:
    """The columns before the last hop that are the key themselves, if they are.

    Then the last table need not be looked into. Of rows that it has not there are keys
    too many, which is safe.
    """
    found = []
    for value, column in zip(key.values, key.columns, strict=True):
        if not isinstance(value, ast.ColumnRef):
            return None
        match = [source for source, target in last.equals if target == column]
        if not match or not _same_text(
            (last.source.table, match[0]), (key.occurrence.table, column), catalog
        ):
            return None
        found.append(match[0])
    return tuple(found)


def _same_text(
    one: tuple[Table, str], other: tuple[Table, str], catalog: Catalog
) -> bool:
    """Equal values of the two columns have one text."""
    columns = [table.column(name) for table, name in (one, other)]
    types = [catalog.base_type(c.type_oid) for c in columns]
    if all(t.schema == "pg_catalog" and t.name in _INTEGERS for t in types):
        return True
    return types[0] == types[1] and all(
        one_text(t, deterministic=c.deterministic, modifier=c.modifier)
        for t, c in zip(types, columns, strict=True)
    )
