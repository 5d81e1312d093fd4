"""Common table expressions: which of them a name means, and which nothing refers to.

The one thing to know: an expression sees those before it and what is around the select
that it belongs to, wherever it is referred to from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pglast import ast

from bridge.catalog import Catalog
from bridge.derive.levels.model import Level
from bridge.derive.parse import walk
from bridge.derive.places import NamedRefusal


@dataclass(frozen=True, slots=True)
class Scope:
    """Common table expressions by name, each with the scope it is defined in."""

    expressions: Mapping[str, Expression] = field(default_factory=dict)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Expression:
    """One common table expression, and what it can name itself."""

    definition: ast.CommonTableExpr
    around: Scope
    parent: Level | None


def opened(
    statement: ast.SelectStmt, level: Level, scope: Scope, defined: list[Expression]
) -> Scope:
    """The scope inside a select: with its own `with`, which is noted in `defined`."""
    clause = statement.withClause
    if clause is None:
        return scope
    expressions = dict(scope.expressions)
    for expression in clause.ctes or ():
        if clause.recursive and _names_itself(expression):
            raise NamedRefusal(
                f"the recursive query {expression.ctename} cannot be followed from a "
                "changed row",
                hint="keep the path or the ancestors in a table of their own",
                words=(str(expression.ctename), "recursive"),
            )
        around = Scope(dict(expressions), scope.depth)
        made = Expression(expression, around, level.parent)
        expressions[str(expression.ctename)] = made
        defined.append(made)
    return Scope(expressions, scope.depth)


def _names_itself(expression: ast.CommonTableExpr) -> bool:
    return any(
        isinstance(node, ast.RangeVar)
        and node.schemaname is None
        and node.relname == expression.ctename
        for node in walk(expression.ctequery)
    )


def tables_of(expressions: Iterable[Expression], catalog: Catalog) -> frozenset[int]:
    """The tables and views that some expressions name, and those beneath the views."""
    found: set[int] = set()
    for expression in expressions:
        for node in walk(expression.definition.ctequery):
            if isinstance(node, ast.RangeVar) and node.schemaname is not None:
                relation = catalog.relation(node.schemaname, str(node.relname))
                found.add(relation.oid)
    waiting = list(found)
    while waiting:
        uses = catalog.view_uses.get(waiting.pop())
        if uses is not None:
            waiting += uses.relations - found
            found |= uses.relations
    return frozenset(found)
