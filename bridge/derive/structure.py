"""What is in the JSON that a query builds.

`json_agg(json_build_object('rating', r.rating))` is an array of objects with a rating:
the parts are followed down to expressions, and Postgres is asked what type each of
those has, by a query that gives just that expression in its place.

The one thing to know: it is asked beforehand (`questions`), so that planning stays a
function of the catalog; what has no answer is JSON of unknown content.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TypeAlias

from pglast import ast
from pglast.enums import SubLinkType

from bridge.catalog import Catalog
from bridge.derive.levels import Level, Occurrence, Query
from bridge.derive.levels.model import Derived, Item
from bridge.derive.levels.resolve import lookup, outputs_of, printed
from bridge.derive.shapes import type_shape
from bridge.shape import Kind, TypeShape

Answers: TypeAlias = Mapping[str, "tuple[int, int]"]
"""Type and modifier of the one column of each query that was asked."""

UNKNOWN = TypeShape(Kind.JSON, "json")
_OBJECTS = ("json_build_object", "jsonb_build_object")
_ARRAYS = ("json_build_array", "jsonb_build_array")
_GATHERED = ("json_agg", "jsonb_agg", "json_agg_strict", "jsonb_agg_strict")
_SAME = (
    "row_to_json",
    "to_json",
    "to_jsonb",
    "array_to_json",
    "json_strip_nulls",
    "jsonb_strip_nulls",
)
DEPTH_MAX = 32


@dataclass(slots=True)
class Structures:
    """Shapes of JSON expressions of one query."""

    query: Query
    catalog: Catalog
    answers: Answers
    questions: dict[str, None] = field(default_factory=dict)
    """Queries whose column types were asked for, in order."""

    def of(self, value: ast.Node, level: Level) -> TypeShape:
        """The shape of one expression of a level."""
        return self._of(value, level, raw=False, depth=0)

    def _of(
        self, value: ast.Node | None, level: Level, *, raw: bool, depth: int
    ) -> TypeShape:
        if depth > DEPTH_MAX or value is None:
            return UNKNOWN
        match value:
            case ast.FuncCall():
                return self._call(value, level, raw=raw, depth=depth)
            case ast.CoalesceExpr():
                choices: list[ast.Node] = list(value.args or ())
                return self._first(choices, level, raw=raw, depth=depth)
            case ast.CaseExpr():
                results = [w.result for w in value.args or ()]
                if value.defresult is not None:
                    results.append(value.defresult)
                return self._first(results, level, raw=raw, depth=depth)
            case ast.TypeCast() if _to_json(value) and not _is_constant(value.arg):
                return self._of(value.arg, level, raw=raw, depth=depth + 1)
            case ast.SubLink(subLinkType=kind) if kind in _SELECTED:
                return self._select(value, depth)
            case ast.ColumnRef():
                return self._name(value, level, raw=raw, depth=depth)
            case ast.JsonObjectConstructor():
                pairs = [
                    (p.key, p.value.raw_expr)
                    for p in value.exprs or ()
                    if p.value is not None
                ]
                return self._object(pairs, level, raw=raw, depth=depth)
        return self._asked(value, level, raw=raw)

    def _call(
        self, call: ast.FuncCall, level: Level, *, raw: bool, depth: int
    ) -> TypeShape:
        names = [str(part.sval) for part in call.funcname or ()]
        args: list[ast.Node] = list(call.args or ())
        if len(names) > 1 or not args:
            return self._asked(call, level, raw=raw)
        if names[-1] in _OBJECTS and not call.func_variadic:
            pairs = list(zip(args[::2], args[1::2], strict=False))
            return self._object(pairs, level, raw=raw, depth=depth)
        if names[-1] in _ARRAYS and not call.func_variadic:
            parts = {self._of(a, level, raw=raw, depth=depth + 1) for a in args}
            return _array(parts.pop() if len(parts) == 1 else UNKNOWN)
        if names[-1] in _GATHERED and call.over is None:
            return _array(self._of(args[0], level, raw=True, depth=depth + 1))
        if names[-1] == "array_agg" and call.over is None:
            inner = self._of(args[0], level, raw=True, depth=depth + 1)
            if inner.kind in (Kind.OBJECT, Kind.ARRAY):
                return _array(inner)
        if names[-1] in _SAME:
            return self._of(args[0], level, raw=raw, depth=depth + 1)
        return self._asked(call, level, raw=raw)

    def _object(
        self,
        pairs: list[tuple[ast.Node, ast.Node]],
        level: Level,
        *,
        raw: bool,
        depth: int,
    ) -> TypeShape:
        members: dict[str, TypeShape] = {}
        for key, value in pairs:
            name = _text(key)
            if name is None:
                return UNKNOWN  # a name that only the row tells
            members[name] = self._of(value, level, raw=raw, depth=depth + 1)
        return _object(members)

    def _first(
        self, values: list[ast.Node], level: Level, *, raw: bool, depth: int
    ) -> TypeShape:
        """Of alternatives that which tells most: constants tell nothing of JSON."""
        shapes = [
            self._of(value, level, raw=raw, depth=depth + 1)
            for value in values
            if not _is_constant(value)
        ]
        known = list(dict.fromkeys(s for s in shapes if s != UNKNOWN))
        return known[0] if len(known) == 1 else UNKNOWN

    def _select(self, link: ast.SubLink, depth: int) -> TypeShape:
        level = next(
            (x for x in self.query.levels if x.statement is link.subselect), None
        )
        if level is None:
            return UNKNOWN
        shape = self._output(level, 0, depth)
        return _array(shape) if link.subLinkType == SubLinkType.ARRAY_SUBLINK else shape

    def _output(self, level: Level, index: int, depth: int) -> TypeShape:
        while level.branches:
            level = level.branches[0]
        if index >= len(level.outputs):
            return UNKNOWN
        value = level.outputs[index].value
        return self._of(value, level, raw=False, depth=depth + 1)

    def _name(
        self, ref: ast.ColumnRef, level: Level, *, raw: bool, depth: int
    ) -> TypeShape:
        found = lookup(ref, level)
        if found is None:
            return self._asked(ref, level, raw=raw)
        item, column = found
        if column is None:
            return self._row(item, depth)
        if isinstance(item, Occurrence):
            source = item.source(column)
            if source is None:
                return self._asked(ref, level, raw=raw)
            of = item.table.column(source)
            return type_shape(self.catalog.types, of.type_oid, of.modifier)
        if isinstance(item, Derived):
            for output, _, body in outputs_of(item, column):
                return self._of(output.value, body, raw=False, depth=depth + 1)
        return self._asked(ref, level, raw=raw)

    def _row(self, item: Item, depth: int) -> TypeShape:
        if isinstance(item, Occurrence):
            shapes = {
                name: type_shape(self.catalog.types, c.type_oid, c.modifier)
                for name, c in zip(item.columns, item.table.columns, strict=False)
            }
            return _object(shapes)
        if isinstance(item, Derived):
            names = enumerate(item.columns)
            return _object({n: self._output(item.body, i, depth) for i, n in names})
        return UNKNOWN

    def asked(self, value: ast.Node, level: Level) -> tuple[int, int] | None:
        """Type and modifier of an aggregate's argument; None when it is not known."""
        return self._answer(_question(value, level, raw=True))

    def _answer(self, question: str) -> tuple[int, int] | None:
        self.questions[question] = None
        answer = self.answers.get(question)
        if answer is None or answer[0] not in self.catalog.types:
            return None
        return answer

    def _asked(self, value: ast.Node, level: Level, *, raw: bool) -> TypeShape:
        answer = self._answer(_question(value, level, raw=raw))
        return UNKNOWN if answer is None else type_shape(self.catalog.types, *answer)


_SELECTED = (SubLinkType.EXPR_SUBLINK, SubLinkType.ARRAY_SUBLINK)


def _array(element: TypeShape) -> TypeShape:
    return TypeShape(Kind.ARRAY, "json", element=element)


def _object(members: Mapping[str, TypeShape]) -> TypeShape:
    return TypeShape(Kind.OBJECT, "json", members=tuple(members.items()))


def _to_json(cast: ast.TypeCast) -> bool:
    names = [str(n.sval) for n in (cast.typeName and cast.typeName.names) or ()]
    return names[-1:] in (["json"], ["jsonb"])


def _is_constant(value: object) -> bool:
    while isinstance(value, ast.TypeCast):
        value = value.arg
    return isinstance(value, ast.A_Const)


def _text(value: ast.Node) -> str | None:
    """A constant text, however it is cast."""
    inner: object = value
    while isinstance(inner, ast.TypeCast):
        inner = inner.arg
    if isinstance(inner, ast.A_Const) and isinstance(inner.val, ast.String):
        return str(inner.val.sval)
    return None


def _question(value: ast.Node, level: Level, *, raw: bool) -> str:
    """A query whose one column is the expression, in the place where it stands.

    `raw` for an argument of an aggregate: it is of the rows before they are grouped.
    """
    statement = copy(level.statement)
    statement.targetList = (ast.ResTarget(name="value", val=value),)
    statement.sortClause = None
    statement.distinctClause = None
    if raw:
        statement.groupClause = None
        statement.havingClause = None
    if level.parent is None:
        return printed(statement)
    inside = ast.SubLink(subLinkType=SubLinkType.EXPR_SUBLINK, subselect=statement)
    return _question(inside, level.parent, raw=False)
