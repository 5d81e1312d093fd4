"""Whether an order leaves open which row comes first.

`limit`, `distinct on` and windows such as `row_number()` choose rows by an order. Where
two rows are equal in it, Postgres may choose either, and a document would change
without any row having changed.

The one thing to know: an order is total if its columns, with what the conditions make
equal to them or fix from outside, hold a unique key of every table in the select.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from pglast import ast
from pglast.enums import A_Expr_Kind, LimitOption

from bridge.derive.functions import BY_NAME, ORDER_FREE
from bridge.derive.levels.barriers import called, calls, partition
from bridge.derive.levels.model import (
    Derived,
    Item,
    Level,
    Node,
    Occurrence,
    Opaque,
    Query,
)
from bridge.derive.levels.resolve import lookup, same_as
from bridge.derive.parse import walk
from bridge.derive.places import NamedRefusal

_FRAME_OF_ROWS = 0x00004
"""FRAMEOPTION_ROWS."""

Known: TypeAlias = "set[tuple[int, str]]"
"""Columns of items, by the item's identity."""


def check_orders(query: Query, rounding: Collection[str] = ()) -> None:
    """Refuse a choice of rows by an order that leaves it open.

    `rounding`: windows whose sum depends on the order of their rows.
    """
    for level in query.levels:
        statement = level.statement
        ties = statement.limitOption == LimitOption.LIMIT_OPTION_WITH_TIES
        sort = [sort_value(s, level) for s in statement.sortClause or ()]
        if level.limited and not level.asked and not ties:
            _check(level, sort, "limit", "`limit`")
        if statement.distinctClause and statement.distinctClause[0] is not None:
            _check(level, sort, "distinct", "`distinct on`")
        if level.listed:
            _check_listed(level)
        named = {str(w.name): w for w in statement.windowClause or () if w.name}
        own = (statement.targetList, statement.havingClause, statement.sortClause)
        for call in calls(own):
            name = called(call)
            if call.over is not None and _by_row(call, call.over, named, rounding):
                window = [*partition(call.over, named), *_ordered(call.over, named)]
                _check(level, window, name, f"the window of {name}()", whole=False)
            elif name in BY_NAME and call.over is None:
                _check_names(call, level)


def _check(
    level: Level,
    order: Sequence[ast.Node],
    word: str,
    what: str,
    *,
    whole: bool = True,
) -> None:
    if not _total(level, order, whole=whole):
        raise NamedRefusal(
            f"{what} chooses rows by an order that leaves some of them equal",
            hint="end the order with the primary key of each table that is read there",
            words=(word, "fetch", "offset"),
        )


def _check_listed(level: Level) -> None:
    """`array(select …)` lists its rows in their order."""
    items = list(level.items.values())
    plain = not level.branches and not level.grouped and level.passing is None
    of_function = plain and (not items or (len(items) == 1 and _is_opaque(items[0])))
    if level.statement.sortClause or level.always or of_function:
        return
    if not level.branches and _determined(level, set()):
        return
    raise NamedRefusal(
        "the order of the rows in array(select …) is left open",
        hint="add an order, as in `array(select x from … order by x)`",
        words=("array",),
    )


def _is_opaque(item: Item) -> bool:
    return isinstance(item, Opaque)


def _check_names(call: ast.FuncCall, level: Level) -> None:
    """Of two rows with one name, an object of jsonb keeps the later."""
    if call.agg_order or call.agg_distinct or not call.args:
        return
    name: object = call.args[0]
    while isinstance(name, ast.TypeCast):
        name = name.arg
    known: Known = set()
    for value in (name, *(level.statement.groupClause or ())):
        if isinstance(value, ast.Node):
            add_column(value, level, known)
    found = lookup(name, level) if isinstance(name, ast.ColumnRef) else None
    if not _determined(level, known, found and found[0].leaf):
        raise NamedRefusal(
            f"of two rows with one name {called(call)}() keeps the later, and their "
            "order is left open",
            hint=f"add an order that ends with the primary key, as in "
            f"`{called(call)}(name, value order by id)`",
            words=(called(call), "json_objectagg"),
        )


def sort_value(sort: ast.SortBy, level: Level) -> ast.Node:
    """What an `order by` sorts by; a number there means an output."""
    value = sort.node
    assert isinstance(value, ast.Node)
    if isinstance(value, ast.A_Const) and isinstance(value.val, ast.Integer):
        place = (value.val.ival or 0) - 1  # the printed form, for a union
        if 0 <= place < len(level.outputs):
            return level.outputs[place].value
    return value


def _by_row(
    call: ast.FuncCall,
    window: ast.WindowDef,
    named: dict[str, ast.WindowDef],
    rounding: Collection[str],
) -> bool:
    definition = named.get(str(window.name), window)
    frame = (definition.frameOptions or 0) | (window.frameOptions or 0)
    name = called(call)
    free = name in ORDER_FREE and name not in rounding
    return not free or bool(frame & _FRAME_OF_ROWS)


def _ordered(window: ast.WindowDef, named: dict[str, ast.WindowDef]) -> list[ast.Node]:
    found = [s.node for s in window.orderClause or () if isinstance(s.node, ast.Node)]
    below = window.refname or (window.name if not found else None)
    if below in named and named[below] is not window:
        found += _ordered(named[below], named)
    return found


def _total(level: Level, order: Sequence[ast.Node], *, whole: bool) -> bool:
    wanted = {same_as(value, level) for value in order}
    outputs = {same_as(output.value, level) for output in level.outputs}
    if whole and outputs and outputs <= wanted:
        return True  # equal in all that is seen of them
    if level.branches:
        return False
    known: Known = set()
    for value in order:
        add_column(value, level, known)
    statement = level.statement
    if level.grouped and statement.groupClause:
        groups = {same_as(value, level) for value in statement.groupClause}
        return groups <= wanted or _determined(level, known)
    if statement.distinctClause and statement.distinctClause[0] is None:
        return False
    return _determined(level, known)


def add_column(value: ast.Node, level: Level, known: Known) -> None:
    """Count a value as known, where it is a column."""
    found = lookup(value, level) if isinstance(value, ast.ColumnRef) else None
    if found is not None and found[1] is not None:
        known.add((id(found[0]), found[1]))


def _determined(level: Level, known: Known, there: Node | None = None) -> bool:
    """Whether these columns leave at most one row of all the level's items."""
    closed(level, known, there)
    return all(one_row(item, known) for item in level.items.values())


def closed(level: Level, known: Known, there: Node | None = None) -> Known:
    """The columns, with all added that are equal where these are equal.

    `there`: a leaf that has a row, so that the outer joins that could have nulled it
    have not: a name in an object of JSON is never null.
    """
    items = list(level.items.values())
    before = -1
    while len(known) != before:
        before = len(known)
        for item in items:
            if one_row(item, known):
                known |= {(id(item), column) for column in item.columns or ()}
        for condition in level.conditions:
            within, _ = condition.place.filtered()
            if there is not None and there.within(within):
                within = condition.place.node
            known |= set(_fixed(condition.value, level, known, within))
    return known


def _fixed(
    value: ast.Node, level: Level, known: Known, within: Node
) -> Iterable[tuple[int, str]]:
    """Columns that a condition makes equal to what is known or comes from outside."""
    if not isinstance(value, ast.A_Expr) or value.kind != A_Expr_Kind.AEXPR_OP:
        return
    if [str(part.sval) for part in value.name or ()][-1] != "=":
        return
    for one, other in ((value.lexpr, value.rexpr), (value.rexpr, value.lexpr)):
        if not isinstance(one, ast.ColumnRef) or not isinstance(other, ast.Node):
            continue
        found = lookup(one, level)
        if found is None:
            continue
        item, column = found
        inside = item.leaf.level is level and item.leaf.within(within)
        if column is not None and inside and _is_known(other, level, known):
            yield id(item), column


def _is_known(value: ast.Node, level: Level, known: Known) -> bool:
    for node in walk(value):
        if isinstance(node, ast.SubLink):
            return False
        if isinstance(node, ast.ColumnRef):
            found = lookup(node, level)
            if found is None or found[1] is None:
                return False
            item, column = found
            if item.leaf.level is level and (id(item), column) not in known:
                return False
    return True


def one_row(item: Item, known: Known) -> bool:
    """Whether what is known leaves at most one row of an item."""
    mine = {column for owner, column in known if owner == id(item)}
    if isinstance(item, Occurrence):
        sources = {item.source(column) for column in mine}
        return any(set(unique) <= sources for unique in item.table.keys)
    if not isinstance(item, Derived):
        return False
    body = item.body
    count = body.statement.limitCount
    single = isinstance(count, ast.A_Const) and isinstance(count.val, ast.Integer)
    if single and count.val.ival == 1:  # type: ignore[union-attr]
        return True
    if body.always and not body.statement.groupClause:
        return True
    if body.branches:
        return body.grouped and set(item.columns) <= mine
    pairs = zip(body.outputs, item.columns, strict=False)
    named = [output for output, name in pairs if name in mine]
    if body.grouped:
        texts = {same_as(output.value, body) for output in named}
        keys = body.statement.groupClause or body.statement.distinctClause or ()
        by = [value for value in keys if value is not None] or [
            output.value for output in body.outputs
        ]
        return {same_as(value, body) for value in by} <= texts
    inner: Known = set()
    for output in named:
        add_column(output.value, body, inner)
    return _determined(body, inner)
