"""What Postgres says of tables, types and functions, as values.

The one thing to know: this is everything that planning looks at. Once it is read,
planning asks no server, so that the same catalog always gives the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.changes import Identity

FIRST_USER_OID = 16384
"""Objects from here on are not Postgres' own."""


class RelationKind(StrEnum):
    """`pg_class.relkind` of what a query may read from."""

    TABLE = "r"
    PARTITIONED = "p"
    VIEW = "v"
    MATERIALIZED = "m"
    FOREIGN = "f"
    SEQUENCE = "S"
    COMPOSITE = "c"
    TOAST = "t"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column that has not been dropped."""

    name: str
    number: int
    type_oid: int
    modifier: int
    not_null: bool
    generated: str
    """`pg_attribute.attgenerated`: empty, `s` (stored) or `v` (virtual)."""
    deterministic: bool
    """Whether equal values of its collation are the same text."""
    expression: str | None = None
    """Of a generated column."""
    collation: tuple[str, str] | None = None
    """Schema and name of its collation where that is not its type's own."""


@dataclass(frozen=True, slots=True)
class Index:
    """One index; `columns` are its key columns, None for an expression."""

    oid: int
    name: str
    columns: tuple[str | None, ...]
    unique: bool
    primary: bool
    immediate: bool
    valid: bool
    partial: bool
    method: str

    def identifies(self, table: Table) -> bool:
        """Whether it may be a table's replica identity, and so its key."""
        return (
            self.unique
            and self.immediate
            and self.valid
            and not self.partial
            and all(c is not None and table.column(c).not_null for c in self.columns)
        )


@dataclass(frozen=True, slots=True)
class Leaf:
    """A table that has rows of its own: the table itself, or one partition."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    identity: Identity
    identity_columns: frozenset[str] | None
    """Columns whose old values its changes carry; None: all."""
    key: frozenset[str] | None
    """Columns of its primary key, None without one."""
    generated: frozenset[str]
    filenode: int
    rows: float
    """`reltuples`, -1 when it was never counted."""
    not_null: frozenset[str] = frozenset()
    """Columns that an identity index may have."""


@dataclass(frozen=True, slots=True)
class Table:
    """A relation with rows. A partitioned one is its root, with all its leaves."""

    oid: int
    schema: str
    name: str
    kind: RelationKind
    persistence: str
    is_partition: bool
    children: bool
    """Whether other tables inherit from it (partitions are not meant)."""
    readable: bool
    """Whether the reading role has SELECT on every column."""
    filtered: bool
    """Whether row-level security shows this role only some of the rows."""
    columns: tuple[TableColumn, ...]
    indexes: tuple[Index, ...]
    leaves: tuple[Leaf, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> TableColumn:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns' names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def primary_key(self) -> tuple[str, ...] | None:
        """The columns of its primary key, if it has one that is enforced at once."""
        for index in self.indexes:
            if index.primary and index.identifies(self):
                return tuple(c for c in index.columns if c is not None)
        return None

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns that tells its rows apart, the primary key first."""
        ordered = sorted(self.indexes, key=lambda i: (not i.primary, i.name))
        return tuple(
            tuple(c for c in index.columns if c is not None)
            for index in ordered
            if index.identifies(self)
        )


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """A view of the database; `definition` is its query, everything qualified."""

    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]
    definition: str


@dataclass(frozen=True, slots=True)
class Type:
    """One row of pg_type, as far as documents and keys depend on it."""

    oid: int
    schema: str
    name: str
    kind: str
    """`pg_type.typtype`: base, composite, domain, enum, multirange, pseudo, range."""
    category: str
    element: int
    """For arrays the type of their elements, for ranges their subtype; else 0."""
    is_array: bool
    base: int
    """For domains the type below; else 0."""
    base_modifier: int
    members: tuple[tuple[str, int, int], ...]
    """Of a composite: name, type and modifier of each attribute."""
    labels: tuple[str, ...]
    """Of an enum."""
    text_by_output: bool
    """Whether `::text` is the type's own output, as the log prints it."""
    equals: tuple[str, str] | None
    """Schema and name of the operator that its btree or hash ordering calls equal."""
    extension: str | None
    json_cast: str | None = None
    """The function by which Postgres makes its JSON, as `schema.name`; empty for one
    of an extension."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function that a query calls."""

    oid: int
    schema: str
    name: str
    volatility: str
    """`i`, `s` or `v`."""
    kind: str
    """`f`, `a` (aggregate), `w` (window) or `p`."""
    returns_set: bool
    strict: bool
    language: str
    argument_types: tuple[int, ...]
    extension: str | None
    body: str
    """A digest of what the function is."""


@dataclass(frozen=True, slots=True)
class Names:
    """What is true of all functions, or operators, of one qualified name."""

    strict: bool
    """None of them gives anything but null for a null."""
    immutable: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One call of an aggregate in a query."""

    function: int
    ordered: bool
    distinct: bool


@dataclass(frozen=True, slots=True)
class Uses:
    """What one parsed query refers to, by oid."""

    relations: frozenset[int] = frozenset()
    functions: frozenset[int] = frozenset()
    operators: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()
    aggregates: tuple[Aggregate, ...] = ()
    windows: frozenset[int] = frozenset()
    value_functions: frozenset[str] = frozenset()
    """CURRENT_DATE and its like, by their tag."""
    sampled: bool = False
    sequences: bool = False
    read: frozenset[int] = frozenset()
    """Types whose values are read out of texts."""
    shown: frozenset[int] = frozenset()
    """Types of columns whose text may be seen, rather than only compared."""

    def __or__(self, other: Uses) -> Uses:
        return Uses(
            self.relations | other.relations,
            self.functions | other.functions,
            self.operators | other.operators,
            self.types | other.types,
            self.aggregates + other.aggregates,
            self.windows | other.windows,
            self.value_functions | other.value_functions,
            self.sampled or other.sampled,
            self.sequences or other.sequences,
            self.read | other.read,
            self.shown | other.shown,
        )


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """One output column of an analysed query."""

    name: str
    type_oid: int
    modifier: int
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Analysis:
    """What Postgres made of one view's query.

    `query` is its text as Postgres prints it: names qualified, stars expanded,
    implicit casts written out; it means the same under every search path.
    """

    source: str
    """The query as it was configured (or made from the table form)."""
    query: str
    columns: tuple[OutputColumn, ...]
    uses: Uses
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Type and modifier of what JSON is built of, by the query that asked for it."""
    denied: str = ""
    """Which right Postgres says is missing to run it; behind a view, its owner's."""


@dataclass(frozen=True, slots=True)
class AnalysisFailure:
    """Postgres refuses the query; `at` is the place in it, in characters.

    `denied`: the role lacks a right.
    """

    source: str
    message: str
    hint: str
    at: int | None
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that planning some views needs to know."""

    analyses: Mapping[str, Analysis | AnalysisFailure]
    """By the view's name."""
    tables: Mapping[int, Table]
    views: Mapping[int, DatabaseView]
    view_uses: Mapping[int, Uses]
    types: Mapping[int, Type]
    functions: Mapping[int, Function]
    operators: Mapping[int, int]
    """Of each operator the function behind it."""
    function_names: Mapping[tuple[str, str], Names]
    operator_names: Mapping[tuple[str, str], Names]
    loose_casts: bool
    """Somebody has made a cast that gives something for a null."""
    version: int
    """`server_version_num`."""

    def relation(self, schema: str, name: str) -> Table | DatabaseView:
        """The table or view of that name; KeyError when the query has none such."""
        for table in self.tables.values():
            if (table.schema, table.name) == (schema, name):
                return table
        for view in self.views.values():
            if (view.schema, view.name) == (schema, name):
                return view
        raise KeyError(f"{schema}.{name}")

    def base_type(self, oid: int) -> Type:
        """The type below all domains."""
        found = self.types[oid]
        while found.kind == "d":
            found = self.types[found.base]
        return found
