"""Random queries: whole small ones from a grammar, and families around its traps.

Every table has `id` (its key) and columns of small integers, many of them null and
many of them equal, so that links match, miss and move often.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def __init__(self, dice: Random) -> None:
        self.dice = dice
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
        family = self.dice.choice(FAMILIES) if self.chance(0.45) else None
        if family is not twice and self.chance(0.25):
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
        table = self.dice.choice(("r", "u", "v", "w", "vu", "vg", "part"))
        columns = ["id", "a"] if table == "vu" else list(COLUMNS)
        if table == "vg":
            columns = ["a", "n"]
        return f"{table} {alias}", alias, columns

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
            sql = f"{sql} {kind} {right} on {' and '.join(on)}"
            scope.items.append((alias, columns))
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
        kind = self.dice.randrange(12)
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
            return (
                f"select {one} x0, {two} x1 {body} order by {order} "
                f"limit {self.dice.randint(1, 2)}",
                ["x0", "x1"],
            )
        if kind == 7:
            order = self.total(Scope(scope.items))
            return (
                f"select distinct on ({one}) {one} x0, {two} x1 {body} "
                f"order by {one}, {order}",
                ["x0", "x1"],
            )
        if kind == 8:
            return f"select distinct {one} x0, {two} x1 {body}", ["x0", "x1"]
        if kind == 9:
            order = self.total(Scope(scope.items))
            return (
                f"select {one} x0, {two} x1, row_number() over "
                f"(partition by {one} order by {order}) x2 {body}",
                ["x0", "x1", "x2"],
            )
        if kind == 10:
            other = Scope(outer=outer)
            more = self.source(other, 0)
            three, four = (self.dice.choice(other.names()) for _ in range(2))
            word = self.dice.choice(("union all", "union", "except", "intersect"))
            return (
                f"select {one} x0, {two} x1 {body} {word} "
                f"select {three}, {four} from {more}",
                ["x0", "x1"],
            )
        return f"select coalesce({one}, 1) x0, {two} x1 {body}", ["x0", "x1"]

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
            groups = [first, *self.dice.sample(rest, k=self.dice.choice((0, 0, 1)))]
            listed = ", ".join(f"{g} as g{i}" for i, g in enumerate(groups))
            having = " having count(*) > 1" if self.chance(0.15) else ""
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


def limits(g: Grammar) -> str:
    """Rows displaced by others, beneath and above links."""
    where = g.pick(
        f"u.{g.col()} = r.{g.col()}",
        f"u.{g.col()} = m.{g.col()}",
        f"u.{g.col()} = m.{g.col()} and u.{g.col()} = r.{g.col()}",
        f"u.{g.col()} > 1",
    )
    inner = g.pick(
        f"select u.a, u.b, u.c from u where {where} order by u.{g.col()}, u.id limit 1",
        f"select distinct on (u.{g.col()}) u.a, u.b, u.c from u where {where} "
        "order by {d}, u.c, u.id",
        f"select u.a, max(u.b) b, count(*) c from u where {where} group by u.a",
        f"select max(u.a) a, max(u.b) b, count(*) c from u where {where}",
        f"select u.a, u.b, row_number() over (partition by u.{g.col()} order by u.id) c "
        f"from u where {where}",
    )
    if "{d}" in inner:
        chosen = inner.split("distinct on (")[1].split(")")[0]
        inner = inner.format(d=chosen)
    join = g.pick("join", "left join")
    on = g.pick("true", f"l.{g.col()} = r.{g.col()}", f"l.{g.col()} = m.{g.col()}")
    middle = g.pick("join", "left join")
    key = g.pick("r.id k", "m.id k", "r.id k", "l.a k")
    tail = ""
    if g.chance(0.4):
        tail = f" {g.pick('join', 'left join')} w on w.{g.col()} = l.{g.col()}"
    group = g.pick("", "", f" group by l.{g.col()}", f" group by r.{g.col()}")
    if group:
        column = group.removeprefix(" group by ")
        return (
            f"select {column} as k, count(*) n, array_agg(r.id order by r.id) ids from r "
            f"{middle} v m on m.{g.col()} = r.{g.col()} "
            f"{join} lateral ({inner}) l on {on}{tail}{group}"
        )
    return (
        f"select {key}, l.a la, l.b lb, l.c lc from r "
        f"{middle} v m on m.{g.col()} = r.{g.col()} {join} lateral ({inner}) l on {on}{tail}"
    )


def preserved(g: Grammar) -> str:
    """Conditions of outer joins that name the preserved side."""
    one, two = g.pick("left join", "right join", "join"), g.pick("left join", "join")
    inner = (
        f"from u {one} v on v.{g.col()} = u.{g.col()} and "
        + g.pick(f"v.{g.col()} = r.{g.col()}", f"u.{g.col()} = r.{g.col()}", "v.a = 1")
        + f" {two} w on w.{g.col()} = {g.pick('u', 'v', 'r')}.{g.col()}"
    )
    where = g.pick("", f" where u.{g.col()} = r.{g.col()}", f" where v.a = r.{g.col()}")
    form = g.pick("scalar", "lateral", "exists", "outer")
    if form == "scalar":
        return f"select r.id k, (select count(*) {inner}{where}) n from r"
    if form == "exists":
        return f"select r.id k, r.a from r where exists (select {inner}{where})"
    if form == "lateral":
        join = g.pick("join", "left join")
        return (
            f"select r.id k, q.x from r {join} lateral (select u.a x {inner}{where}) q "
            "on true"
        )
    return (
        f"select {g.pick('r.id', 'u.id')} k, u.a ua, v.b vb from r "
        f"{g.pick('left join', 'join', 'right join')} u on u.{g.col()} = r.{g.col()} "
        f"{g.pick('left join', 'join')} v on v.{g.col()} = u.{g.col()} "
        f"and r.{g.col()} = {g.pick('1', 'v.b')}"
    )


def non_strict(g: Grammar) -> str:
    """Links that hold for nulls too."""
    through = g.pick(
        f"coalesce(u.{g.col()}, 1)",
        f"coalesce(u.{g.col()}, r.{g.col()})",
        f"case when u.id is null then 1 else u.{g.col()} end",
        f"u.{g.col()}",
    )
    compare = g.pick("=", "=", "is not distinct from")
    first = g.pick("left join", "left join", "join")
    source = g.pick("u", "(select id, a, coalesce(b, 1) b, c from u) u")
    tail = g.pick("", "", f" where u.{g.col()} = 1", " where u.id is not null")
    return (
        f"select r.id k, u.a ua, t.b tb from r {first} {source} on u.{g.col()} = "
        f"r.{g.col()} {g.pick('left join', 'join')} v t on t.{g.col()} {compare} "
        f"{through}{tail}"
    )


def either(g: Grammar) -> str:
    """`or` between links, and in what tests them."""
    links = [f"u.{g.col()} = r.{g.col()}", f"u.{g.col()} = v.{g.col()}"]
    g.dice.shuffle(links)
    third = g.pick(
        f"v.{g.col()} = r.{g.col()}", f"u.{g.col()} = r.{g.col()}", "r.a = 1"
    )
    where = g.pick(
        f"{links[0]} or {links[1]}",
        f"({links[0]} or {third}) and {links[1]}",
        f"({links[0]} and {third}) or {links[1]}",
        f"{links[0]} or u.{g.col()} = r.{g.col()}",
        f"{links[0]} and ({links[1]} or u.a is null)",
    )
    form = g.pick("scalar", "exists", "join", "in")
    sources = g.pick("u, v", "u")
    if sources == "u":
        where = where.replace("v.", "r.")
    if form == "scalar":
        return f"select r.id k, (select count(*) from {sources} where {where}) n from r"
    if form == "exists":
        return f"select r.id k, r.a from r where exists (select from {sources} where {where})"
    if form == "in":
        no = g.pick("", "not ", "")
        return (
            f"select r.id k, r.a from r where r.{g.col()} {no}in (select u.{g.col()} from "
            f"{sources} where {where}) {g.pick('', 'or r.b = 1', 'and r.b = 1')}"
        )
    return (
        f"select r.id k, u.a ua from r join {sources.replace(', ', ' cross join ')} "
        f"on {where}"
        if sources == "u"
        else f"select r.id k, u.a ua from r, {sources} where {where}"
    )


def groups(g: Grammar) -> str:
    """Keys out of groups, moved along equalities, and the null group."""
    one, two = g.pick("left join", "join"), g.pick("left join", "join", "right join")
    key = g.pick("r", "u", "v") + "." + g.pick("id", "a", "b")
    more = g.pick("", "", f", {key.split('.')[0]}.c")
    on = g.pick("", f" and u.{g.col()} = 1", f" and r.{g.col()} = 1")
    having = g.pick("", "", " having count(*) > 1")
    listed = f"{key} as k" + (f"{more} as k2" if more else "")
    where = g.pick("", "", f" where u.{g.col()} = 1", f" where r.{g.col()} is not null")
    return (
        f"select {listed}, count(*) n, array_agg(r.id order by r.id) ids from r "
        f"{one} u on u.{g.pick('id', 'a')} = r.{g.col()}{on} "
        f"{two} v on v.{g.pick('id', 'a')} = {g.pick('u', 'r')}.{g.col()}{where} "
        f"group by {key}{more}{having}"
    )


def circles(g: Grammar) -> str:
    """Occurrences with several ways to the key."""
    links = [
        f"u.{g.col()} = r.{g.col()}",
        f"v.{g.col()} = r.{g.col()}",
        f"u.{g.col()} = v.{g.col()}",
        f"w.{g.col()} = u.{g.col()}",
        f"w.{g.col()} = v.{g.col()}",
    ]
    g.dice.shuffle(links)
    where = " and ".join(links[: g.dice.randint(3, 5)])
    if g.chance(0.5):
        return f"select r.id k, u.a ua, v.b vb, w.c wc from r, u, v, w where {where}"
    return f"select r.id k, (select count(*) from u, v, w where {where}) n from r"


def twice(g: Grammar) -> str:
    """A CTE or a view that is referred to more than once."""
    body = g.pick(
        f"select * from u where {g.col()} = 1",
        "select u.id, u.a, v.b, u.c from u left join v on v.a = u.b",
        "select a, max(b) b, count(*) c, min(id) id from u group by a",
        "select id, a, b, c from u union all select id, a, b, c from v",
    )
    word = g.pick("", "materialized ", "not materialized ")
    return (
        f"with e as {word}({body}) select r.id k, x.b xb, "
        f"(select array_agg(y.c order by y.c) from e y where y.{g.col()} = r.{g.col()}) l "
        f"from r {g.pick('join', 'left join')} e x on x.a = r.{g.col()}"
        + g.pick("", f" where exists (select from e z where z.a = r.{g.col()})")
    )


def displaced(g: Grammar) -> str:
    """One row of a group or limit takes another's place, and conditions above it."""
    column, other = g.col(), g.col()
    where = f"where u.{column} = r.{g.col()}"
    inner = g.pick(
        f"select u.a, u.b, u.c from u {where} order by u.{other}, u.id limit 1",
        f"select max(u.a) a, max(u.b) b, count(*) c from u {where}",
        f"select u.{other} a, max(u.b) b, count(*) c from u {where} group by u.{other}",
        f"select distinct on (u.{other}) u.{other} a, u.id b, u.c from u {where} "
        f"order by u.{other}, u.c, u.id",
        f"select u.a, u.b, row_number() over (partition by u.{other} order by u.id) c "
        f"from u {where}",
    )
    above = f"l.{g.pick('a', 'b')} = r.{g.col()}"
    form = g.pick("on", "where", "group", "exists", "always")
    if form == "exists":
        return f"select r.id k, r.a from r where r.{g.col()} in (select l.b from ({inner.replace(where, '')}) l)"
    if form == "always":
        return (
            f"select v.id k, q.n from v join r on r.a = v.{column} join lateral "
            f"(select count(*) n from u where u.b = v.{other}) q on true"
        )
    if form == "group":
        return (
            f"select l.{g.pick('a', 'b')} as k, count(*) n, array_agg(r.id order by r.id) i"
            f" from r join lateral ({inner}) l on true group by 1"
        )
    if form == "on":
        return (
            f"select r.id k, l.a la, l.c lc from r join lateral ({inner}) l on {above}"
        )
    return f"select r.id k, l.a la from r, lateral ({inner}) l where {above}"


def unions(g: Grammar) -> str:
    """Links that lead into the sides of a union."""
    word = g.pick("union all", "union", "except", "intersect")
    body = (
        f"select {g.col()} x, {g.col()} y from u {word} "
        f"select {g.col()}, {g.col()} from v"
    )
    join = g.pick("join", "left join")
    tail = g.pick(
        "",
        f" join w on w.{g.col()} = q.y",
        f" left join w on w.a = q.{g.pick('x', 'y')}",
    )
    return g.pick(
        f"select r.id k, q.y from r {join} ({body}) q on q.x = r.{g.col()}{tail}",
        f"select r.id k, (select count(*) from ({body}) q{tail} "
        f"where q.x = r.{g.col()}) n from r",
        f"select r.id k, r.a from r where exists (select from ({body}) q{tail} "
        f"where q.x = r.{g.col()})",
        f"select w.id k, q.y from w join r on r.{g.col()} = w.{g.col()} "
        f"join ({body}) q on q.x = r.{g.col()}",
    )


def one_row(g: Grammar) -> str:
    """An aggregate without `group by` gives its row whatever its conditions say."""
    agg = f"select count(*) n, max(u.a) m from u where u.{g.col()} = r.{g.col()}"
    link = f"u.{g.col()} = v.{g.col()}"
    return g.pick(
        f"select v.id k, q.n from v join r on r.{g.col()} = v.{g.col()} "
        f"join lateral ({agg} and {link}) q on true",
        f"select v.id k, q.n from v cross join r join lateral ({agg} and {link}) q on "
        "q.n > 0",
        f"select v.id k, (select sum(q.n) from r, lateral ({agg} and {link}) q) s from v",
        f"select v.id k, v.a from v where exists (select from r, lateral "
        f"({agg} and {link}) q where q.n = 0)",
    )


FAMILIES: tuple[Callable[[Grammar], str], ...] = (
    limits,
    preserved,
    non_strict,
    either,
    groups,
    circles,
    twice,
    displaced,
    unions,
    one_row,
)
