"""Expressions that cannot fail, whatever the row.

The one thing to know: in a key query a condition is asked of rows that the view's
other conditions would have kept from it. `ref::int` fails there on the first text that
is no number, and takes the keys of all other rows with it.
"""

from __future__ import annotations

from pglast import ast
from pglast.enums import A_Expr_Kind

from bridge.catalog import Catalog, Type
from bridge.derive.levels.resolve import Reading
from bridge.derive.parse import walk

FUNCTIONS = frozenset(
    "lower upper btrim ltrim rtrim concat md5 length char_length starts_with "
    "greatest least".split()
)
OPERATORS = frozenset("= <> < > <= >= || && @> <@".split())
_KINDS = (
    A_Expr_Kind.AEXPR_OP,
    A_Expr_Kind.AEXPR_OP_ANY,
    A_Expr_Kind.AEXPR_IN,
    A_Expr_Kind.AEXPR_DISTINCT,
    A_Expr_Kind.AEXPR_NOT_DISTINCT,
    A_Expr_Kind.AEXPR_NULLIF,
)
_NODES = (
    ast.ColumnRef,
    ast.A_Const,
    ast.String,
    ast.Integer,
    ast.Float,
    ast.Boolean,
    ast.CoalesceExpr,
    ast.BoolExpr,
    ast.NullTest,
    ast.BooleanTest,
    ast.TypeName,
    ast.TypeCast,
    ast.CollateClause,
    ast.A_Expr,
    ast.FuncCall,
    ast.A_ArrayExpr,
    ast.MinMaxExpr,
    ast.RowExpr,
    ast.CaseExpr,
    ast.CaseWhen,
    ast.A_Indirection,  # what is not in an array, or in no row, is null
    ast.A_Indices,
)
_TEXTS = frozenset({"text", "varchar", "bpchar", "citext"})
_WHOLE = {"int2": 0, "int4": 1, "int8": 2, "numeric": 3, "float8": 4}
"""Numbers by what they hold: every one holds those before it."""


def safe(reading: Reading, catalog: Catalog) -> bool:
    """Whether the expression gives a value for every row there can be."""
    types = {
        (ref.occurrence.alias, ref.column): catalog.base_type(
            ref.occurrence.table.column(ref.column).type_oid
        )
        for ref in reading.refs
    }
    return all(_safe(node, types) for node in walk(reading.value))


def _safe(node: ast.Node, types: dict[tuple[str, str], Type]) -> bool:
    if not isinstance(node, _NODES):
        return False
    match node:
        case ast.FuncCall():
            names = [str(n.sval) for n in node.funcname or ()]
            return names[-1] in FUNCTIONS and len(names) == 1
        case ast.A_Expr():
            names = [str(n.sval) for n in node.name or ()]
            return names[-1] in OPERATORS and node.kind in _KINDS
        case ast.TypeCast():
            return _safe_cast(node, types)
    return True


def _safe_cast(cast: ast.TypeCast, types: dict[tuple[str, str], Type]) -> bool:
    value, to = cast.arg, cast.typeName
    if isinstance(value, ast.A_Const):
        return True  # Postgres has read it already
    if to is None or to.arrayBounds:
        return False
    name = str((to.names or ())[-1].sval)
    if name in _TEXTS:
        return True
    if name not in _WHOLE or not isinstance(value, ast.ColumnRef):
        return False
    alias, column = (str(f.sval) for f in value.fields or ())
    of = types[alias, column].name
    return of in _WHOLE and _WHOLE[of] <= min(_WHOLE[name], _WHOLE["int8"])
