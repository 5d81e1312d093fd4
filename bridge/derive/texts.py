"""Whether a query makes texts of numbers, or quotients, out of values that were chosen.

`max(n)` of 1.0 and 1.00 is either: as numbers in JSON they are one. `max(n)::text` is
not one text, and `max(n) / 3` has as many digits as the one that was taken.

The one thing to know: values are chosen by `min`, `max`, groups, `distinct`, `limit`
and unions; a column of a row is not, whatever is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast

from bridge.derive.levels import Level, Occurrence, Query
from bridge.derive.levels.barriers import called, calls
from bridge.derive.levels.resolve import expand, lookup

CHOOSES = frozenset("min max mode percentile_disc".split())
"""Aggregates that give one of the values."""
_NUMBERS = frozenset("int2 int4 int8 float4 float8 numeric oid bool json jsonb".split())
_SCALES = frozenset(("/", "||", "->>", "#>>", "^", "%"))
_KEEPS = frozenset(
    "json_build_object jsonb_build_object json_build_array jsonb_build_array to_json "
    "to_jsonb row_to_json json_agg jsonb_agg array_agg json_agg_strict "
    "jsonb_agg_strict json_object_agg jsonb_object_agg count sum avg min max round "
    "trunc ceil ceiling floor sign abs array_length cardinality".split()
)
"""Functions that make no texts of numbers, or ones of a scale of their own."""


def seen_as_texts(query: Query) -> Iterator[tuple[ast.Node, Level]]:
    """Chosen values of which the query makes a text or a quotient, with their place."""
    for level in query.levels:
        statement = level.statement
        own = (
            statement.targetList,
            statement.havingClause,
            statement.sortClause,
            [c.value for c in level.conditions],
        )
        for node in own_nodes(own):
            for value in _texted(node):
                if _chosen(value, level):
                    yield value, level


def own_nodes(value: object) -> Iterator[ast.Node]:
    """The nodes of a level's own expressions, without those of other selects."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from own_nodes(item)
    elif isinstance(value, ast.Node) and not isinstance(value, ast.SelectStmt):
        yield value
        for name in value:
            yield from own_nodes(getattr(value, name))


def _texted(node: ast.Node) -> list[ast.Node]:
    """What the node makes a text or a quotient of."""
    match node:
        case ast.TypeCast(arg=value, typeName=to) if isinstance(value, ast.Node):
            names = [str(n.sval) for n in (to and to.names) or ()]
            return [] if names[-1:] and names[-1] in _NUMBERS else [value]
        case ast.A_Expr(lexpr=left, rexpr=right):
            names = [str(n.sval) for n in node.name or ()]
            sides = [side for side in (left, right) if isinstance(side, ast.Node)]
            return sides if names[-1] in _SCALES else []
        case ast.FuncCall() if called(node) not in _KEEPS:
            return [a for a in node.args or () if isinstance(a, ast.Node)]
    return []


def _chosen(value: ast.Node, level: Level) -> bool:
    """Whether it is made of something that was chosen among equal values."""
    if isinstance(value, ast.A_Const):
        return False
    inside = {id(n) for call in calls(value) for n in own_nodes(call.args)}
    if any(called(call) in CHOOSES for call in calls(value)):
        return True
    for node in own_nodes(value):
        if isinstance(node, ast.SubLink):
            return True
        if not isinstance(node, ast.ColumnRef):
            continue
        found = lookup(node, level)
        if found is None:
            return True
        item, _ = found
        gathers = item.leaf.level.grouped and id(node) not in inside
        if isinstance(item, Occurrence):
            if gathers:
                return True
            continue
        readings = expand(node, level)
        plain = readings and all(
            reading.plain is not None
            and not any(_chooses(crossed) for crossed in reading.refs[0].crossed)
            for reading in readings
        )
        if gathers or not plain:
            return True
    return False


def _chooses(level: Level) -> bool:
    return level.grouped or level.limited or bool(level.branches)
