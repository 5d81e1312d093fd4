"""Which column of which table a name stands for, through derived tables.

`expand` writes an expression of a level in terms of occurrences: each name becomes
`alias.column` with the occurrence's unique alias, derived columns are replaced by what
they are made of. The one thing to know: where that leads into a `union`, there is one
reading for each of its branches, and each speaks for the rows of that branch only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

from pglast import ast
from pglast.stream import RawStream

from bridge.derive.levels.blind import blind
from bridge.derive.levels.model import (
    Derived,
    Item,
    Level,
    Node,
    Occurrence,
    Output,
)
from bridge.derive.parse import walk

READINGS_MAX = 64
"""Combinations of union branches of one expression that are looked at."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One column of one occurrence, as an expression reaches it."""

    occurrence: Occurrence
    column: str
    """The table's own name for it."""
    passes: bool
    """Every level between is grouped, partitioned or distinct by it, or is plain."""
    alike: bool
    """Nor does any of them take several texts of it for one."""
    crossed: tuple[Level, ...]
    """The levels between, outermost first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An expression in terms of occurrences. Its names are `alias.column`."""

    value: ast.Node
    refs: tuple[Ref, ...]
    branches: tuple[Node, ...]
    """Tops of the union branches that it leads into."""

    @property
    def plain(self) -> Ref | None:
        """The column, when it is nothing but one."""
        return self.refs[0] if isinstance(self.value, ast.ColumnRef) else None


def lookup(ref: ast.ColumnRef, level: Level) -> tuple[Item, str | None] | None:
    """The item that a name belongs to, and its column (None: the whole row)."""
    names = [str(f.sval) for f in ref.fields or () if isinstance(f, ast.String)]
    whole = any(isinstance(f, ast.A_Star) for f in ref.fields or ())
    if len(names) == 1 and not whole:
        for around in level.scope():
            for item in around.items.values():
                if item.columns is not None and names[0] in item.columns:
                    return item, names[0]
            if names[0] in around.items:  # `t` alone: the row, or a function's value
                return around.items[names[0]], None
            unknown = [i for i in around.items.values() if i.columns is None]
            if unknown:
                return unknown[0], names[0]
        return None
    alias = names[-1] if whole else names[-2]
    for around in level.scope():
        found = around.compared.get(alias) or around.items.get(alias)
        if found is not None:
            return found, None if whole else names[-1]
    return None


def outputs_of(item: Derived, column: str) -> Iterator[tuple[Output, int, Level]]:
    """What a derived column is made of, with its place: one for each branch."""
    if column not in item.columns:
        return
    index = item.columns.index(column)
    yield from _outputs(item.body, index)


def _outputs(level: Level, index: int) -> Iterator[tuple[Output, int, Level]]:
    for branch in level.branches:
        yield from _outputs(branch, index)
    if not level.branches and index < len(level.outputs):
        yield level.outputs[index], index, level


def expand(value: ast.Node, level: Level) -> list[Reading]:
    """The readings of an expression; none where it holds what no table's column is."""
    if not _simple(value, level):
        return []
    readings: list[Reading] = []
    names = list(_column_refs(value))
    each = [_expand_name(name, level) for name in names]
    if not blind(value):
        each = [[_told_apart(reading) for reading in choices] for choices in each]
    for choice in product(*each):
        if len(readings) == READINGS_MAX:
            return []
        replaced = {
            id(name): reading.value for name, reading in zip(names, choice, strict=True)
        }
        readings.append(
            Reading(
                _replace(value, replaced),
                tuple(r for reading in choice for r in reading.refs),
                tuple(b for reading in choice for b in reading.branches),
            )
        )
    return readings


def _told_apart(reading: Reading) -> Reading:
    """As one that sees texts has it: where values of several texts were taken for one,
    it does not mean the same beneath."""
    refs = (replace(r, passes=r.passes and r.alike) for r in reading.refs)
    return replace(reading, refs=tuple(refs))


def _expand_name(name: ast.ColumnRef, level: Level) -> list[Reading]:
    found = lookup(name, level)
    if found is None:
        return []
    item, column = found
    if column is None:
        return []
    if isinstance(item, Occurrence):
        source = item.source(column)
        if source is None:
            return []  # a system column
        ref = Ref(item, source, passes=True, alike=True, crossed=())
        return [Reading(named(item, source), (ref,), ())]
    readings: list[Reading] = []
    if not isinstance(item, Derived):
        return readings
    for output, index, body in outputs_of(item, column):
        for inner in expand(output.value, body):
            levels = _crossed(item.body, body)
            passes = all(x.passing is None or index in x.passing for x in levels)
            alike = all(x.tells(index) for x in levels)
            readings.append(
                Reading(
                    inner.value,
                    tuple(
                        Ref(
                            r.occurrence,
                            r.column,
                            r.passes and passes,
                            r.alike and alike,
                            (*levels, *r.crossed),
                        )
                        for r in inner.refs
                    ),
                    (*_branch_tops(item.body, body), *inner.branches),
                )
            )
    return readings


def _crossed(outer: Level, inner: Level) -> list[Level]:
    """The levels from a derived table to the branch that an output is in."""
    levels = [outer]
    while levels[-1] is not inner:
        levels.append(next(b for b in levels[-1].branches if inner.top.within(b.top)))
    return levels


def _branch_tops(outer: Level, inner: Level) -> list[Node]:
    """The tops of the branches between; every one is on the way down."""
    if outer is inner:
        return []
    return [inner.top]


def named(occurrence: Occurrence, column: str) -> ast.ColumnRef:
    """The column as it is called in key queries."""
    return ast.ColumnRef(
        fields=(ast.String(sval=occurrence.alias), ast.String(sval=column))
    )


_COMPOUND = (
    ast.SubLink,
    ast.GroupingFunc,
    ast.SetToDefault,
    ast.ParamRef,
    ast.CurrentOfExpr,
)


def _simple(value: ast.Node, level: Level) -> bool:
    """Made of one row's columns: no sub-selects, whole rows, aggregates or windows."""
    return not any(
        isinstance(node, (*_COMPOUND, ast.A_Star)) or id(node) in level.opaque
        for node in walk(value)
    )


def _column_refs(value: object) -> Iterator[ast.ColumnRef]:
    for node in walk(value):
        if isinstance(node, ast.ColumnRef):
            yield node


def _replace(value: ast.Node, by: dict[int, ast.Node]) -> ast.Node:
    """A copy with some nodes replaced, themselves left as they are."""
    if id(value) in by:
        return deepcopy(by[id(value)])
    copy = type(value)()  # type: ignore[call-arg]  # its subclasses take none
    for name in value:
        setattr(copy, name, _replaced_part(getattr(value, name), by))
    return copy


def _replaced_part(part: object, by: dict[int, ast.Node]) -> object:
    if isinstance(part, ast.Node):
        return _replace(part, by)
    if isinstance(part, tuple | list):
        return tuple(_replaced_part(item, by) for item in part)
    return part


def printed(value: ast.Node) -> str:
    """The expression as SQL."""
    return str(RawStream()(value))


def renamed(value: ast.Node, names: Mapping[str, str]) -> ast.Node:
    """An expanded expression with other names for its occurrences."""
    by: dict[int, ast.Node] = {}
    for ref in _column_refs(value):
        alias, column = (str(f.sval) for f in ref.fields or ())
        by[id(ref)] = ast.ColumnRef(
            fields=(ast.String(sval=names[alias]), ast.String(sval=column))
        )
    return _replace(value, by)


def same_as(value: ast.Node, level: Level) -> str:
    """A text that two expressions of one level share if they are the same one.

    However a column is written, with its table's name or without, it is one column.
    """
    replaced: dict[int, ast.Node] = {}
    for ref in _column_refs(value):
        found = lookup(ref, level)
        if found is not None and found[1] is not None:
            item, column = found
            replaced[id(ref)] = ast.ColumnRef(
                fields=(ast.String(sval=f"i{id(item)}"), ast.String(sval=column))
            )
    return printed(_replace(value, replaced))


def occurrences(refs: Sequence[Ref]) -> list[Occurrence]:
    """The occurrences of some references, each once, in their order."""
    return list({id(r.occurrence): r.occurrence for r in refs}.values())
