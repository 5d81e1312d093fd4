"""The publication: what it holds, and the statements that make it hold what it must.

The one thing to know: a table added while a writer is open on it is published for
what that writer writes from then on; what it wrote before is in no stream. So after
every change, whoever made it, a barrier is taken: nothing is read until all
transactions older than it have ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Composed, Identifier

from bridge.capture.connection import check_name
from bridge.capture.queries import values, wrapped

Connection: TypeAlias = AsyncConnection[Any]

PUBLICATION_SQL: Final = Path(__file__).with_name("publication.sql").read_text()
_OPTIONS: Final = (
    "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
)


class QualifiedName(NamedTuple):
    """Schema and name of a table; a partitioned one's root."""

    schema: str
    name: str


class PublishedTable(NamedTuple):
    """One table that the publication names."""

    table: QualifiedName
    oid: int
    membership_oid: int
    """Another one after the table was dropped from the publication and added again."""
    filtered: bool
    """Only rows that a condition selects are published."""
    columns: str | None
    """The attribute numbers of its column list, None: all columns."""


@dataclass(frozen=True, slots=True)
class PublicationState:
    """A publication as the catalog has it."""

    name: str
    oid: int
    all_tables: bool
    whole_schemas: bool
    all_kinds: bool
    """Inserts, updates, deletes and truncates."""
    via_root: bool
    generated: bool
    """Stored generated columns are published (from Postgres 18 on)."""
    tables: tuple[PublishedTable, ...]

    @property
    def fingerprint(self) -> str:
        """Digest of all this. Another one means that changes may have been missed."""
        return sha256(repr(self).encode()).hexdigest()


class Statement(NamedTuple):
    """One statement to run, and why."""

    sql: Composed
    why: str

    def __str__(self) -> str:
        return self.sql.as_string(None)


async def describe_publication(
    connection: Connection, name: str
) -> PublicationState | None:
    """The publication of that name, or None."""
    with wrapped("cannot look at the publication"):
        cursor = await connection.execute(PUBLICATION_SQL.encode(), [name])
        if (row := await cursor.fetchone()) is None:
            return None
    oid, all_tables, whole_schemas, all_kinds, via_root, generated, tables = values(row)
    return PublicationState(
        name=name,
        oid=oid,
        all_tables=all_tables,
        whole_schemas=whole_schemas,
        all_kinds=all_kinds,
        via_root=via_root,
        generated=generated,
        tables=tuple(
            PublishedTable(QualifiedName(schema, table), *rest)
            for schema, table, *rest in tables
        ),
    )


def statements(
    name: str,
    wanted: Collection[QualifiedName],
    found: PublicationState | None,
    *,
    generated: bool = False,
) -> list[Statement]:
    """What makes the publication hold exactly `wanted`; nothing: it does already.

    `generated` publishes stored generated columns, which needs Postgres 18.
    """
    check_name(name)
    if found is None:
        return [_create(name, wanted, generated=generated, why="it does not exist")]
    if found.all_tables or found.whole_schemas:
        # Postgres changes neither into a list of tables.
        dropped = Statement(
            SQL("drop publication {}").format(Identifier(name)),
            "it publishes more than the tables of the views",
        )
        again = "it holds exactly the tables of the views"
        return [dropped, _create(name, wanted, generated=generated, why=again)]
    return list(_alterations(name, wanted, found, generated=generated))


def _create(
    name: str, wanted: Collection[QualifiedName], *, generated: bool, why: str
) -> Statement:
    clause = SQL(" for table ") + _list(wanted) if wanted else SQL("")
    options = SQL(_OPTIONS)
    if generated:
        options = SQL(_OPTIONS + ", publish_generated_columns = stored")
    return Statement(
        SQL("create publication {}{} with ({})").format(
            Identifier(name), clause, options
        ),
        why,
    )


def _alterations(
    name: str,
    wanted: Collection[QualifiedName],
    found: PublicationState,
    *,
    generated: bool,
) -> Iterator[Statement]:
    alter = SQL("alter publication {} ").format(Identifier(name))
    if not found.via_root or not found.all_kinds:
        yield Statement(
            alter + SQL(f"set ({_OPTIONS})"),
            "every kind of change, and partitioned tables as their root",
        )
    if generated and not found.generated:
        yield Statement(
            alter + SQL("set (publish_generated_columns = stored)"),
            "a view reads a stored generated column",
        )
    have = {each.table for each in found.tables}
    partial = {
        each.table for each in found.tables if each.filtered or each.columns is not None
    }
    superfluous = (have - set(wanted)) | partial
    missing = set(wanted) - (have - partial)
    if superfluous:
        yield Statement(
            alter + SQL("drop table ") + _list(superfluous),
            "no view reads them"
            if not partial
            else "no view reads them, or only a part of them is published",
        )
    if missing:
        yield Statement(alter + SQL("add table ") + _list(missing), "views read them")


def _list(tables: Collection[QualifiedName]) -> Composable:
    """Just these tables, in a fixed order.

    `only` keeps out tables that inherit from them, which are published under their
    own names; the partitions of a partitioned table are in it all the same.
    """
    return SQL("only ") + SQL(", only ").join(
        Identifier(*table) for table in sorted(tables)
    )


async def change_publication(
    connection: Connection, changes: Sequence[Statement]
) -> None:
    """Carry them out in one transaction. The connection is in autocommit mode."""
    if not changes:
        return
    with wrapped("cannot change the publication"):
        async with connection.transaction():
            for change in changes:
                await connection.execute(change.sql)
