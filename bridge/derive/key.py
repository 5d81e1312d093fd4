"""What the key of a view is: columns of one occurrence of a table.

For rows that are not grouped it is the primary key (or another unique one) of a table
whose rows no outer join can null; for groups it is columns out of the list that they
are grouped by. Columns may first be moved along equalities of inner joins: where
`a.id = r.aid`, the output `r.aid` is as good as `a.id`.

The one thing to know: a key over several tables is refused, since a transaction that
changes both could not be followed to the old key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pglast import ast

from bridge.catalog import Catalog
from bridge.derive.levels.edges import filters
from bridge.derive.levels.model import (
    Arm,
    Condition,
    Level,
    Node,
    Occurrence,
    Query,
    null_extended,
)
from bridge.derive.levels.resolve import Reading, Ref, expand
from bridge.derive.levels.rules import Rule, Rules
from bridge.derive.places import NamedRefusal
from bridge.derive.statements import one_text
from bridge.errors import QueryRefusal


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a view."""

    occurrence: Occurrence
    columns: tuple[str, ...]
    """The table's own names, in the order of the key; expressions are in `values`."""
    outputs: tuple[int, ...]
    """Places of the key columns in the output."""
    values: tuple[ast.Node, ...]
    """Each part in terms of the occurrence: a column, or a text made of one."""
    joins: tuple[Node, ...]
    """Outer joins that can null the occurrence: only a group may have them."""
    grouped: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read one output column as a column of an occurrence."""

    occurrence: Occurrence
    column: str
    value: ast.Node


def find_key(
    query: Query, names: Sequence[str] | None, catalog: Catalog, rules: Rules
) -> Key:
    """The key of the view: of these output columns, or the one that is found."""
    root = query.root
    if root.branches:
        raise NamedRefusal(
            "a union of several selects has several roots, and no one key",
            hint="make a view of each, or join the union to the table that has the key",
            words=("union", "intersect", "except"),
        )
    found = _Finder(query, catalog, rules)
    outputs = [found.candidates(i) for i in range(len(root.outputs))]
    if names is not None:
        places = tuple(_place(root, name) for name in names)
        return found.given(places, [outputs[i] for i in places])
    if root.passing is not None and not root.passing:
        raise NamedRefusal(
            _no_key_outside(root),
            words=_words_outside(root),
            hint=_hint_outside(root),
        )
    if root.grouped:
        return found.of_group(outputs)
    return found.of_rows(outputs)


def _no_key_outside(root: Level) -> str:
    if root.limited:
        return "`limit` over the whole view: a change of one row would move others"
    if root.sets:
        return "several groupings at once give no column that is in every row's key"
    if root.always:
        return "an aggregate without `group by` is one row without a key"
    return "the rows depend on others by windows, groups or `distinct`"


def _hint_outside(root: Level) -> str:
    if root.limited:
        return (
            "leave it out, so that each row is a document, and let who reads ask for "
            "the first ones"
        )
    if root.sets or root.always:
        return (
            "give the rows a key: group by columns of one table that are among the "
            "output"
        )
    return "partition by the key of the rows, or count in a sub-select that links to it"


def _words_outside(root: Level) -> tuple[str, ...]:
    if root.limited:
        return ("limit", "fetch", "offset")
    return ("rollup", "cube", "grouping") if root.sets else ("over", "distinct")


def _place(root: Level, name: str) -> int:
    for index, output in enumerate(root.outputs):
        if output.name == name:
            return index
    raise QueryRefusal(
        f"the key column {name} is not an output column of the query",
        hint="`key` names columns as they are called in the documents",
    )


class _Finder:
    def __init__(self, query: Query, catalog: Catalog, rules: Rules) -> None:
        self._query = query
        self._catalog = catalog
        self._rules = rules
        self._equal = list(self._equalities())

    def candidates(self, index: int) -> list[Candidate]:
        """Every occurrence's column that the output is, the nearest first."""
        root = self._query.root
        outside = root.passing is None or index in root.passing
        if Rule.KEY_BARRIERS in self._rules and not outside:
            return []
        readings = expand(root.outputs[index].value, root)
        if len(readings) != 1 or readings[0].branches:
            return []
        [reading] = readings
        passes = all(ref.passes for ref in reading.refs)
        if Rule.KEY_BARRIERS in self._rules and not passes:
            return []
        ref = reading.plain
        if ref is None:
            return list(self._text_of_column(reading))
        return [Candidate(r.occurrence, r.column, _named(r)) for r in self._alike(ref)]

    def _text_of_column(self, reading: Reading) -> Iterator[Candidate]:
        """`n::text`, which tells groups apart where `n` itself does not."""
        value = reading.value
        if not isinstance(value, ast.TypeCast) or len(reading.refs) != 1:
            return
        names = [str(n.sval) for n in (value.typeName and value.typeName.names) or ()]
        if isinstance(value.arg, ast.ColumnRef) and names[-1] == "text":
            ref = reading.refs[0]
            yield Candidate(ref.occurrence, ref.column, value)

    def _equalities(self) -> Iterator[tuple[Condition, Reading, Ref, Ref]]:
        for condition in self._query.conditions:
            value = condition.value
            if not isinstance(value, ast.A_Expr):
                continue
            names = [str(n.sval) for n in value.name or ()]
            for reading in expand(value, condition.level):
                both = isinstance(reading.value, ast.A_Expr) and (
                    isinstance(reading.value.lexpr, ast.ColumnRef)
                    and isinstance(reading.value.rexpr, ast.ColumnRef)
                )
                if both and names[-1] == "=" and value.kind == 0:
                    one, other = reading.refs
                    yield condition, reading, one, other

    def _alike(self, start: Ref) -> list[Ref]:
        """The columns that have the same text in every row of the view."""
        found = [start]
        for ref in found:
            for condition, reading, one, other in self._equal:
                for here, there in ((one, other), (other, one)):
                    if (here.occurrence, here.column) != (ref.occurrence, ref.column):
                        continue
                    known = any(
                        (f.occurrence, f.column) == (there.occurrence, there.column)
                        for f in found
                    )
                    if not known and self._moves(condition, reading, here, there):
                        found.append(there)
        return found

    def _moves(
        self, condition: Condition, reading: Reading, here: Ref, there: Ref
    ) -> bool:
        if self._type(here) != self._type(there) or self._type(here) is None:
            return False
        if Rule.ALIKE not in self._rules:
            return True
        if not filters(condition, reading, here.occurrence, self._rules):
            return False
        top = self._query.root.top
        one = [id(j) for j in null_extended(here.occurrence.leaf, top)]
        other = [id(j) for j in null_extended(there.occurrence.leaf, top)]
        if one != other or not _is_row(there.occurrence):
            return False
        shared = {id(level) for level in _barriers(here.occurrence)}
        passed = {id(level) for level in there.crossed} if there.passes else set()
        return all(
            id(level) in shared or id(level) in passed
            for level in _barriers(there.occurrence)
        )

    def _type(self, ref: Ref) -> int | None:
        """The type that a column's text depends on; None if equal is not same text."""
        column = ref.occurrence.table.column(ref.column)
        base = self._catalog.base_type(column.type_oid)
        exact = one_text(
            base, deterministic=column.deterministic, modifier=column.modifier
        )
        return base.oid if exact else None

    def given(self, places: tuple[int, ...], outputs: list[list[Candidate]]) -> Key:
        """The key of configured columns: those of one occurrence."""
        root = self._query.root
        for candidate in outputs[0]:
            parts = [_of(candidate.occurrence, choices) for choices in outputs]
            if all(parts):
                key = self._key(places, [p for p in parts if p is not None])
                if not key.joins or self._grouped_above(key):
                    return key
        names = ", ".join(root.outputs[i].name for i in places)
        raise QueryRefusal(
            f"the key ({names}) is not made of plain columns of one table that is "
            "there for every row",
            hint="choose columns that one table has, or that equal them by an inner "
            "join",
        )

    def of_rows(self, outputs: list[list[Candidate]]) -> Key:
        """The unique key of a table that is among the output."""
        possible = [
            key
            for occurrence in self._query.occurrences
            if _is_row(occurrence)
            for key in self._unique_keys(occurrence, outputs)
            if not key.joins
        ]
        for key in possible:
            if self._one_row(key):
                return key
        if possible:
            return possible[0]
        raise QueryRefusal(
            "no key among the output columns",
            hint="add the primary key of the table that each document stands for"
            + _missing_keys(self._query),
        )

    def _unique_keys(
        self, occurrence: Occurrence, outputs: list[list[Candidate]]
    ) -> Iterator[Key]:
        for columns in occurrence.table.keys:
            parts: dict[int, Candidate] = {}
            for column in columns:
                match = [
                    (c is not choices[0], index, c)
                    for index, choices in enumerate(outputs)
                    for c in choices
                    if c.occurrence is occurrence
                    and c.column == column
                    and isinstance(c.value, ast.ColumnRef)
                ]
                if not match:
                    break
                # Its own output before one that equals it. One output may be several
                # columns of the key, where these are equal in every row.
                _, index, part = min(match, key=lambda m: m[:2])
                parts.setdefault(index, part)
            else:
                yield self._key(tuple(parts), list(parts.values()))

    def of_group(self, outputs: list[list[Candidate]]) -> Key:
        """Columns of one occurrence out of the list that the rows are grouped by."""
        root = self._query.root
        within = [
            i for i in range(len(outputs)) if root.passing is None or i in root.passing
        ]
        for occurrence in self._query.occurrences:
            if not _is_row(occurrence):
                continue
            for key in self._unique_keys(occurrence, outputs):
                if self._usable(key) and self._one_group(key, within, outputs):
                    return key
        for occurrence in self._query.occurrences:
            parts = [(i, _of(occurrence, outputs[i])) for i in within]
            if within and _is_row(occurrence) and all(p for _, p in parts):
                key = self._key(
                    tuple(i for i, _ in parts), [p for _, p in parts if p is not None]
                )
                if self._usable(key):
                    return key
        raise self._several(within, outputs)

    def _several(
        self, within: list[int], outputs: list[list[Candidate]]
    ) -> NamedRefusal:
        root = self._query.root
        missing = [root.outputs[i].name for i in within if not outputs[i]]
        if not within or missing:
            named = f"{', '.join(missing)} is" if missing else "the output is"
            return NamedRefusal(
                f"{named} not a plain column to group by",
                output=missing[0] if missing else None,
                hint="group by columns of one table and give them out as they are; an "
                "expression can be kept in a column that a trigger sets",
            )
        names = ", ".join(root.outputs[i].name for i in within)
        choice = next((root.outputs[i].name for i in within if outputs[i]), "")
        return NamedRefusal(
            f"the key would be of several tables: {names}",
            output=root.outputs[within[-1]].name,
            hint=f'if one of them tells the rows apart, say so: key = ["{choice}"]',
        )

    def _usable(self, key: Key) -> bool:
        return not key.joins or self._grouped_above(key)

    def _one_group(
        self, key: Key, within: list[int], outputs: list[list[Candidate]]
    ) -> bool:
        """The other columns grouped by follow from the key."""
        known = self._closure(key)
        return all(
            any((id(c.occurrence), c.column) in known for c in outputs[i])
            for i in within
        )

    def _key(self, places: tuple[int, ...], parts: list[Candidate]) -> Key:
        occurrence = parts[0].occurrence
        return Key(
            occurrence,
            tuple(part.column for part in parts),
            places,
            tuple(part.value for part in parts),
            tuple(null_extended(occurrence.leaf, self._query.root.top)),
            self._query.root.grouped,
        )

    def _grouped_above(self, key: Key) -> bool:
        """Every outer join that can null the key stands beneath a group by it."""
        for join in key.joins:
            levels = [
                n.level for n in join.up() if n.parent is None or n.arm is Arm.DERIVED
            ]
            if not any(level.grouped and not level.branches for level in levels):
                return False
        return all(isinstance(v, ast.ColumnRef) for v in key.values)

    def _one_row(self, key: Key) -> bool:
        """Whether the joins cannot give a key more than one row, as far as is told."""
        known = self._closure(key)
        return all(
            any(all((id(o), c) in known for c in unique) for unique in o.table.keys)
            for o in self._query.occurrences
            if _is_row(o)
        )

    def _closure(self, key: Key) -> set[tuple[int, str]]:
        """All columns that follow from the key, through unique keys and equalities."""
        known = {(id(key.occurrence), column) for column in key.columns}
        before = -1
        while len(known) != before:
            before = len(known)
            for occurrence in self._query.occurrences:
                mine = id(occurrence)
                if any(
                    all((mine, c) in known for c in unique)
                    for unique in occurrence.table.keys
                ):
                    known |= {(mine, name) for name in occurrence.table.names}
            for condition, reading, one, other in self._equal:
                for here, there in ((one, other), (other, one)):
                    if (id(here.occurrence), here.column) in known and filters(
                        condition, reading, there.occurrence, self._rules
                    ):
                        known.add((id(there.occurrence), there.column))
        return known


def _named(ref: Ref) -> ast.ColumnRef:
    return ast.ColumnRef(
        fields=(ast.String(sval=ref.occurrence.alias), ast.String(sval=ref.column))
    )


def _of(occurrence: Occurrence, choices: list[Candidate]) -> Candidate | None:
    return next((c for c in choices if c.occurrence is occurrence), None)


def _is_row(occurrence: Occurrence) -> bool:
    """Its rows are (part of) rows of the view: it is in no sub-select or union."""
    return all(
        node.arm in (Arm.ITEM, Arm.KEPT, Arm.NULLABLE, Arm.DERIVED)
        for node in occurrence.leaf.up()
    )


def _barriers(occurrence: Occurrence) -> list[Level]:
    """The levels from the root down to an occurrence that hide some columns."""
    nodes = list(occurrence.leaf.up())
    tops = [n for n, above in pairwise(nodes) if n.level is not above.level]
    return [n.level for n in (*tops, nodes[-1]) if n.level.passing is not None]


def _missing_keys(query: Query) -> str:
    for occurrence in query.occurrences:
        if _is_row(occurrence) and occurrence.table.primary_key:
            columns = ", ".join(
                f"{occurrence.name}.{c}" for c in occurrence.table.primary_key
            )
            return f", as in `select {columns}, …`"
    return ""
