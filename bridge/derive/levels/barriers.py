"""Which output columns of a level mean something outside it.

A level that groups, counts windows, is distinct or has a limit makes its rows out of
several: a condition on its output speaks of a row beneath it only where the column is
one that the level groups, partitions or is distinct by.

The one thing to know: with a `limit`, or an aggregate without `group by`, none is.
"""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import SetOperation

from bridge.catalog import Catalog
from bridge.derive.levels.alike import alike
from bridge.derive.levels.model import Level, Query
from bridge.derive.levels.resolve import lookup, same_as
from bridge.derive.levels.rules import Rule, Rules
from bridge.derive.parse import walk

NONE: frozenset[int] = frozenset()


def mark(query: Query, catalog: Catalog, rules: Rules) -> None:
    """Find out, for each level, its `passing`, `grouped`, `alike` and the rest."""
    functions = catalog.functions.values()
    names = {(f.schema, f.name) for f in functions if f.kind == "a"}
    several = {(f.schema, f.name) for f in functions if f.kind != "f" or f.returns_set}
    for level in query.levels:
        level.opaque = frozenset(
            id(node)
            for node in walk(level.statement)
            if isinstance(node, ast.FuncCall)
            and (node.over is not None or _name(node) in several)
        )
    aggregated = {
        id(level)
        for place in query.levels
        for call in _own_calls(place)
        if call.over is None and _name(call) in names
        for level in _owners(call, place)
    }
    for level in query.levels:
        _mark(level, aggregates=id(level) in aggregated)
        level.always = level.always and Rule.ALWAYS in rules
    for level in query.levels:
        if level.chooses:
            every = frozenset(range(len(level.outputs)))
            level.alike = alike(level, catalog) if Rule.TEXTS in rules else every


def _mark(level: Level, *, aggregates: bool) -> None:
    statement = level.statement
    level.limited = (
        statement.limitCount is not None or statement.limitOffset is not None
    )
    if level.branches:
        level.passing = NONE if level.limited else None
        level.grouped = not (statement.op == SetOperation.SETOP_UNION and statement.all)
        return
    groups = statement.groupClause or ()
    level.sets = any(isinstance(g, ast.GroupingSet) for g in groups)
    level.grouped = bool(groups) and not level.sets
    level.always = level.sets or (
        not statement.groupClause and (aggregates or statement.havingClause is not None)
    )
    if level.limited or level.always:
        level.passing = NONE
        return
    parts: list[frozenset[int]] = []
    if level.grouped:
        parts.append(_outputs(level, statement.groupClause or ()))
    parts += [_outputs(level, window) for window in _windows(statement)]
    distinct = statement.distinctClause
    if distinct is not None:
        level.grouped = True
        on = [value for value in distinct if value is not None]
        if on:
            parts.append(_outputs(level, on))
    if parts:
        level.passing = frozenset.intersection(*parts)


def _outputs(
    level: Level, values: tuple[ast.Node, ...] | list[ast.Node]
) -> frozenset[int]:
    """The outputs that are one of these expressions."""
    wanted = {same_as(value, level) for value in values}
    return frozenset(
        index
        for index, output in enumerate(level.outputs)
        if same_as(output.value, level) in wanted
    )


def _windows(statement: ast.SelectStmt) -> Iterator[list[ast.Node]]:
    """What each window call of the level partitions by."""
    named = {str(w.name): w for w in statement.windowClause or () if w.name}
    for call in calls((statement.targetList, statement.sortClause)):
        if call.over is not None:
            yield partition(call.over, named)


def partition(window: ast.WindowDef, named: dict[str, ast.WindowDef]) -> list[ast.Node]:
    """What a window partitions by, its own words and those of the one it extends."""
    below = window.refname or (window.name if not window.partitionClause else None)
    found = list(window.partitionClause or ())
    if below in named and named[below] is not window:
        found += partition(named[below], named)
    return found


def _own_calls(level: Level) -> Iterator[ast.FuncCall]:
    statement = level.statement
    yield from calls(
        (
            statement.targetList,
            statement.havingClause,
            statement.sortClause,
            statement.distinctClause,
        )
    )


def calls(value: object) -> Iterator[ast.FuncCall]:
    """Calls of functions, without those inside sub-selects."""
    if isinstance(value, ast.SubLink):
        yield from calls(value.testexpr)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from calls(item)
    elif isinstance(value, ast.Node):
        if isinstance(value, ast.FuncCall):
            yield value
        for name in value:
            yield from calls(getattr(value, name))


def called(call: ast.FuncCall) -> str:
    """The name of a call, its schema left out."""
    return [str(part.sval) for part in call.funcname or ()][-1]


def _name(call: ast.FuncCall) -> tuple[str, str]:
    names = [str(part.sval) for part in call.funcname or ()]
    return ("pg_catalog" if len(names) == 1 else names[-2], names[-1])


def _owners(call: ast.FuncCall, level: Level) -> Iterator[Level]:
    """The level that an aggregate belongs to: the innermost that its arguments name.

    One whose arguments name only tables further out aggregates there. The level in
    which it stands is given as well, which errs on the safe side.
    """
    yield level
    named = []
    arguments = (call.args, call.agg_filter, call.agg_order)
    for node in walk(arguments):
        if isinstance(node, ast.ColumnRef):
            found = lookup(node, level)
            if found is not None:
                named.append(found[0].leaf.level)
    for around in level.scope():
        if any(owner is around for owner in named):
            yield around
            return
