"""A query as levels, range items and the places where conditions stand.

Each `select` is a level: the query, a derived table, an AND-ed `exists` or `in`, any
other sub-select, a branch of a `union`. Everything hangs in one tree of nodes:

    level's top ── join ── leaf (an occurrence of a table)
                       └── leaf (a derived table) ── its level's top ── …
              └── leaf (a sub-select) ── its level's top ── …

The one thing to know: questions such as "which rows does this condition filter" or
"can this row be null there" are walks in that one tree, across levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from pglast import ast

from bridge.catalog import Table


class Arm(Enum):
    """How a node hangs below its parent."""

    ITEM = auto()
    """In a `from` list, or an arm of an inner join."""
    KEPT = auto()
    """The arm of an outer join whose rows all stay."""
    NULLABLE = auto()
    """The arm of an outer join that is null where nothing matches."""
    DERIVED = auto()
    """A level below its leaf."""
    SEMI = auto()
    """An AND-ed positive `exists` or `in`, below the place of its condition."""
    OTHER = auto()
    """Any other sub-select."""
    BRANCH = auto()
    """One side of a `union` and its like."""


@dataclass(eq=False, slots=True)
class Node:
    """A place in the query where rows are."""

    level: Level
    parent: Node | None
    arm: Arm
    outer: bool = False
    """An outer join that has not been found to be an inner one."""
    place: Place | None = None
    """Of a SEMI leaf: where the condition stands that it belongs to."""
    children: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.parent.children.append(self)

    def up(self) -> Iterator[Node]:
        """The node itself and all above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def within(self, other: Node) -> bool:
        """Whether it is `other` or beneath it."""
        return any(node is other for node in self.up())

    @property
    def nulled(self) -> bool:
        """Whether it is the null-extended arm of an outer join."""
        return (
            self.arm is Arm.NULLABLE and self.parent is not None and self.parent.outer
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a condition stands: `where` of a level (its top), or `on` of a join."""

    node: Node

    def filtered(self) -> tuple[Node, bool]:
        """The node whose rows the condition filters, and whether it reaches higher.

        The condition of an outer join filters its nullable side only, and the rows
        of the other side stay.
        """
        if self.node.outer:
            [arm] = [n for n in self.node.children if n.arm is Arm.NULLABLE]
            return arm, False
        return self.node, True


@dataclass(eq=False, slots=True)
class Occurrence:
    """One reference to a table."""

    table: Table
    alias: str
    """Unique in the whole query; the name it has in key queries."""
    name: str
    """The alias in its own level."""
    level: Level
    leaf: Node
    columns: tuple[str, ...]
    """Names of the table's columns as this reference calls them."""
    only: bool
    """`from only …`."""
    used: set[str] = field(default_factory=set)
    """The table's names of columns that the query mentions."""

    def source(self, column: str) -> str | None:
        """The table's own name of a column of this reference."""
        if column not in self.columns:
            return None
        return self.table.names[self.columns.index(column)]


@dataclass(eq=False, slots=True)
class Derived:
    """A sub-select as a range item, or one whose output a condition compares with."""

    body: Level
    leaf: Node
    columns: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Opaque:
    """Rows that come from no table: a function in `from`, `values`."""

    leaf: Node
    columns: tuple[str, ...] | None
    """None when their names are not known."""


Item: TypeAlias = Occurrence | Derived | Opaque


@dataclass(frozen=True, slots=True)
class Output:
    """One output column of a level."""

    name: str
    value: ast.Node


@dataclass(eq=False, slots=True)
class Condition:
    """One conjunct of a `where` or `on`."""

    value: ast.Node
    level: Level
    """In whose scope its names are."""
    place: Place


@dataclass(eq=False, slots=True)
class Level:
    """One `select`."""

    statement: ast.SelectStmt
    parent: Level | None
    """The level in whose scope it stands."""
    top: Node = field(init=False)
    items: dict[str, Item] = field(default_factory=dict)
    compared: dict[str, Derived] = field(default_factory=dict)
    """Sub-selects of AND-ed `in`, under names that no query can write."""
    outputs: list[Output] = field(default_factory=list)
    branches: list[Level] = field(default_factory=list)
    """The sides of a `union` and its like; empty for a plain select."""
    conditions: list[Condition] = field(default_factory=list)
    passing: frozenset[int] | None = None
    """Outputs that mean something outside: those that the level groups, partitions or
    is distinct by; None: all of them."""
    alike: frozenset[int] = frozenset()
    """Outputs of which equal values always have one text, of a level that `chooses`."""
    grouped: bool = False
    """It has one row for each value of the passing outputs."""
    limited: bool = False
    sets: bool = False
    """It groups in several ways at once: `rollup`, `cube`, `grouping sets`."""
    opaque: frozenset[int] = frozenset()
    """Identities of its calls of aggregates, windows and set-returning functions:
    what they give is of several rows, or not of one."""
    asked: bool = False
    """The body of an `exists`: only whether it has a row counts."""
    listed: bool = False
    """The body of `array(select …)`."""
    always: bool = False
    """It gives a row even when nothing satisfies its conditions."""

    @property
    def chooses(self) -> bool:
        """It makes a row of several, whose equal values may have several texts."""
        return self.grouped or self.passing is not None

    def tells(self, output: int) -> bool:
        """Whether its rows of one text of this output are made of rows of that text."""
        return not self.chooses or output in self.alike

    def scope(self) -> Iterator[Level]:
        """The level and those around it, whose items it can name."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent


@dataclass(eq=False, slots=True)
class Query:
    """The whole query, expanded."""

    root: Level
    levels: list[Level]
    occurrences: list[Occurrence]
    idle: frozenset[int]
    """Tables named by a `with` that nothing refers to: their rows do not count."""

    @property
    def conditions(self) -> Iterator[Condition]:
        """Every conjunct of every level."""
        for level in self.levels:
            yield from level.conditions


def lowest_above(one: Node, other: Node) -> Node:
    """The lowest node that both are beneath."""
    above = {id(node) for node in other.up()}
    return next(node for node in one.up() if id(node) in above)


def roof(place: Place) -> Node:
    """The highest node that has no row where nothing satisfies a condition there."""
    node, climbs = place.filtered()
    while climbs:
        parent = node.parent
        if parent is None or node.nulled:
            break
        match node.arm:
            case Arm.ITEM | Arm.KEPT | Arm.NULLABLE:
                node = parent
            case Arm.DERIVED:
                if node.level.always:
                    break
                node = parent
            case Arm.SEMI:
                assert node.place is not None
                return roof(node.place)
            case Arm.OTHER | Arm.BRANCH:
                break
    return node


def null_extended(node: Node, place: Node) -> list[Node]:
    """The outer joins that may have nulled the rows of `node`, as seen from `place`."""
    limit = lowest_above(node, place)
    found = []
    for step in node.up():
        if step is limit or step.parent is limit:
            break
        if step.nulled:
            assert step.parent is not None
            found.append(step.parent)
    return found
