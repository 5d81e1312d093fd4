"""Which tables a view may stand on, and what it uses of each.

The one thing to know: a table that Postgres cannot publish, or whose own updates would
fail once it is published, is refused before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pglast import ast
from psycopg.sql import Identifier

from bridge.catalog import Catalog, RelationKind, Table, Uses
from bridge.changes import Identity
from bridge.derive.levels import Level, Occurrence, Query
from bridge.derive.levels.model import Derived
from bridge.derive.levels.resolve import lookup
from bridge.derive.view import DescribedColumn
from bridge.errors import QueryRefusal

_OF_VERSIONS = ("ctid", "xmin", "xmax", "cmin", "cmax")
_DENIED = "the role may not"
"""How a reason begins that is no fault of the query."""
_SYSTEM = ("pg_catalog", "information_schema", "pg_toast")


def check_table(table: Table, *, only: bool = False) -> None:
    """Refuse a table whose changes cannot be followed."""
    message, hint = _reason(table, only=only)
    if message:
        raise QueryRefusal(message, hint=hint, denied=_DENIED in message)


def _reason(table: Table, *, only: bool) -> tuple[str, str]:
    keyless = [
        leaf
        for leaf in table.leaves
        if leaf.key is None and leaf.identity in (Identity.DEFAULT, Identity.NOTHING)
    ]
    if table.schema in _SYSTEM:
        return (
            f"{table} is a table of Postgres itself and never published",
            "keep what it tells in a table of your own",
        )
    if table.kind is RelationKind.MATERIALIZED:
        return (
            f"{table} is a materialized view: Postgres does not publish its changes",
            "write its query in its place",
        )
    if table.kind is RelationKind.FOREIGN or any(
        leaf.kind == RelationKind.FOREIGN for leaf in table.leaves
    ):
        return (
            f"{table} is a foreign table: its changes are in another server's log",
            "read the table where it lives, with a bridge of its own",
        )
    if table.kind not in (RelationKind.TABLE, RelationKind.PARTITIONED):
        return f"{table} is not a table", "a view reads tables and views"
    persistence = {leaf.persistence for leaf in table.leaves} | {table.persistence}
    if "t" in persistence:
        return f"{table} is temporary", "make it an ordinary table"
    if "u" in persistence:
        return (
            f"{table} is unlogged: its changes are in no log",
            f"alter table {table} set logged",
        )
    if table.is_partition:
        return (
            f"{table} is a partition: its changes are published under its root's name",
            "read the partitioned table, with a condition on the partition's columns",
        )
    if table.children and not only:
        return (
            f"other tables inherit from {table}, and are published under their names",
            f"write `from only {table}`, or union the tables in a sub-select",
        )
    if not table.readable:
        return (
            f"{_DENIED} read {table}",
            f"grant select on {table} to the role of source.dsn",
        )
    if table.filtered:
        return (
            f"row-level security hides rows of {table} from the role",
            "give the role of source.dsn the attribute bypassrls",
        )
    if keyless:
        leaf = f"{keyless[0].schema}.{keyless[0].name}"
        message = (
            f"{leaf} has no primary key, or a deferrable one: once published, Postgres "
            "would refuse the application's updates and deletes"
        )
        fit = [i.name for i in table.indexes if i.identifies(table)]
        own = bool(fit) and keyless[0].oid == table.oid
        index = Identifier(fit[0]).as_string(None) if own else "…"
        hint = (
            "add a primary key, or name a unique index over columns that are not "
            f"null: alter table {leaf} replica identity using index {index}"
        )
        return message, hint
    return "", ""


def check_seen(query: Query, uses: Uses, catalog: Catalog) -> None:
    """Refuse a query that reads a table in a place that was not looked at."""
    seen = {occurrence.table.oid for occurrence in query.occurrences}
    for oid in sorted(uses.relations & catalog.tables.keys()):
        if oid not in seen and oid not in query.idle:
            raise QueryRefusal(
                f"{catalog.tables[oid]} is read in a place that is not followed",
                hint="write it as a join or a sub-select",
            )


def mark_used(query: Query) -> None:
    """Note on each occurrence the columns that the query mentions anywhere."""
    for level in query.levels:
        _mark(level.statement, level)
        for condition in level.conditions:
            _mark(condition.value, level)


def _mark(value: object, level: Level) -> None:
    """Names in the level's own parts; those of inner levels are marked in theirs.

    A name of an outer table inside a sub-select is found in the sub-select's turn,
    since its scope reaches out.
    """
    if isinstance(value, tuple | list):
        for item in value:
            _mark(item, level)
    elif isinstance(value, ast.ColumnRef):
        _mark_name(value, level)
    elif isinstance(value, ast.SelectStmt) and value is not level.statement:
        return
    elif isinstance(value, ast.Node):
        for name in value:
            _mark(getattr(value, name), level)


def _mark_name(ref: ast.ColumnRef, level: Level) -> None:
    found = lookup(ref, level)
    last = (ref.fields or (None,))[-1]
    name = str(last.sval) if isinstance(last, ast.String) else None
    own = found is not None and found[1] in (found[0].columns or ())
    if name in _OF_VERSIONS and not own:
        raise QueryRefusal(
            f"{name} tells the versions of a row apart, and changes when nothing else "
            "does",
            hint="let the application count in a column of its own",
        )
    if found is None:  # of something here, and rather too much than too little
        for around in level.scope():
            for other in around.items.values():
                if isinstance(other, Occurrence):
                    other.used |= set(other.table.names)
        return
    item, column = found
    if isinstance(item, Occurrence):
        source = None if column is None else item.source(column)
        item.used |= {source} if source is not None else set(item.table.names)
    elif isinstance(item, Derived):
        return  # what it is made of is marked in its own level


def used_columns(
    occurrences: Iterable[Occurrence], keys: Mapping[int, frozenset[str]]
) -> dict[int, frozenset[str]]:
    """By table, the columns that documents depend on, with those keys are found by."""
    found: dict[int, frozenset[str]] = {}
    for occurrence in occurrences:
        oid = occurrence.table.oid
        used = frozenset(occurrence.used) | keys.get(oid, frozenset())
        found[oid] = found.get(oid, frozenset()) | used
    return found


def described(table: Table, used: frozenset[str]) -> tuple[DescribedColumn, ...]:
    """These columns as the log describes them, but for generated ones, which it may
    leave out."""
    return tuple(
        DescribedColumn(column.name, column.type_oid, column.modifier)
        for column in table.columns
        if column.name in used and not column.generated
    )
