"""Columns, literals, conditions and tables of a schema, by chance."""

from __future__ import annotations

from random import Random
from typing import TypeVar

from tests.property.derive import kinds
from tests.property.derive.kinds import Family
from tests.property.derive.schema import Schema
from tests.property.derive.terms import Role, Scope, Term

T = TypeVar("T", bound=str)


class Words:
    """What queries are put together of, one random piece after another."""

    def __init__(self, dice: Random, schema: Schema) -> None:
        self.dice = dice
        self.schema = schema
        self.count = 0

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def pick(self, *choices: T) -> T:
        return self.dice.choice(choices)

    def literal(self, of: Term | Family) -> str:
        family = of.family if isinstance(of, Term) else of
        return self.dice.choice(family.literals)

    def alias(self) -> str:
        self.count += 1
        return f"q{self.count}"

    def roles(self, count: int, family: Family | None = None) -> list[Role]:
        """Tables under the aliases r, u, v, w, with columns that compare."""
        known: dict[str, Family] = {}
        weight: dict[str, int] = {}
        for table in self.schema.tables:
            for name in {k.family.name for k in table.kinds.values()}:
                weight[name] = weight.get(name, 0) + 1
            known |= {k.family.name: k.family for k in table.kinds.values()}
        names = sorted(n for n in known if known[n].compares)
        if family is None or family.name not in known:
            power = [weight[n] ** 3 for n in names]
            family = known[self.dice.choices(names, power)[0]]
        fit = [
            t
            for t in self.schema.tables
            if any(k.family is family for k in t.kinds.values())
        ]
        self.dice.shuffle(fit)
        chosen = (fit * count)[:count]
        return [
            Role(self.dice, alias, table, family)
            for alias, table in zip("ruvw", chosen, strict=False)
        ]

    def column(self, scope: Scope, like: Family | None = None) -> Term:
        """A column that can be named, one that compares with `like` if there is any."""
        names = scope.names()
        around = scope.outer
        while around is not None and self.chance(0.3):
            names = around.names() or names
            around = around.outer
        fit = [n for n in names if like is None or n.family is like]
        if fit or names:
            return self.dice.choice(fit or names)
        return Term("1", kinds.INT)

    def value(self, scope: Scope) -> str:
        column = self.column(scope)
        match self.dice.randrange(8):
            case 0:
                return f"coalesce({column}, {self.literal(column)})"
            case 1:
                other = self.column(scope, column.family)
                if other.kind is column.kind:
                    return f"coalesce({column}, {other})"
                return f"coalesce({column}::text, {other}::text)"
            case _:
                return column

    def pair(self, left: Scope, right: Scope) -> tuple[Term, Term] | None:
        """Two columns that compare."""
        others = right.names()
        known = {o.family.name for o in others}
        ones = [n for n in left.names() if n.family.name in known]
        if not ones:
            return None
        one = self.dice.choice(ones)
        return one, self.dice.choice([o for o in others if o.family is one.family])

    def link(self, left: Scope, right: Scope) -> str:
        """A condition between two scopes, mostly an equality of columns."""
        found = self.pair(left, right)
        if found is None:
            return self.plain(left)
        one, other = found
        third = self.dice.choice([n for n in right.names() if n.family is one.family])
        value = self.literal(one)
        match self.dice.randrange(26):
            case 0:
                return f"{one} = coalesce({other}, {value})"
            case 1:
                return f"coalesce({one}, {value}) = {other}"
            case 2:
                return f"{one} is not distinct from {other}"
            case 3:
                more = " + 1" if one.family is kinds.NUMBER else ""
                return f"{one} >= {other} and {one} <= {other}{more}"
            case 4:
                return f"({one} = {other} or {one} = {value})"
            case 5:
                return f"({one} = {other} or {one} = {third})"
            case 6:
                return f"{one} between {other} and {third}"
            case 7:
                chosen = f"case when {third} = {value} then {other} else {third} end"
                return f"{one} = {chosen}"
            case 8:
                return f"{one}::text = {other}::text"
            case 9 | 10:
                again = self.pair(left, right)
                assert again is not None
                return f"({one}, {again[0]}) = ({other}, {again[1]})"
            case _:
                return f"{one} = {other}"

    def plain(self, scope: Scope) -> str:
        """A condition on one row."""
        column, other = self.column(scope), self.column(scope)
        value = self.literal(column)
        listed = ", ".join(dict.fromkeys(column.family.literals[:3]))
        return self.dice.choice(
            [
                f"{column} = {value}",
                f"{column} is not null",
                f"{column} is null",
                f"{column} > {value}",
                f"coalesce({column}, {value}) = {value}",
                f"{column} in ({listed})",
                f"({column} = {value} or {other} = {self.literal(other)})",
                f"not {column} = {value}",
            ]
        )
