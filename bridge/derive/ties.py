"""Values that Postgres calls equal and writes differently: numeric 1.0 and 1.00, citext
`A` and `a`, intervals of one day and of 24 hours.

Where an order, a group or `distinct` meets several of them, any may come first or stand
for the others, and a document would change without any row having changed.

The one thing to know: it does no harm where the values are one row's, by a unique key,
or where their texts are in the order as well. Of single numbers that are equal either
may be given: no reader of JSON can tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pglast import ast
from pglast.enums import SetOperation

from bridge.catalog import Catalog
from bridge.derive.functions import ORDER_FREE
from bridge.derive.levels import Level, Query
from bridge.derive.levels.alike import several_texts
from bridge.derive.levels.barriers import called, calls
from bridge.derive.levels.model import Arm
from bridge.derive.levels.resolve import Reading, Ref, expand, lookup, same_as
from bridge.derive.orders import Known, add_column, closed, one_row, sort_value
from bridge.derive.parse import walk
from bridge.derive.places import NamedRefusal
from bridge.derive.shapes import made_of
from bridge.derive.structure import Structures
from bridge.derive.texts import CHOOSES, seen_as_texts

_NUMBERS = frozenset("numeric float4 float8".split())
_FREE = ORDER_FREE - CHOOSES
"""Aggregates that give the same whichever of equal values comes first."""
_SCALES = frozenset(("sum", "avg"))
"""Of different values these show which of the equal ones was taken."""

_WORDS = {
    SetOperation.SETOP_UNION: "union",
    SetOperation.SETOP_INTERSECT: "intersect",
    SetOperation.SETOP_EXCEPT: "except",
}
_SPELLED = {
    f"{kind}_agg{strict}": ("json_arrayagg",)
    for kind in ("json", "jsonb")
    for strict in ("", "_strict")
}
"""How SQL/JSON calls them."""

Typed: TypeAlias = "tuple[int, int, bool]"
"""A type's oid, its modifier, and whether its collation is deterministic."""


def questioned(query: Query) -> Iterator[tuple[ast.Node, Level]]:
    """Expressions that `check_ties` would like to know the type of."""
    for level in query.levels:
        listed: list[ast.Node] = [o.value for o in level.outputs]
        if not (level.listed or level.branches):
            listed = []
        for value in (*_called_of(level), *listed):
            if isinstance(value, ast.ColumnRef):
                told = _column(expand(value, level)) is not None
            else:
                told = isinstance(value, ast.A_Const)
            if not told:
                yield value, level
    yield from seen_as_texts(query)


def _called_of(level: Level) -> Iterator[ast.Node]:
    for call in _calls(level):
        yield from _sorted(call)
        yield from call.args or ()


def _calls(level: Level) -> Iterator[ast.FuncCall]:
    statement = level.statement
    yield from calls(
        (statement.targetList, statement.havingClause, statement.sortClause)
    )


def check_ties(query: Query, catalog: Catalog, structures: Structures) -> None:
    """Refuse what shows one of several equal values, or their order, by chance."""
    ties = _Ties(catalog, structures)
    for value, level in seen_as_texts(query):
        of = ties.type_of(value, level)
        if of is not None and ties.of_number(of):
            ties = _Ties(catalog, structures, numbers=True)
    for level in query.levels:
        for call in _calls(level):
            ties.check_call(call, level)
        if level.listed:
            ties.check_listed(level)
        if not level.asked and level.top.arm is not Arm.SEMI:
            ties.check_groups(level)
            ties.check_limit(level)
            ties.check_union(level)


def _sorted(call: ast.FuncCall) -> list[ast.Node]:
    found = [s.node for s in call.agg_order or ()]
    return [node for node in found if isinstance(node, ast.Node)]


@dataclass(frozen=True, slots=True)
class _Ties:
    catalog: Catalog
    structures: Structures
    numbers: bool = False
    """Texts are made of chosen numbers: then these count as well."""

    def check_call(self, call: ast.FuncCall, level: Level) -> None:
        """One call of an aggregate; other functions have neither order nor choice."""
        name = called(call)
        args = [a for a in call.args or () if isinstance(a, ast.Node)]
        order = _sorted(call)
        if name in CHOOSES:
            for value in (*order, *args)[:1]:
                if self._shown(value, level) and not self._known(value, level, [value]):
                    raise self._chosen(name, value, level)
        elif call.agg_distinct:
            if name not in _FREE or name in _SCALES:
                self._check_distinct(name, args, level)
        elif order and not call.agg_within_group and name not in _FREE:
            self._check_order(name, args, order, level)

    def _check_order(
        self, name: str, args: list[ast.Node], order: list[ast.Node], level: Level
    ) -> None:
        """Total but for texts: an order that leaves more open is the user's own."""
        if all(self._known(arg, level, order, texts=False) for arg in args) and not all(
            self._known(arg, level, order) for arg in args
        ):
            what = "array(select …)" if name == "array" else f"{name}()"
            raise NamedRefusal(
                f"{what} is ordered by values that may be equal and written "
                "differently, which leaves their order open",
                hint=self._way_out(name, order, level),
                words=(name, *_SPELLED.get(name, ())),
            )

    def _way_out(self, name: str, order: list[ast.Node], level: Level) -> str:
        form = "{}({}{} order by {})".format(
            "{}", *(("select {}", " …") if name == "array" else ("{}", "")), "{}"
        )
        if any(self._blank(value, level) for value in order):
            return f"give out texts, as in `{form.format(name, 'x::text', 'x::text')}`"
        plain = '; of a text, `x collate "C"`' if self._texts(order, level) else ""
        return (
            "end the order with the text of the value, as in "
            f"`{form.format(name, 'x', 'x, x::text')}`{plain}"
        )

    def check_listed(self, level: Level) -> None:
        """`array(select …)` is as ordered as an aggregate."""
        order = [sort_value(s, level) for s in level.statement.sortClause or ()]
        if order and not level.branches:
            values = [output.value for output in level.outputs]
            self._check_order("array", values, order, level)

    def _check_distinct(self, name: str, args: list[ast.Node], level: Level) -> None:
        for arg in args:
            if self._several(arg, level) and not self._known(arg, level, args):
                raise NamedRefusal(
                    f"{name}(distinct …) keeps any one of values that are equal and "
                    "written differently",
                    hint=f"take their texts: `{name}(distinct x::text)`"
                    if name not in _SCALES
                    else "give the values one scale: "
                    f"`{name}(distinct x::numeric(12, 2))`",
                    words=(name,),
                )

    def check_groups(self, level: Level) -> None:
        """Whether one value that is given out stands for others like it."""
        statement = level.statement
        if statement.distinctClause and statement.distinctClause[0] is None:
            by, word = [output.value for output in level.outputs], "distinct"
        elif statement.groupClause:
            by, word = list(statement.groupClause), "group"
        else:
            return
        given = {
            same_as(node, level)
            for output in level.outputs
            for node in _values(output.value)
        }
        for value in by:
            if (
                same_as(value, level) in given
                and self._shown(value, level)
                and not self._known(value, level, by, grouped=True)
            ):
                raise NamedRefusal(
                    f"`{word}{' by' if word == 'group' else ''}` takes for one what is "
                    "equal and written differently, and gives any of it",
                    hint="take the text in its place: `x::text`",
                    words=(word,),
                )

    def check_limit(self, level: Level) -> None:
        """Whether the rows of a `limit` are equal and written differently."""
        order = [sort_value(s, level) for s in level.statement.sortClause or ()]
        if not level.limited or level.branches:
            return
        for output in level.outputs:
            value = output.value
            if self._shown(value, level) and not self._known(value, level, order):
                raise NamedRefusal(
                    "`limit` chooses rows by an order that leaves some of them equal, "
                    f"whose {output.name} is written differently",
                    hint="end the order with the primary key of each table that is "
                    "read there",
                    words=("limit", "fetch", "offset"),
                )

    def check_union(self, level: Level) -> None:
        """Whether a union, except or intersect keeps one of several alike."""
        statement = level.statement
        every = statement.op == SetOperation.SETOP_UNION and statement.all
        word = _WORDS.get(statement.op or SetOperation.SETOP_NONE)
        if word is None or every:
            return
        selects = list(_selects(level))
        for index, output in enumerate(level.outputs):
            types = {self.type_of(s.outputs[index].value, s) for s in selects}
            # Of several types each may be written in one way, and all in several.
            found = [of for of in types if of is not None]
            if len(types) > 1:
                found = [(oid, -1, plain) for oid, _, plain in found]
            if any(map(self._shows, found)):
                raise NamedRefusal(
                    f"`{word}` takes for one what is equal and "
                    f"written differently, and gives any of it as {output.name}",
                    hint="take the text in its place: `x::text`",
                    words=(word,),
                )

    def _shown(self, value: ast.Node, level: Level) -> bool:
        """Several texts that a reader of the JSON can tell apart."""
        of = self.type_of(value, level)
        return of is not None and self._shows(of)

    def _shows(self, of: Typed) -> bool:
        if not several_texts(self.catalog, of[0], of[1], plain=of[2]):
            return False
        return self.numbers or self.catalog.base_type(of[0]).name not in _NUMBERS

    def of_number(self, of: Typed) -> bool:
        """Whether it may hold numbers of which equal ones are written differently."""
        return several_texts(self.catalog, of[0], of[1], plain=True) or any(
            made.schema == "pg_catalog" and made.name == "json"
            for made in made_of(self.catalog.types, of[0])
        )

    def _blank(self, value: ast.Node, level: Level) -> bool:
        """A bpchar of any length, whose text leaves out the blanks that it shows."""
        of = self.type_of(value, level)
        return of is not None and self.catalog.base_type(of[0]).name == "bpchar"

    def _chosen(self, name: str, value: ast.Node, level: Level) -> NamedRefusal:
        of = self.type_of(value, level)
        number = of is not None and self.catalog.base_type(of[0]).name in _NUMBERS
        return NamedRefusal(
            f"{name}() gives any one of values that are equal and written differently",
            hint=f"take it of one scale: `{name}(x::numeric(12, 2))`"
            if number
            else f"take it of their texts: `{name}(x::text)`",
            words=(name,),
        )

    def _several(self, value: ast.Node, level: Level) -> bool:
        of = self.type_of(value, level)
        return of is not None and several_texts(self.catalog, of[0], of[1], plain=of[2])

    def _texts(self, order: Sequence[ast.Node], level: Level) -> bool:
        types = [self.type_of(value, level) for value in order]
        return any(of is not None and not of[2] for of in types)

    def type_of(self, value: ast.Node, level: Level) -> Typed | None:
        """The type of an expression, as far as it is known."""
        if isinstance(value, ast.CollateClause):
            assert value.arg is not None
            inner = self.type_of(value.arg, level)
            built_in = len(value.collname or ()) == 1  # printed without a schema
            return None if inner is None else (inner[0], inner[1], built_in)
        readings = expand(value, level)
        plain = all(
            r.occurrence.table.column(r.column).deterministic
            for reading in readings
            for r in reading.refs
        )
        if (ref := _column(readings)) is not None:
            column = ref.occurrence.table.column(ref.column)
            return column.type_oid, column.modifier, plain
        asked = self.structures.asked(value, level)
        return None if asked is None else (*asked, plain)

    def _known(
        self,
        value: ast.Node,
        level: Level,
        order: Sequence[ast.Node],
        *,
        texts: bool = True,
        grouped: bool = False,
    ) -> bool:
        """Whether the value (its text) is the same in rows that are equal in these."""
        if isinstance(value, ast.SubLink) or id(value) in level.opaque:
            return False
        groups = () if grouped else level.statement.groupClause or ()
        exact = {same_as(o, level) for o in order if not self._several(o, level)}
        alike = exact if texts else {same_as(o, level) for o in order}
        if same_as(value, level) in alike:
            return True
        text = _text_of(value, level)
        if texts and text & {same_as(o, level) for o in order}:
            return not self._blank(value, level)
        if isinstance(value, ast.ColumnRef):
            found = lookup(value, level)
            if found is None or found[1] is None:
                return False
            item, _ = found
            if item.leaf.level is not level:
                return True  # from outside: one value for all of the rows
            return one_row(item, _closed([*order, *groups], level))
        parts = list(_parts(value))
        return all(
            self._known(p, level, order, texts=texts, grouped=grouped) for p in parts
        )


def _column(readings: Sequence[Reading]) -> Ref | None:
    """The one column of a table that an expression is; of a union it is several."""
    return readings[0].plain if len(readings) == 1 else None


def _selects(level: Level) -> Iterator[Level]:
    """The selects that a union is made of."""
    for branch in level.branches:
        yield from _selects(branch) if branch.branches else (branch,)


def _closed(values: Sequence[ast.Node], level: Level) -> Known:
    known: Known = set()
    for value in values:
        add_column(value, level, known)
    return closed(level, known)


def _text_of(value: ast.Node, level: Level) -> set[str]:
    """How the text of an expression may be written in an order."""
    text = ast.TypeName(names=(ast.String(sval="text"),), typemod=-1)
    cast = ast.TypeCast(arg=value, typeName=text)
    plain = ast.CollateClause(arg=value, collname=(ast.String(sval="C"),))
    return {same_as(cast, level), same_as(plain, level)}


def _parts(value: ast.Node) -> Iterator[ast.Node]:
    """The expressions directly in one, constants left out."""
    inner = iter(walk(value))
    next(inner)
    skip: set[int] = set()
    for node in inner:
        if id(node) in skip:
            continue
        if isinstance(node, ast.ColumnRef | ast.SubLink | ast.FuncCall | ast.TypeCast):
            skip |= {id(n) for n in walk(node)}
            yield node


def _values(value: ast.Node) -> Iterator[ast.Node]:
    """An output and the expressions in it, but for arguments of calls and casts."""
    yield value
    if not isinstance(value, ast.FuncCall | ast.TypeCast | ast.SubLink):
        for part in _parts(value):
            yield from _values(part)
