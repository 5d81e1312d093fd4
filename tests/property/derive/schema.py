"""A database's tables as values: the fixed one, and how any of them is created.

The one thing to know: nothing here is random; `drawing` makes schemas by chance, and
`traffic` changes their rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.property.derive import kinds
from tests.property.derive.kinds import Kind

_RESERVED = ("select", "order", "user", "table", "group", "key")


def quoted(name: str) -> str:
    """The name as it stands in a query."""
    plain = re.fullmatch("[a-z_][a-z0-9_]*", name) and name not in _RESERVED
    return name if plain else '"{}"'.format(name.replace('"', '""'))


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    not_null: bool = False
    generated: str = ""
    """Expression and `stored` or `virtual`, as they are written."""

    @property
    def definition(self) -> str:
        generated = f" generated always as {self.generated}" if self.generated else ""
        null = " not null" if self.not_null else ""
        return f"{quoted(self.name)} {self.kind.name}{generated}{null}"


@dataclass(frozen=True)
class Reference:
    """A foreign key to the first key of another table (or the same)."""

    columns: tuple[str, ...]
    table: str
    """As it stands in a query."""
    keys: tuple[str, ...]
    actions: str


@dataclass(frozen=True)
class Table:
    """A table; a partitioned one has `partitions` by bounds."""

    name: str
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]
    """Sets of unique columns that are not null."""
    primary: bool = True
    """The first of them is the primary key."""
    schema: str = "public"
    references: tuple[Reference, ...] = ()
    partitioned: str = ""
    """`range ("A")`; and the bounds of each partition."""
    partitions: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = quoted(self.name)
        return name if self.schema == "public" else f"{quoted(self.schema)}.{name}"

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def written(self) -> tuple[Column, ...]:
        """The columns that statements may write."""
        return tuple(c for c in self.columns if not c.generated)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns as they stand in a query."""
        return {quoted(c.name): c.kind for c in self.columns}

    def leaves(self) -> Iterator[str]:
        """The tables that have its rows."""
        for number, _ in enumerate(self.partitions):
            name = quoted(f"{self.name}_{number}")
            yield name if self.schema == "public" else f"{quoted(self.schema)}.{name}"
        if not self.partitions:
            yield str(self)

    def statements(self) -> Iterator[str]:
        """What creates it, without its foreign keys."""
        if self.schema != "public":
            yield f"create schema if not exists {quoted(self.schema)}"
        parts = [c.definition for c in self.columns]
        for number, key in enumerate(self.keys):
            word = "primary key" if self.primary and not number else "unique"
            parts.append(f"{word} ({', '.join(map(quoted, key))})")
        by = f" partition by {self.partitioned}" if self.partitioned else ""
        yield f"create table {self} ({', '.join(parts)}){by}"
        if self.partitioned:
            for leaf, bounds in zip(self.leaves(), self.partitions, strict=True):
                yield f"create table {leaf} partition of {self} {bounds}"
        if not self.primary:
            for leaf in self.leaves():
                yield f"alter table {leaf} replica identity full"

    def constraints(self) -> Iterator[str]:
        """What adds its foreign keys."""
        for reference in self.references:
            own, keys = (
                ", ".join(map(quoted, names))
                for names in (reference.columns, reference.keys)
            )
            yield (
                f"alter table {self} add foreign key ({own}) references "
                f"{reference.table} ({keys}){reference.actions}"
            )


@dataclass(frozen=True)
class View:
    """A view of the database."""

    name: str
    kinds: dict[str, Kind] = field(hash=False)
    body: str

    def __str__(self) -> str:
        return quoted(self.name)

    @property
    def statement(self) -> str:
        return f"create view {self} as {self.body}"


@dataclass(frozen=True)
class Schema:
    """Tables, and views over them."""

    tables: tuple[Table, ...]
    views: tuple[View, ...] = ()
    extensions: str = "public"
    """The schema that extensions are in; queries do not look into another one."""

    def statements(self, version: int) -> Iterator[str]:
        """What creates the types and tables. The views come after them, and then
        `PATH`: extensions are found where views are made, not where they are read."""
        yield "set search_path = public, ext"
        yield f"create schema if not exists {self.extensions}"
        for name in kinds.EXTENSIONS:
            yield f"create extension {name} schema {self.extensions}"
        yield kinds.TYPES
        for table in self.tables:
            for statement in table.statements():
                virtual = version >= 180000
                yield (
                    statement if virtual else statement.replace(") virtual", ") stored")
                )
        for table in self.tables:
            yield from table.constraints()


PATH = "set search_path = pg_catalog, public"


def _simple(
    name: str, key: Kind, *kinds_: Kind, more: tuple[Column, ...] = ()
) -> Table:
    columns = (Column("id", key), *map(Column, "abc", kinds_))
    return Table(name, (*columns, *more), (("id",),))


_D = Column("d", kinds.INT, generated="(coalesce(a, 0) + 1) stored")
FIXED = Schema(
    (
        _simple("r", kinds.INT, kinds.INT, kinds.INT, kinds.INT),
        _simple("u", kinds.BIGINT, kinds.INT, kinds.BIGINT, kinds.WHOLE),
        _simple("v", kinds.INT, kinds.SMALLINT, kinds.NUMERIC, kinds.INT),
        _simple("w", kinds.NUMERIC, kinds.INT, kinds.INT, kinds.FLOAT, more=(_D,)),
        Table(
            "part",
            tuple(Column(name, kinds.INT) for name in ("id", "a", "b", "c")),
            (("id",),),
            partitioned="range (id)",
            partitions=(
                "for values from (minvalue) to (2)",
                "for values from (2) to (maxvalue)",
            ),
        ),
        _simple("x", kinds.CITEXT, kinds.CITEXT, kinds.PLAIN, kinds.CITEXT),
        _simple("y", kinds.PLAIN, kinds.CITEXT, kinds.CITEXT, kinds.PLAIN),
    ),
    (
        View(
            "vu",
            {"id": kinds.BIGINT, "a": kinds.INT},
            "select u.id, coalesce(v.a, u.a) as a from u left join v on v.id = u.b",
        ),
        View(
            "vv",
            {"id": kinds.BIGINT, "n": kinds.INT},
            "select vu.id, coalesce(w.d, 0) + vu.a as n "
            "from vu left join w on w.a = vu.a",
        ),
        View(
            "vg",
            {"a": kinds.INT, "n": kinds.BIGINT},
            "select a, count(*) as n from w group by a",
        ),
    ),
)
"""Small tables in which any column may link to any other of its family."""
