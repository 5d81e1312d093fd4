"""From a changed row of one occurrence to the rows of another that it meets.

An edge x → y is a condition between the two. It is one only if

    it filters x            where nothing satisfies it, x contributes nothing
    its columns pass        x is not hidden behind a group, window or limit that means
                            something else by them
    y is there              y cannot be null-extended there, or the condition fails
                            for its nulls

The one thing to know: the two directions of a condition are two edges, and often only
one of them is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, NullTestType

from bridge.catalog import Catalog
from bridge.derive.levels.model import (
    Condition,
    Occurrence,
    Query,
    null_extended,
    roof,
)
from bridge.derive.levels.nulls import Nulls
from bridge.derive.levels.resolve import Reading, Ref, expand, occurrences
from bridge.derive.levels.rules import Rule, Rules
from bridge.derive.levels.safety import safe


@dataclass(frozen=True, slots=True)
class Link:
    """One condition as an edge."""

    value: ast.Node
    """In terms of occurrences."""
    refs: tuple[Ref, ...]
    equal: tuple[str, str] | None
    """For `x.a = y.b` the two columns, that of x first."""


@dataclass(frozen=True, slots=True)
class Edge:
    """All conditions that lead from one occurrence to another."""

    source: Occurrence
    target: Occurrence
    links: tuple[Link, ...]

    @property
    def equals(self) -> tuple[tuple[str, str], ...]:
        """The pairs of columns that it equates."""
        return tuple(link.equal for link in self.links if link.equal is not None)


def edges(query: Query, nulls: Nulls, rules: Rules) -> list[Edge]:
    """Every edge of the query, in the order of its conditions."""
    found: dict[tuple[int, int], tuple[Occurrence, Occurrence, list[Link]]] = {}
    for condition in query.conditions:
        for reading in expand(condition.value, condition.level):
            for source, target, link in _edges_of(condition, reading, nulls, rules):
                place = (id(source), id(target))
                found.setdefault(place, (source, target, []))[2].append(link)
    return [Edge(x, y, _chosen(links)) for x, y, links in found.values()]


def _edges_of(
    condition: Condition, reading: Reading, nulls: Nulls, rules: Rules
) -> Iterator[tuple[Occurrence, Occurrence, Link]]:
    both = occurrences(reading.refs)
    if len(both) != 2 or not safe(reading, nulls.catalog):
        return
    for source, target in (both, both[::-1]):
        if not filters(condition, reading, source, rules):
            continue
        if not _is_there(condition, target, nulls, rules):
            continue
        yield (
            source,
            target,
            Link(reading.value, reading.refs, _equal(reading, source)),
        )


def may_fail(query: Query, source: Occurrence, catalog: Catalog) -> bool:
    """Whether a condition is no edge only since an expression in it may fail."""
    for condition in query.conditions:
        for reading in expand(condition.value, condition.level):
            both = occurrences(reading.refs)
            if len(both) == 2 and source in both and not safe(reading, catalog):
                return True
    return False


def filters(
    condition: Condition, reading: Reading, source: Occurrence, rules: Rules
) -> bool:
    """Where nothing satisfies the condition, rows of `source` contribute nothing."""
    own = [ref for ref in reading.refs if ref.occurrence is source]
    if Rule.BARRIERS in rules and not all(ref.passes for ref in own):
        return False
    leaf = source.leaf
    if Rule.FILTERS in rules and not leaf.within(roof(condition.place)):
        return False
    if Rule.BRANCHES not in rules:
        return True
    return all(leaf.within(branch) for branch in reading.branches)


def _is_there(
    condition: Condition, target: Occurrence, nulls: Nulls, rules: Rules
) -> bool:
    if Rule.STRICT not in rules:
        return True
    return all(
        nulls.rejects(condition.value, condition.level, join)
        for join in null_extended(target.leaf, condition.place.node)
    )


def _equal(reading: Reading, source: Occurrence) -> tuple[str, str] | None:
    value = reading.value
    if not isinstance(value, ast.A_Expr) or len(reading.refs) != 2:
        return None
    plain = isinstance(value.lexpr, ast.ColumnRef) and isinstance(
        value.rexpr, ast.ColumnRef
    )
    names = [str(n.sval) for n in value.name or ()]
    if not plain or value.kind != A_Expr_Kind.AEXPR_OP or names[-1] != "=":
        return None
    first, second = reading.refs
    if first.occurrence is not source:
        first, second = second, first
    return first.column, second.column


def _chosen(links: list[Link]) -> tuple[Link, ...]:
    """Equalities where there are any: fast, and the fewest old values in the log."""
    equal = {link.equal: link for link in links if link.equal is not None}
    return tuple(equal.values()) or tuple(links[:1])


def null_safe(value: ast.Node) -> bool:
    """Whether it is `a is not distinct from b`."""
    return (
        isinstance(value, ast.A_Expr)
        and value.kind == A_Expr_Kind.AEXPR_NOT_DISTINCT
        and value.lexpr is not None
    )


def spelled(value: ast.Node) -> ast.Node:
    """`is not distinct from`, which no index serves, in words that one does."""
    if isinstance(value, ast.BoolExpr) and value.boolop == BoolExprType.NOT_EXPR:
        [inner] = value.args or (None,)
        if isinstance(inner, ast.A_Expr) and inner.kind == A_Expr_Kind.AEXPR_DISTINCT:
            return _either(inner)
    if null_safe(value):
        assert isinstance(value, ast.A_Expr)
        return _either(value)
    return value


def _either(compared: ast.A_Expr) -> ast.Node:
    left, right = compared.lexpr, compared.rexpr
    equal = ast.A_Expr(
        kind=A_Expr_Kind.AEXPR_OP, name=compared.name, lexpr=left, rexpr=right
    )
    missing = ast.BoolExpr(
        boolop=BoolExprType.AND_EXPR,
        args=tuple(
            ast.NullTest(arg=side, nulltesttype=NullTestType.IS_NULL, argisrow=False)
            for side in (left, right)
            if isinstance(side, ast.Node)
        ),
    )
    return ast.BoolExpr(boolop=BoolExprType.OR_EXPR, args=(equal, missing))
