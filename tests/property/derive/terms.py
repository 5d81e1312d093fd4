"""What queries are made of: typed names, what can be named where, tables in a role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Self

from tests.property.derive import kinds
from tests.property.derive.kinds import Family, Kind
from tests.property.derive.schema import Table, quoted

SLOTS = ("id", "a", "b", "c")
"""What a table's columns are called in a role."""


class Term(str):
    """A value as it stands in a query, with its type."""

    __slots__ = ("kind",)
    kind: Kind

    def __new__(cls, text: str, kind: Kind) -> Self:
        made = super().__new__(cls, text)
        made.kind = kind
        return made

    @property
    def family(self) -> Family:
        return self.kind.family

    @property
    def greatest(self) -> Term:
        """Its greatest value in a group, of the same type."""
        if self.family.ordered:
            return Term(f"max({self})", self.kind)
        if not self.family.compares or not self.family.gathered:
            return Term(f"max({self}::text)", kinds.PLAIN)
        return Term(f"(array_agg({self} order by {self}))[1]", self.kind)

    @property
    def taken(self) -> str:
        """As `array_agg` takes all of its values."""
        return f"{self}" if self.family.gathered else f"{self}::text"

    @property
    def gathered(self) -> str:
        """All of its values in a group, in order."""
        if self.family.compares and self.family.gathered:
            return f"array_agg({self} order by {self})"
        return f"array_agg({self}::text order by {self}::text)"

    @property
    def sum(self) -> str:
        """What a group adds it up to."""
        adds = self.family is kinds.NUMBER
        return f"sum({self})" if adds else f"count(distinct {self}::text)"


Item = tuple[str, dict[str, Kind]]
"""An alias with its columns."""


@dataclass
class Scope:
    """What can be named: aliases with their columns, innermost last."""

    items: list[Item] = field(default_factory=list)
    outer: Scope | None = None

    def names(self) -> list[Term]:
        """Every column that compares."""
        return [
            Term(f"{alias}.{column}", kind)
            for alias, columns in self.items
            for column, kind in columns.items()
            if kind.family.compares
        ]


class Named:
    """An alias whose columns are called `id`, `a`, `b` and `c` by families."""

    def __init__(self, dice: Random, alias: str, columns: Iterable[Term]) -> None:
        self.dice = dice
        self.alias = alias
        self.columns = dict(zip(SLOTS, columns, strict=False))
        self.id, self.a, self.b, self.c = (
            self.columns.get(slot, self.columns["a"]) for slot in SLOTS
        )

    def col(self) -> Term:
        """Any but `id`."""
        return self.dice.choice((self.a, self.b, self.c))

    @property
    def all(self) -> str:
        """All of them, called so."""
        return ", ".join(f"{term} {slot}" for slot, term in self.columns.items())

    def renamed(self, alias: str) -> Named:
        """The columns of a sub-select that gives `all`, or some of them."""
        terms = (Term(f"{alias}.{s}", t.kind) for s, t in self.columns.items())
        return Named(self.dice, alias, terms)


class Role(Named):
    """A table under an alias, with four columns that compare with those of others.

    As a text it is what stands in `from`.
    """

    def __init__(self, dice: Random, alias: str, table: Table, family: Family) -> None:
        self.table, self.family = table, family
        terms = {c: Term(f"{alias}.{c}", k) for c, k in table.kinds.items()}
        [first, *_] = table.keys
        self.key = [terms[quoted(name)] for name in first]
        fit = [t for t in terms.values() if t.family is family]
        plain = [t for t in fit if t not in self.key] or fit
        dice.shuffle(plain)
        own = [t for t in self.key if t.family is family] or fit
        super().__init__(dice, alias, (own[0], *(plain * 3)[:3]))

    def __str__(self) -> str:
        return f"{self.table} {self.alias}"

    @property
    def keyed(self) -> str:
        """Its key as output columns."""
        return ", ".join(f"{term} k{n or ''}" for n, term in enumerate(self.key))

    @property
    def shown(self) -> str:
        """Its key and a column."""
        return f"{self.keyed}, {self.a} o"

    @property
    def order(self) -> str:
        """An order of its rows that is total."""
        return ", ".join(self.key)
