"""Expressions that give the same for equal values, however these are written.

`a = b` and `a > 1` do, whatever the type; `a::text`, `a || b` and `lower(a)` may not:
citext `A` and `a` are equal, numeric 1.0 and 1.00 are.

The one thing to know: what is not known here is said to see the difference.
"""

from __future__ import annotations

from pglast import ast
from pglast.enums import A_Expr_Kind

_COMPARES = frozenset("= <> < > <= >=".split())
_KINDS = (
    A_Expr_Kind.AEXPR_OP,
    A_Expr_Kind.AEXPR_OP_ANY,
    A_Expr_Kind.AEXPR_OP_ALL,
    A_Expr_Kind.AEXPR_IN,
    A_Expr_Kind.AEXPR_DISTINCT,
    A_Expr_Kind.AEXPR_NOT_DISTINCT,
)
_NUMBERS = frozenset("int2 int4 int8 numeric float4 float8".split())


def blind(value: object) -> bool:
    """Whether equal values in it give an equal value."""
    match value:
        case None | ast.ColumnRef() | ast.A_Const():
            return True
        case tuple() | list():
            return all(map(blind, value))
        case ast.TypeCast(arg=ast.A_Const()):
            return True
        case ast.TypeCast(typeName=ast.TypeName(names=names, arrayBounds=more)):
            name = str((names or ())[-1].sval)
            return not more and name in _NUMBERS and blind(value.arg)
        case ast.CoalesceExpr() | ast.BoolExpr() | ast.RowExpr():
            return blind(value.args)
        case ast.NullTest() | ast.BooleanTest():
            return blind(value.arg)
        case ast.A_ArrayExpr():
            return blind(value.elements)
        case ast.CaseExpr():
            return blind((value.arg, value.args, value.defresult))
        case ast.CaseWhen():
            return blind((value.expr, value.result))
        case ast.A_Expr(name=names, kind=kind):
            compares = str((names or ())[-1].sval) in _COMPARES and kind in _KINDS
            return compares and blind((value.lexpr, value.rexpr))
    return False
