"""A planned view: all that the rest of the bridge needs to know of a query.

The one thing to know: the planner makes this once from the parsed query and the
catalog; afterwards nobody looks at the query's text again. Every statement here takes
and gives keys as text, one `text[]` parameter a key column, and casts to the column's
own type inside, so that indexes are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bridge.shape import Shape


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as Postgres knows it; a partitioned one is its root."""

    oid: int
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """From changed rows of one occurrence of a table to the keys they touch.

    `columns` are those of a row image that the way to the key needs. `sql` takes one
    `text[]` a column, `$1`, `$2`, …, all of the same length (all images of the batch,
    old and new), and gives distinct keys, a text column a part.

    `sql` is None where the key is just these columns of the row, in order.

    `cast_sql` takes the same, and does no more than cast each value to the type that
    its column has now, as `sql` does first.
    """

    table: TableName
    occurrence: str
    """The alias in the query, for explaining."""
    columns: tuple[str, ...]
    sql: str | None
    cast_sql: str = ""


class DescribedColumn(NamedTuple):
    """A column as it was when the view was planned."""

    name: str
    type_oid: int
    type_modifier: int


@dataclass(frozen=True, slots=True)
class TableUse:
    """One published table that a view reads."""

    table: TableName
    columns: frozenset[str]
    """Columns the documents depend on; a change of others alone is no work."""
    identity: frozenset[str]
    """Columns whose old values must be in the log."""
    described: tuple[DescribedColumn, ...] = ()
    """Those of `columns` that the log has, as it has to describe them."""
    by_leaf: bool = False
    """Partitioned: each leaf has an identity of its own, all of them have `identity`,
    and the log tells of neither: it describes the root's, which writes nothing."""


@dataclass(frozen=True, slots=True)
class DependsOn:
    """The objects of the database that a view stands on, by oid.

    Those of Postgres itself are left out. `bridge.catalog.read_traces` tells whether
    any of them has changed.
    """

    relations: frozenset[int] = frozenset()
    """Tables, and views of the database."""
    functions: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class DirectColumn:
    """A column whose value is taken from the row as it is."""

    source: str
    """Name in the table."""
    name: str
    """Name in the document."""
    type_oid: int
    type_modifier: int


@dataclass(frozen=True, slots=True)
class Direct:
    """The view is the rows of one table, column for column, without a condition."""

    table: TableName
    columns: tuple[DirectColumn, ...]
    key: tuple[str, ...]
    """The key's columns by their names in the table, in the order of the key."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """One view, ready to be derived.

    `documents_sql` takes one `text[]` a key column, all of the same length, and gives
    for each key found: the key's parts as text columns, then the document as text. A
    key that is not given back has no document; one given twice is not unique.

    `cast_sql` takes the same, and does no more than cast each part to its type.

    `scan_sql` gives the same columns for a range of keys in key order: it takes the
    lower bound's parts (exclusive) and the upper bound's (inclusive), each as
    `text[]` or null for unbounded.

    `boundary_sql` takes a lower bound (`text[]` or null) and a count *n*, and gives
    the parts of the *n*-th key above it as one `text[]`, no row when fewer are left.

    `null_keys_sql` gives the keys that no boundary gives, since a part of them is null,
    each as one `text[]`; empty where there can be none.

    `estimate_sql` gives the planner's estimate of how many documents there are, and
    the bytes that the rows they stand for take.

    `matching_sql` has a place for a condition; see `matching`.
    """

    name: str
    query: str
    """The canonical query, fully qualified, views and CTEs as they are."""
    shape: Shape
    tables: tuple[TableUse, ...]
    key_queries: tuple[KeyQuery, ...]
    null_key: bool
    """Every change of any table also touches the key whose columns are all null."""
    direct: Direct | None
    documents_sql: str
    cast_sql: str
    scan_sql: str
    boundary_sql: str
    estimate_sql: str
    matching_sql: str
    fingerprint: str
    """Digest of what documents depend on: query, columns, types, bodies of views and
    functions. Another fingerprint means: derive everything again."""
    depends_on: DependsOn = DependsOn()
    null_keys_sql: str = ""

    def matching(self, condition: str) -> str:
        """A statement for the keys of the view's rows for which this condition on its
        output columns holds."""
        # Its place is the last: a name or a text of the query may look like it.
        before, _, after = self.matching_sql.rpartition("{condition}")
        return f"{before}{condition}{after}"

    @property
    def finds_keys(self) -> bool:
        """Whether a change may lead to keys that are not in it."""
        return any(query.sql is not None for query in self.key_queries)
