"""Random queries: whole small ones from a grammar, and families around its traps.

Every table has `id` (its key) and columns of small integers, many of them null and
many of them equal, so that links match, miss and move often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

TABLES = ("r", "u", "v", "w")
COLUMNS = ("id", "a", "b", "c")


@dataclass
class Scope:
    """What can be named: aliases with their columns, innermost last."""

    items: list[tuple[str, list[str]]] = field(default_factory=list)
    outer: Scope | None = None

    def names(self) -> list[str]:
        return [
            f"{alias}.{column}" for alias, columns in self.items for column in columns
        ]


class Grammar:
    """One random query after another."""

    def __init__(
        self, dice: Random, families: Sequence[Callable[[Grammar], str]] = ()
    ) -> None:
        self.dice = dice
        self.families = families
        self.count = 0
        self.expressions: list[tuple[str, str, list[str]]] = []

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def alias(self) -> str:
        self.count += 1
        return f"q{self.count}"

    def query(self) -> str:
        self.count = 0
        self.expressions = []
        family = (
            self.dice.choice(self.families)
            if self.families and self.chance(0.45)
            else None
        )
        own = family is not None and family.__name__ == "twice"
        if not own and self.chance(0.25):
            for _ in range(self.dice.randint(1, 2)):
                name = f"e{len(self.expressions)}"
                body, columns = self.table_select(Scope(), 1)
                self.expressions.append((name, body, columns))
        body = self.root() if family is None else family(self)
        if not self.expressions:
            return body
        listed = ", ".join(f"{name} as ({body})" for name, body, _ in self.expressions)
        return f"with {listed} {body}"

    # Columns and conditions.

    def column(self, scope: Scope) -> str:
        names = scope.names()
        around = scope.outer
        while around is not None and self.chance(0.3):
            names = around.names() or names
            around = around.outer
        return self.dice.choice(names) if names else "1"

    def value(self, scope: Scope) -> str:
        column = self.column(scope)
        match self.dice.randrange(8):
            case 0:
                return f"coalesce({column}, {self.dice.randint(0, 3)})"
            case 1:
                return f"coalesce({column}, {self.column(scope)})"
            case _:
                return column

    def link(self, left: Scope, right: Scope) -> str:
        """A condition between two scopes, mostly an equality of columns."""
        one = self.dice.choice(left.names() or ["1"])
        other = self.dice.choice(right.names() or ["1"])
        match self.dice.randrange(24):
            case 0:
                return f"{one} = coalesce({other}, 1)"
            case 1:
                return f"coalesce({one}, 1) = {other}"
            case 2:
                return f"{one} is not distinct from {other}"
            case 3:
                return f"{one} >= {other} and {one} <= {other} + 1"
            case 4:
                return f"({one} = {other} or {self.dice.choice(left.names())} = 1)"
            case 5:
                third = self.dice.choice(right.names())
                return f"({one} = {other} or {one} = {third})"
            case 6:
                return f"{one} between {other} and {self.dice.choice(right.names())}"
            case 7:
                third = self.dice.choice(right.names())
                return f"{one} = case when {third} = 1 then {other} else {third} end"
            case 8:
                return f"{one}::text = {other}::text"
            case _:
                return f"{one} = {other}"

    def plain(self, scope: Scope) -> str:
        """A condition on one row."""
        column = self.column(scope)
        return self.dice.choice(
            [
                f"{column} = {self.dice.randint(0, 3)}",
                f"{column} is not null",
                f"{column} is null",
                f"{column} > {self.dice.randint(0, 3)}",
                f"coalesce({column}, 1) = 1",
                f"{column} in (1, 2)",
                f"({column} = 1 or {self.column(scope)} = 2)",
                f"not {column} = 1",
            ]
        )

    def conditions(self, scope: Scope, depth: int) -> str:
        parts = [self.plain(scope) for _ in range(self.dice.choice((0, 0, 0, 1, 2)))]
        if depth > 0 and self.chance(0.3):
            parts.append(self.tested(scope, depth))
        return f" where {' and '.join(parts)}" if parts else ""

    def tested(self, scope: Scope, depth: int) -> str:
        """`exists`, `in` and their like."""
        inner = Scope(outer=scope)
        source = self.source(inner, depth - 1)
        where = self.link(inner, scope) if self.chance(0.8) else self.plain(inner)
        column = self.column(Scope(inner.items))
        body = f"from {source} where {where}"
        tested = self.column(scope)
        return self.dice.choice(
            [
                f"exists (select {body})",
                f"exists (select {body})",
                f"not exists (select {body})",
                f"{tested} in (select {column} {body})",
                f"{tested} in (select {column} from {source})",
                f"{tested} in (select {column} {body} group by {column})",
                f"{tested} not in (select {column} {body})",
                f"{tested} > all (select {column} {body})",
                f"{tested} > any (select {column} {body})",
                f"(exists (select {body}) or {self.plain(scope)})",
                f"{tested} = (select max({column}) {body})",
                f"exists (select count(*) {body} having count(*) > 1)",
                f"(select count(*) {body}) > 1",
            ]
        )

    # Range items.

    def item(self, scope: Scope, depth: int) -> tuple[str, str, list[str]]:
        """One item: its SQL, alias and columns. Not yet in the scope."""
        if depth > 0 and self.chance(0.3):
            alias = self.alias()
            lateral = self.chance(0.5) and bool(scope.items)
            outer = Scope(list(scope.items), scope.outer) if lateral else scope.outer
            body, columns = self.sub_select(
                outer or Scope(), depth - 1, lateral=lateral
            )
            return f"{'lateral ' if lateral else ''}({body}) {alias}", alias, columns
        if self.expressions and self.chance(0.4):
            name, _, columns = self.dice.choice(self.expressions)
            alias = self.alias()
            return f"{name} {alias}", alias, columns
        alias = self.alias()
        if self.chance(0.06):
            return self.rows_of_none(scope, alias)
        table = self.dice.choice(("r", "u", "v", "w", "vu", "vv", "vg", "part"))
        columns = {"vu": ["id", "a"], "vv": ["id", "n"], "vg": ["a", "n"]}.get(
            table, list(COLUMNS)
        )
        if table == "w":
            columns.append("d")  # a generated column
        return f"{table} {alias}", alias, columns

    def rows_of_none(self, scope: Scope, alias: str) -> tuple[str, str, list[str]]:
        """Rows that come out of no table: functions in `from`, and lists of values."""
        if scope.items and self.chance(0.5):
            one, two = (self.dice.choice(scope.names()) for _ in range(2))
            made = f"lateral unnest(array[{one}::int, {two}::int]) {alias}(x)"
            return made, alias, ["x"]
        made = self.dice.choice(("generate_series(0, 2)", "(values (0), (1), (2))"))
        return f"{made} {alias}(x)", alias, ["x"]

    def source(self, scope: Scope, depth: int) -> str:
        """The `from` list; fills the scope."""
        sql, alias, columns = self.item(scope, depth)
        scope.items.append((alias, columns))
        for _ in range(self.dice.choice((0, 0, 1, 1, 2))):
            right, alias, columns = self.item(scope, depth)
            added = Scope([(alias, columns)])
            on = [self.link(added, Scope(scope.items))]
            if self.chance(0.25):
                on.append(self.plain(Scope([*scope.items, (alias, columns)])))
            if self.chance(0.15):
                on = [self.plain(added)]
            kinds = ["join", "join", "left join", "left join"]
            if not right.startswith("lateral"):
                kinds.append("right join")
            kind = self.dice.choice(kinds)
            scope.items.append((alias, columns))
            shared = [c for c in COLUMNS if c in columns and c in scope.items[0][1]]
            if len(scope.items) == 2 and shared and self.chance(0.04):
                sql = f"{sql} natural {kind} {right}"
            elif len(scope.items) == 2 and shared and self.chance(0.15):
                sql = f"{sql} {kind} {right} using ({self.dice.choice(shared)})"
            else:
                sql = f"{sql} {kind} {right} on {' and '.join(on)}"
        return sql

    def total(self, scope: Scope) -> str:
        """An order that leaves nothing open."""
        names = [*scope.names()]
        self.dice.shuffle(names)
        return ", ".join(names)

    def table_select(self, outer: Scope, depth: int) -> tuple[str, list[str]]:
        scope = Scope(outer=outer)
        source = self.source(scope, 0)
        chosen = self.dice.sample(scope.names(), k=min(3, len(scope.names())))
        listed = ", ".join(f"{c} as x{i}" for i, c in enumerate(chosen))
        where = self.conditions(scope, depth)
        return f"select {listed} from {source}{where}", [
            f"x{i}" for i in range(len(chosen))
        ]

    def sub_select(
        self, outer: Scope, depth: int, *, lateral: bool
    ) -> tuple[str, list[str]]:
        """A derived table of any kind."""
        scope = Scope(outer=outer)
        source = self.source(scope, depth)
        conditions = [self.plain(scope)] if self.chance(0.3) else []
        if lateral and outer.names() and self.chance(0.85):
            conditions.append(self.link(Scope(scope.items), outer))
        where = f" where {' and '.join(conditions)}" if conditions else ""
        names = scope.names()
        one, two, three = (self.dice.choice(names) for _ in range(3))
        body = f"from {source}{where}"
        kind = self.dice.randrange(15)
        if kind > 11:
            made = self.several(one, two, three, Scope(scope.items), kind)
            return made.format(body=body), ["x0", "x1", "x2"]
        if kind < 3:
            return f"select {one} x0, {two} x1, {three} x2 {body}", ["x0", "x1", "x2"]
        if kind < 5:
            return (
                f"select {one} x0, count(*) x1, max({two}) x2 {body} group by {one}",
                [
                    "x0",
                    "x1",
                    "x2",
                ],
            )
        if kind == 5:
            return f"select count(*) x0, min({two}) x1 {body}", ["x0", "x1"]
        if kind == 6:
            order = self.total(Scope(scope.items))
            count = self.dice.randint(1, 2)
            made = f"select {one} x0, {two} x1 {body} order by {order} limit {count}"
            return made, ["x0", "x1"]
        if kind == 7:
            order = self.total(Scope(scope.items))
            chosen = f"select distinct on ({one}) {one} x0, {two} x1 {body}"
            return f"{chosen} order by {one}, {order}", ["x0", "x1"]
        if kind == 8:
            return f"select distinct {one} x0, {two} x1 {body}", ["x0", "x1"]
        if kind == 9:
            order = self.total(Scope(scope.items))
            window = f"row_number() over (partition by {one} order by {order})"
            return f"select {one} x0, {two} x1, {window} x2 {body}", ["x0", "x1", "x2"]
        if kind == 10:
            other = Scope(outer=outer)
            more = self.source(other, 0)
            three, four = (self.dice.choice(other.names()) for _ in range(2))
            word = self.dice.choice(("union all", "union", "except", "intersect"))
            second = f"select {three}, {four} from {more}"
            return f"select {one} x0, {two} x1 {body} {word} {second}", ["x0", "x1"]
        return f"select coalesce({one}, 1) x0, {two} x1 {body}", ["x0", "x1"]

    def several(self, one: str, two: str, three: str, scope: Scope, kind: int) -> str:
        """Groups by expressions and in several ways, and windows; `{body}` is open."""
        if kind == 12:
            group = self.pick(
                f"coalesce({one}, 1)", f"({one} = 1)::int", f"{one}, {three}"
            )
            first = group.split(", ")[0] if group.startswith(one) else group
            having = self.pick("", " having count(*) > 1", f" having max({two}) = 1")
            return (
                f"select {first} x0, count(*) filter (where {two} = 1) x1, "
                f"max({three}) x2 {{body}} group by {group}{having}"
            )
        if kind == 13:
            sets = self.pick(f"rollup ({one})", f"grouping sets (({one}), ({two}))")
            return f"select {one} x0, count(*) x1, 1 x2 {{body}} group by {sets}"
        window = self.pick(
            f"count({three}) over (partition by {one})",
            f"rank() over (partition by {one} order by {two})",
            f"lag({three}) over (partition by {one} order by {self.total(scope)})",
            f"max({three}) over (order by {two})",
        )
        return f"select {one} x0, {two} x1, {window} x2 {{body}}"

    # The query itself.

    def output(self, scope: Scope, depth: int) -> str:
        """One output expression."""
        match self.dice.randrange(9) if depth > 0 else 8:
            case 0 | 1:
                inner = Scope(outer=scope)
                source = self.source(inner, depth - 1)
                column = self.column(Scope(inner.items))
                what = self.dice.choice(
                    (
                        "count(*)",
                        f"max({column})",
                        f"array_agg({column} order by {column})",
                        f"count(*) filter (where {column} = 1)",
                        f"jsonb_object_agg(coalesce({column}, 9), 1 order by {column})",
                        f"json_agg(json_build_object('c', {column}) order by {column})",
                    )
                )
                where = self.link(Scope(inner.items), scope)
                if self.chance(0.2):
                    where += f" and {self.plain(inner)}"
                return f"(select {what} from {source} where {where})"
            case 2:
                return self.tested(scope, depth)
            case 3:
                inner = Scope(outer=scope)
                source = self.source(inner, depth - 1)
                column = self.column(Scope(inner.items))
                where = self.link(Scope(inner.items), scope)
                order = self.total(Scope(inner.items))
                return (
                    f"(select {column} from {source} where {where} "
                    f"order by {order} limit 1)"
                )
            case 4:
                return f"case when {self.plain(scope)} then {self.column(scope)} end"
            case _:
                return self.value(scope)

    def root(self) -> str:
        scope = Scope()
        depth = 2
        if self.chance(0.7):
            alias = self.alias()
            scope.items.append((alias, list(COLUMNS)))
            sql = f"{self.dice.choice(TABLES)} {alias}"
            for _ in range(self.dice.choice((0, 1, 1, 2, 2, 3))):
                right, alias, columns = self.item(scope, depth)
                on = [self.link(Scope([(alias, columns)]), Scope(scope.items))]
                if self.chance(0.3):
                    on.append(self.link(Scope([(alias, columns)]), Scope(scope.items)))
                kind = self.dice.choice(("join", "join", "left join", "left join"))
                sql = f"{sql} {kind} {right} on {' and '.join(on)}"
                scope.items.append((alias, columns))
        else:
            sql = self.source(scope, depth)
        where = self.conditions(scope, depth)
        names = scope.names()
        if self.chance(0.35):
            first = self.dice.choice(names)
            alias = first.split(".")[0]
            rest = [n for n in names if n.startswith(f"{alias}.") and n != first]
            more = min(len(rest), self.dice.choice((0, 0, 1)))
            groups = [first, *self.dice.sample(rest, k=more)]
            listed = ", ".join(f"{g} as g{i}" for i, g in enumerate(groups))
            having = ""
            if self.chance(0.15):
                having = self.pick(" having count(*) > 1", f" having max({first}) = 1")
            other = self.dice.choice(names)
            return (
                f"select {listed}, count(*) n, sum({other}) s, "
                f"array_agg({other} order by {other}) l "
                f"from {sql}{where} group by {', '.join(groups)}{having}"
            )
        keys = [n for n in names if n.endswith(".id")]
        key = keys[0] if keys and self.chance(0.8) else self.dice.choice(names)
        outputs = [
            f"{self.output(scope, depth)} as o{i}"
            for i in range(self.dice.randint(1, 3))
        ]
        distinct = "distinct " if self.chance(0.06) else ""
        return f"select {distinct}{key} as k, {', '.join(outputs)} from {sql}{where}"

    def pick(self, *choices: str) -> str:
        return self.dice.choice(choices)

    def col(self) -> str:
        return self.pick("a", "b", "c")
