"""Which outputs of a level have one text for equal values.

A level that groups, partitions or is distinct by citext takes `A` and `a` for one, and
a condition above it that tells them apart speaks of one of its rows and not of those
beside which that was chosen.

The one thing to know: where that is not known, it is denied. A condition of the level's
column itself, by `=`, needs none of this: it cannot tell them apart either.
"""

from __future__ import annotations

from pglast import ast
from pglast.enums import A_Expr_Kind

from bridge.catalog import Catalog
from bridge.derive.levels.model import Level
from bridge.derive.levels.resolve import Reading, expand
from bridge.derive.levels.safety import FUNCTIONS, OPERATORS
from bridge.derive.parse import walk

_SEVERAL = frozenset("numeric float4 float8 interval bpchar jsonb record".split())
"""Built-in types with equal values of several texts."""
_EXTENSIONS = frozenset("ltree hstore".split())
"""Types of extensions whose equal values have one text."""
_WHOLE = frozenset("int2 int4 int8".split())
_CASTS = _WHOLE | frozenset("text varchar bool date timestamp timestamptz uuid".split())
"""What gives one text for equal values, whatever was cast."""
_ARITHMETIC = frozenset("+ - * / %".split())
"""Of whole numbers."""


def several_texts(catalog: Catalog, oid: int, modifier: int, *, plain: bool) -> bool:
    """Whether equal values of the type may have several texts.

    `plain`: equal texts of its collation are the same text.
    """
    of = catalog.types.get(oid)
    if of is None:
        return False
    if of.kind == "d":
        return several_texts(catalog, of.base, of.base_modifier, plain=plain)
    if of.is_array or of.kind in "rm":
        inner = of.element
        if of.kind == "m" and not inner:
            return of.name == "nummultirange"
        return several_texts(catalog, inner, modifier, plain=plain)
    if of.kind == "c":
        return any(
            several_texts(catalog, member, more, plain=True)
            for _, member, more in of.members
        )
    if of.schema != "pg_catalog":
        return of.kind != "e" and of.name not in _EXTENSIONS
    if of.name == "numeric":
        return modifier < 0  # with a scale of its own, all have that many digits
    if of.name == "bpchar" and modifier > 0:
        return not plain
    return of.name in _SEVERAL or not plain


def alike(level: Level, catalog: Catalog) -> frozenset[int]:
    """The outputs of a level of which equal values always have one text."""
    if level.branches:  # what it gives is theirs, in their scopes
        return frozenset.intersection(*(alike(b, catalog) for b in level.branches))
    return frozenset(
        index
        for index, output in enumerate(level.outputs)
        if (readings := expand(output.value, level))
        and all(_has_one_text(reading, catalog) for reading in readings)
    )


def _has_one_text(reading: Reading, catalog: Catalog) -> bool:
    whole = True
    for ref in reading.refs:
        column = ref.occurrence.table.column(ref.column)
        of, more, plain = column.type_oid, column.modifier, column.deterministic
        if several_texts(catalog, of, more, plain=plain):
            return False
        whole = whole and catalog.base_type(of).name in _WHOLE
    return all(_keeps(node, whole=whole) for node in walk(reading.value))


def _keeps(node: ast.Node, *, whole: bool) -> bool:
    """Whether the expression makes no value that has several texts of some that have
    one each."""
    match node:
        case ast.Float() | ast.CollateClause():
            return False
        case ast.FuncCall():
            names = [str(n.sval) for n in node.funcname or ()]
            return names[-1] in FUNCTIONS and len(names) == 1
        case ast.A_Expr():
            operators = OPERATORS | _ARITHMETIC if whole else OPERATORS
            names = [str(n.sval) for n in node.name or ()]
            return names[-1] in operators or node.kind != A_Expr_Kind.AEXPR_OP
        case ast.TypeCast(typeName=ast.TypeName(names=names)):
            return str((names or ())[-1].sval) in _CASTS
    return True
