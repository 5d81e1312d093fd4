"""Whether an expression is null, or a condition fails, where an outer join found none.

    null_below(value, level, join)   the expression is null in rows that `join` nulled
    rejects(value, level, join)      the condition is not true in such rows

The one thing to know: this is asked of the query as it is written, level by level:
`coalesce(u.x, 0)` inside a derived table is null like all else where the derived table
as a whole is the nullable side, and is not where the outer join is inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, NullTestType

from bridge.catalog import Catalog
from bridge.derive.levels.model import Arm, Condition, Derived, Level, Node, Query, roof
from bridge.derive.levels.resolve import expand, lookup, outputs_of


@dataclass(frozen=True, slots=True)
class Nulls:
    """The questions, for one catalog's knowledge of what is strict."""

    catalog: Catalog

    def rejects(self, value: ast.Node, level: Level, join: Node) -> bool:
        """The condition is false or null wherever `join` nulled its nullable side."""
        match value:
            case ast.BoolExpr(boolop=BoolExprType.AND_EXPR):
                return any(self.rejects(v, level, join) for v in value.args or ())
            case ast.BoolExpr(boolop=BoolExprType.OR_EXPR):
                return all(self.rejects(v, level, join) for v in value.args or ())
            case ast.NullTest(nulltesttype=NullTestType.IS_NOT_NULL):
                return value.arg is not None and self.null(value.arg, level, join)
            case ast.A_Expr(kind=A_Expr_Kind.AEXPR_OP_ANY):  # of none: false
                tested = value.lexpr
                return (
                    isinstance(tested, ast.Node)
                    and self._strict_operator(value)
                    and self.null(tested, level, join)
                )
        return self.null(value, level, join)

    def null(self, value: ast.Node, level: Level, join: Node) -> bool:
        """The expression is null wherever `join` nulled its nullable side."""
        match value:
            case ast.ColumnRef():
                return self._column(value, level, join)
            case ast.TypeCast() if self.catalog.loose_casts:
                return False  # which cast it is, the query does not tell
            case ast.TypeCast() | ast.CollateClause():
                return value.arg is not None and self.null(value.arg, level, join)
            case ast.BoolExpr(boolop=BoolExprType.NOT_EXPR):
                return any(self.null(v, level, join) for v in value.args or ())
            case ast.BoolExpr():
                return all(self.null(v, level, join) for v in value.args or ())
            case ast.A_Expr(kind=kind) if kind in _COMPARED:
                if not self._strict_operator(value):
                    return False
                sides = (value.lexpr, value.rexpr)
                if kind == A_Expr_Kind.AEXPR_IN:
                    sides = (value.lexpr, None)  # one null in the list is not all
                return any(
                    isinstance(s, ast.Node) and self.null(s, level, join) for s in sides
                )
            case ast.FuncCall():
                names = [str(n.sval) for n in value.funcname or ()]
                schema = "pg_catalog" if len(names) == 1 else names[-2]
                known = self.catalog.function_names.get((schema, names[-1]))
                if id(value) in level.opaque or known is None or not known.strict:
                    return False
                return any(self.null(a, level, join) for a in value.args or ())
        return False

    def _strict_operator(self, value: ast.A_Expr) -> bool:
        names = [str(n.sval) for n in value.name or ()]
        schema = "pg_catalog" if len(names) == 1 else names[-2]
        known = self.catalog.operator_names.get((schema, names[-1]))
        if names[-1] == "<>" and known is None:
            known = self.catalog.operator_names.get((schema, "="))
        return known is not None and known.strict

    def _column(self, ref: ast.ColumnRef, level: Level, join: Node) -> bool:
        found = lookup(ref, level)
        if found is None:
            return False
        item, column = found
        if column is None:
            return False
        [nullable] = [n for n in join.children if n.arm is Arm.NULLABLE]
        if item.leaf.within(nullable):
            return True
        if isinstance(item, Derived) and join.within(item.leaf):
            return any(
                join.within(body.top) and self._output(output.value, index, body, join)
                for output, index, body in outputs_of(item, column)
            )
        return False

    def _output(self, value: ast.Node, index: int, body: Level, join: Node) -> bool:
        """A group's column is null where its rows' are; an aggregate may be any."""
        if body.passing is not None and index not in body.passing:
            return False
        return self.null(value, body, join)


_COMPARED = (
    A_Expr_Kind.AEXPR_OP,
    A_Expr_Kind.AEXPR_IN,
    A_Expr_Kind.AEXPR_LIKE,
    A_Expr_Kind.AEXPR_ILIKE,
)


def reduce_outer_joins(query: Query, nulls: Nulls) -> None:
    """Make an outer join an inner one where a condition above it fails for its nulls.

    Each that is made one may let a condition reach higher, so until nothing changes.
    """
    conditions = list(query.conditions)
    joins = [j for level in query.levels for j in _joins(level.top) if j.outer]
    changed = True
    while changed:
        changed = False
        for join in joins:
            if join.outer and any(_above(c, join, nulls) for c in conditions):
                join.outer = False
                changed = True


def _joins(node: Node) -> list[Node]:
    found = [node] if node.outer else []
    for child in node.children:
        if child.arm not in (Arm.DERIVED, Arm.SEMI, Arm.OTHER, Arm.BRANCH):
            found += _joins(child)
    return found


def _above(condition: Condition, join: Node, nulls: Nulls) -> bool:
    """The condition filters the rows of the join, and fails for those it nulled."""
    place = condition.place
    if place.node.within(join):
        return False  # it belongs to the join itself, or stands beneath it
    if not join.within(roof(place)):
        return False
    if not nulls.rejects(condition.value, condition.level, join):
        return False
    return _reaches(condition, join)


def _reaches(condition: Condition, join: Node) -> bool:
    """Every level between speaks for its rows: the columns named come out of it."""
    between = [
        node.level
        for node in join.up()
        if node.parent is not None
        and node.arm is Arm.DERIVED
        and not condition.place.node.within(node)
    ]
    if any(level.limited for level in between):
        return False
    if any(
        n.arm is Arm.BRANCH for n in join.up() if not condition.place.node.within(n)
    ):
        return False
    if all(level.passing is None for level in between):
        return True
    readings = expand(condition.value, condition.level)
    return bool(readings) and all(
        ref.passes
        for reading in readings
        for ref in reading.refs
        if ref.occurrence.leaf.within(join)
    )
