"""Random queries over a schema: whole small ones from a grammar, or out of families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from tests.property.derive import kinds
from tests.property.derive.kinds import Kind
from tests.property.derive.schema import Schema, quoted
from tests.property.derive.terms import Item, Scope, Term
from tests.property.derive.words import Words

Columns: TypeAlias = dict[str, Kind]


class Asked(NamedTuple):
    """A view as a user would write it: a query, and perhaps its key."""

    query: str
    key: tuple[str, ...] | None = None


class Grammar(Words):
    """One random query after another."""

    def __init__(
        self,
        dice: Random,
        schema: Schema,
        families: Sequence[Callable[[Grammar], str]] = (),
    ) -> None:
        super().__init__(dice, schema)
        self.families = families
        self.expressions: list[tuple[str, str, Columns]] = []
        self.listed: list[str] = []

    def asked(self) -> Asked:
        """A query, now and then with its key named."""
        self.listed = []
        query = self.query()
        if not self.listed or self.chance(0.6):
            return Asked(query)
        count = min(len(self.listed), self.dice.choice((1, 1, 2)))
        return Asked(query, tuple(self.dice.sample(self.listed, k=count)))

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

    # Conditions.

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
        body = f"from {source} where {where}"
        found = self.pair(Scope(inner.items), scope)
        forms = [f"exists (select {body})"] * (3 if found else 1)
        forms += [
            f"(exists (select {body}) or {self.plain(scope)})",
            f"exists (select count(*) {body} having count(*) > 1)",
            f"(select count(*) {body}) > 1",
        ]
        if found is not None:
            column, tested = found
            forms += [
                f"{tested} in (select {column} {body})",
                f"{tested} in (select {column} from {source})",
                f"{tested} in (select {column} {body} group by {column})",
                f"{tested} not in (select {column} {body})",
                f"{tested} > all (select {column} {body})",
                f"{tested} > any (select {column} {body})",
                f"{tested} = (select {column.greatest} {body})",
            ]
            column2, tested2 = self.pair(Scope(inner.items), scope) or found
            forms.append(
                f"({tested}, {tested2}) in (select {column}, {column2} from {source})"
            )
        return self.dice.choice(forms)

    # Range items.

    def item(self, scope: Scope, depth: int) -> tuple[str, Item]:
        """One item: its SQL, alias and columns. Not yet in the scope."""
        alias = self.alias()
        if depth > 0 and self.chance(0.3):
            lateral = self.chance(0.5) and bool(scope.items)
            outer = Scope(list(scope.items), scope.outer) if lateral else scope.outer
            body, columns = self.sub_select(
                outer or Scope(), depth - 1, lateral=lateral
            )
            return f"{'lateral ' if lateral else ''}({body}) {alias}", (alias, columns)
        if self.expressions and self.chance(0.4):
            name, _, columns = self.dice.choice(self.expressions)
            return f"{name} {alias}", (alias, columns)
        if self.chance(0.06):
            return self.rows_of_none(scope, alias)
        chosen = self.dice.choice((*self.schema.tables, *self.schema.views))
        return f"{chosen} {alias}", (alias, chosen.kinds)

    def rows_of_none(self, scope: Scope, alias: str) -> tuple[str, Item]:
        """Rows that come out of no table: functions in `from`, and lists of values."""
        names = [n for n in scope.names() if n.family.gathered]
        if names and self.chance(0.5):
            one = self.dice.choice(names)
            two = self.dice.choice([n for n in names if n.kind is one.kind])
            made = f"lateral unnest(array[{one}, {two}]) {alias}(x)"
            return made, (alias, {"x": one.kind})
        if self.chance(0.5):
            return f"generate_series(0, 2) {alias}(x)", (alias, {"x": kinds.INT})
        kind = self.dice.choice(kinds.KINDS[:8])
        rows = ", ".join(f"({v}::{kind.name})" for v in set_of(kind.family.literals))
        return f"(values {rows}) {alias}(x)", (alias, {"x": kind})

    def source(self, scope: Scope, depth: int) -> str:
        """The `from` list; fills the scope."""
        sql, first = self.item(scope, depth)
        scope.items.append(first)
        for _ in range(self.dice.choice((0, 0, 1, 1, 2))):
            right, item = self.item(scope, depth)
            added = Scope([item])
            on = [self.link(added, Scope(scope.items))]
            if self.chance(0.25):
                on.append(self.plain(Scope([*scope.items, item])))
            if self.chance(0.15):
                on = [self.plain(added)]
            joins = ["join", "join", "left join", "left join"]
            if not right.startswith("lateral"):
                joins.append("right join")
            join = self.dice.choice(joins)
            scope.items.append(item)
            shared = [
                c
                for c, k in item[1].items()
                if len(scope.items) == 2
                and c in first[1]
                and k.family is first[1][c].family
                and k.family.compares
            ]
            alike = len(shared) == len(item[1].keys() & first[1].keys())
            if shared and alike and self.chance(0.04):
                sql = f"{sql} natural {join} {right}"
            elif shared and self.chance(0.15):
                count = min(len(shared), self.dice.choice((1, 1, 2)))
                using = ", ".join(self.dice.sample(shared, k=count))
                sql = f"{sql} {join} {right} using ({using})"
            else:
                sql = f"{sql} {join} {right} on {' and '.join(on)}"
        return sql

    def total(self, scope: Scope) -> str:
        """An order that leaves nothing open."""
        names = [*scope.names()]
        self.dice.shuffle(names)
        return ", ".join(names)

    def table_select(self, outer: Scope, depth: int) -> tuple[str, Columns]:
        scope = Scope(outer=outer)
        source = self.source(scope, 0)
        names = scope.names()
        chosen = self.dice.sample(names, k=min(3, len(names)))
        listed = ", ".join(f"{c} as x{i}" for i, c in enumerate(chosen))
        where = self.conditions(scope, depth)
        return f"select {listed} from {source}{where}", {
            f"x{i}": c.kind for i, c in enumerate(chosen)
        }

    def sub_select(
        self, outer: Scope, depth: int, *, lateral: bool
    ) -> tuple[str, Columns]:
        """A derived table of any kind."""
        scope = Scope(outer=outer)
        source = self.source(scope, depth)
        own = Scope(scope.items)
        conditions = [self.plain(scope)] if self.chance(0.3) else []
        if lateral and outer.names() and self.chance(0.85):
            conditions.append(self.link(own, outer))
        where = f" where {' and '.join(conditions)}" if conditions else ""
        names = own.names()
        one, two, three = (self.dice.choice(names) for _ in range(3))
        body = f"from {source}{where}"
        order = self.total(own)
        match self.dice.randrange(16):
            case 0 | 1 | 2:
                outputs = [one, two, three]
                tail = ""
            case 3 | 4:
                outputs = [one, COUNT, two.greatest]
                tail = f" group by {one}"
            case 5:
                outputs = [COUNT, two.greatest]
                tail = ""
            case 6:
                outputs = [one, two]
                tail = f" order by {order} limit {self.dice.randint(1, 2)}"
            case 7:
                head = Term(f"distinct on ({one}) {one}", one.kind)
                outputs, tail = [head, two], f" order by {one}, {order}"
            case 8:
                outputs, tail = [Term(f"distinct {one}", one.kind), two], ""
            case 9:
                window = f"row_number() over (partition by {one} order by {order})"
                outputs, tail = [one, two, Term(window, kinds.BIGINT)], ""
            case 10:
                return self.union(one, two, body, outer)
            case 11:
                given = Term(f"coalesce({one}, {self.literal(one)})", one.kind)
                outputs, tail = [given, two], ""
            case 12:
                outputs, tail = [one, two, COUNT], f" group by {one}, {two}"
            case kind:
                outputs, tail = self.several(one, two, three, order, kind)
        listed = ", ".join(f"{o} x{i}" for i, o in enumerate(outputs))
        columns = {f"x{i}": o.kind for i, o in enumerate(outputs)}
        return f"select {listed} {body}{tail}", columns

    def union(
        self, one: Term, two: Term, body: str, outer: Scope
    ) -> tuple[str, Columns]:
        """Of two selects, the second of other tables if these have such columns."""
        other = Scope(outer=outer)
        more = self.source(other, 0)
        fit = [
            [n for n in Scope(other.items).names() if n.kind is of.kind]
            for of in (one, two)
        ]
        if not all(fit):
            more, fit = body.removeprefix("from "), [[one], [two]]
        three, four = (self.dice.choice(f) for f in fit)
        word = self.dice.choice(("union all", "union", "except", "intersect"))
        first = f"select {one} x0, {two} x1 {body}"
        second = f"select {three}, {four} from {more}"
        return f"{first} {word} {second}", {"x0": one.kind, "x1": two.kind}

    def several(
        self, one: Term, two: Term, three: Term, order: str, kind: int
    ) -> tuple[list[Term], str]:
        """Groups by expressions and in several ways, and windows."""
        value = self.literal(two)
        if kind == 13:
            given = f"coalesce({one}, {self.literal(one)})"
            group, first = (
                self.pick(given, f"({one} = {self.literal(one)})::int", one),
                one,
            )
            if group != one:
                first = Term(group, one.kind if group == given else kinds.INT)
            else:
                group = f"{one}, {three}"
            having = self.pick(
                "", " having count(*) > 1", f" having {two.greatest} = {value}"
            )
            count = f"count(*) filter (where {two} = {value})"
            return (
                [first, Term(count, kinds.BIGINT), three.greatest],
                f" group by {group}{having}",
            )
        if kind == 14:
            sets = self.pick(f"rollup ({one})", f"grouping sets (({one}), ({two}))")
            return [one, COUNT], f" group by {sets}"
        window = self.pick(
            f"count({three}) over (partition by {one})",
            f"rank() over (partition by {one} order by {two})",
        )
        over = Term(window, kinds.BIGINT)
        if self.chance(0.5):
            lag = f"lag({three}) over (partition by {one} order by {order})"
            over = Term(lag, three.kind)
        return [one, two, over], ""

    # The query itself.

    def output(self, scope: Scope, depth: int) -> str:
        """One output expression."""
        match self.dice.randrange(9) if depth > 0 else 8:
            case 0 | 1:
                inner = Scope(outer=scope)
                source = self.source(inner, depth - 1)
                column = self.column(Scope(inner.items))
                value = self.literal(column)
                text = f"coalesce({column}::text, '9')"
                what = self.dice.choice(
                    (
                        "count(*)",
                        column.greatest,
                        column.gathered,
                        f"count(*) filter (where {column} = {value})",
                        f"jsonb_object_agg({text}, 1 order by {text})",
                        f"json_agg(json_build_object('c', {column}) order by {column})",
                        f"string_agg({column}::text, ',' order by {column}::text)",
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
            case 5:
                return self.of_any(scope)
            case _:
                return self.value(scope)

    def of_any(self, scope: Scope) -> str:
        """A column of any type, one that does not compare as well."""
        alias, columns = self.dice.choice(scope.items)
        return f"{alias}.{self.dice.choice(list(columns))}"

    def root(self) -> str:
        scope = Scope()
        depth = 2
        key: list[Term] = []
        if self.chance(0.7):
            table, alias = self.dice.choice(self.schema.tables), self.alias()
            scope.items.append((alias, table.kinds))
            sql = f"{table} {alias}"
            unique = self.dice.choice(table.keys)
            key = [
                Term(f"{alias}.{quoted(name)}", table.column(name).kind)
                for name in unique
            ]
            for _ in range(self.dice.choice((0, 1, 1, 2, 2, 3))):
                right, item = self.item(scope, depth)
                on = [self.link(Scope([item]), Scope(scope.items))]
                if self.chance(0.3):
                    on.append(self.link(Scope([item]), Scope(scope.items)))
                kind = self.dice.choice(("join", "join", "left join", "left join"))
                sql = f"{sql} {kind} {right} on {' and '.join(on)}"
                scope.items.append(item)
        else:
            sql = self.source(scope, depth)
        where = self.conditions(scope, depth)
        names = scope.names()
        if self.chance(0.35):
            return self.grouped(f"from {sql}{where}", names, key)
        if not key or self.chance(0.15):
            key = [self.dice.choice(names)]
        outputs = [f"{k} as k{i}" for i, k in enumerate(key)]
        self.dice.shuffle(outputs)
        self.listed = [f"k{i}" for i in range(len(key))]
        outputs += [
            f"{self.output(scope, depth)} as o{i}"
            for i in range(self.dice.randint(1, 3))
        ]
        distinct = "distinct " if self.chance(0.06) else ""
        return f"select {distinct}{', '.join(outputs)} from {sql}{where}"

    def grouped(self, body: str, names: list[Term], key: list[Term]) -> str:
        """The root's rows in groups, by columns of one table or by its key."""
        first = self.dice.choice(names)
        alias = first.split(".")[0]
        rest = [n for n in names if n.startswith(f"{alias}.") and n != first]
        more = min(len(rest), self.dice.choice((0, 0, 1, 2)))
        groups = [first, *self.dice.sample(rest, k=more)]
        if key and self.chance(0.3):
            groups = key
        self.listed = [f"g{i}" for i in range(len(groups))]
        listed = ", ".join(f"{g} as g{i}" for i, g in enumerate(groups))
        having = ""
        if self.chance(0.15):
            value = self.literal(first)
            having = self.pick(
                " having count(*) > 1", f" having {first.greatest} = {value}"
            )
        other = self.dice.choice(names)
        return (
            f"select {listed}, count(*) n, {other.sum} s, {other.gathered} l "
            f"{body} group by {', '.join(groups)}{having}"
        )


COUNT = Term("count(*)", kinds.BIGINT)


def set_of(values: Sequence[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(values))
