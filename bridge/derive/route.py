"""What one view makes of the changes of one table: a step, compiled per description.

A view takes its rows in one of three ways:

    direct        one table, no condition: the document is made from the row
    direct keys   one table: the key is columns of the row, the document is read back
    key query     the columns that lead to the key are collected, Postgres finds it

The one thing to know: an old value that is needed and not in the log is never guessed.
An insert needs none; an update or delete without it raises RouteHalt, which names the
table and the columns that its replica identity has to carry. Of a time before the view
was planned that is no error: the view is swept. A large (TOAST) value
that an update left alone is taken from the old image where that has it; the planner
asks for an identity that carries every link and key column, and Postgres logs the old
identity whenever one of its columns is stored outside the row, so it always has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from bridge.changes import ABSENT, UNCHANGED, Change, ChangeKind, Image, Relation
from bridge.derive.draft import ENTRY_BYTES, Draft
from bridge.derive.fastpath import DirectEncoder, compile_direct, compile_key
from bridge.derive.view import KeyQuery, ViewPlan
from bridge.errors import ViewHalt
from bridge.keys import Parts
from bridge.operations import Operation
from bridge.shape import TypeShape


class RouteHalt(ViewHalt):
    """The log does not tell what `view` needs; going on would lose a document."""


class Redescribed(ViewHalt):
    """A table is not as the view was planned for: it is to be planned again."""


Step: TypeAlias = Callable[[Draft, Change], None]


class Route:
    """The way of every change to one view."""

    def __init__(self, plan: ViewPlan, types: Mapping[int, TypeShape]) -> None:
        self.plan = plan
        self._types = types
        self._compiled: dict[tuple[Relation, bool], Step] = {}

    def reads(self, table_oid: int) -> bool:
        """Whether the view depends on that table."""
        return any(use.table.oid == table_oid for use in self.plan.tables)

    def keep(self, relation: Relation) -> frozenset[str]:
        """Columns of the table that keys of this view are found by."""
        kept: set[str] = set()
        direct = self.plan.direct
        if direct is not None and direct.table.oid == relation.oid:
            kept.update(direct.key)
        for query in self.plan.key_queries:
            if query.table.oid == relation.oid:
                kept.update(query.columns)
        return frozenset(kept)

    def compile(self, relation: Relation, *, past: bool = False) -> Step | None:
        """The step for rows so described; None when the view does not read them.

        RouteHalt or Redescribed when they cannot be followed; of the `past` they are
        swept.
        """
        if not self.reads(relation.oid):
            return None
        place = (relation, past)
        if place not in self._compiled:
            if past:
                self._compiled[place] = self._forgiving(relation)
            else:
                self._check(relation)
                self._compiled[place] = self._compile(relation)
        return self._compiled[place]

    def truncate(self, draft: Draft) -> None:
        """All rows of a table of the view are gone at this point of the transaction.

        Documents made from rows before it are in doubt, and so is everything that
        this transaction still writes: it has the same version as the sweep.
        """
        view = self.plan.name
        draft.doubtful.add(view)
        if self.plan.null_key:
            draft.null_keys.add(view)
        reread = draft.reread.setdefault(view, {})
        for operation in draft.puts.pop(view, {}).values():
            reread[operation.parts] = draft.version
        for parts in reread:
            reread[parts] = draft.version

    def _check(self, relation: Relation) -> None:
        """Redescribed unless the columns that the view reads are as it knows them."""
        columns = {c.name: (c.type_oid, c.type_modifier) for c in relation.columns}
        for use in self.plan.tables:
            if use.table.oid != relation.oid:
                continue
            for known in use.described:
                if columns.get(known.name) != (known.type_oid, known.type_modifier):
                    raise _redescribed(self.plan.name, relation, known.name)

    def _forgiving(self, relation: Relation) -> Step:
        """The step where possible; what it cannot follow is swept."""
        view = self.plan.name

        def sweep(draft: Draft, _change: Change) -> None:
            draft.sweeps.add(view)

        try:
            strict = self._compile(relation)
        except RouteHalt:
            return sweep

        def step(draft: Draft, change: Change) -> None:
            try:
                strict(draft, change)
            except RouteHalt:
                draft.sweeps.add(view)

        return step

    def _compile(self, relation: Relation) -> Step:
        plan, oid = self.plan, relation.oid
        steps: list[Step] = []
        direct = plan.direct
        if direct is not None and direct.table.oid == oid:
            steps.append(_direct(plan, relation, self._types))
        else:
            for index, query in enumerate(plan.key_queries):
                if query.table.oid != oid:
                    continue
                if query.sql is None:
                    steps.append(_direct_keys(plan, query, relation, self._types))
                else:
                    steps.append(_collect(plan, index, query, relation))
        if plan.null_key:
            steps.append(_null_key(plan.name))
        return _unless_unused(plan, relation, steps)


def _unless_unused(plan: ViewPlan, relation: Relation, steps: list[Step]) -> Step:
    """The steps, but for updates that are known to touch no column of the view."""
    used: set[str] = set()
    for use in plan.tables:
        if use.table.oid == relation.oid:
            used |= use.columns | use.identity
    for query in plan.key_queries:
        if query.table.oid == relation.oid:
            used.update(query.columns)
    columns = relation.columns
    indexes = tuple(i for i, c in enumerate(columns) if c.name in used)
    whole = len(indexes) == len(used)
    in_identity = {c.name for c in columns if c.in_identity}
    covered = whole and used <= in_identity
    only = steps[0] if len(steps) == 1 else None
    update = ChangeKind.UPDATE

    def step(draft: Draft, change: Change) -> None:
        if change[0] is update:
            old, new = change[2], change[3]
            if old is None:
                if covered:
                    return  # the identity is unchanged, and it is all that is used
            elif whole and new is not None:
                for i in indexes:
                    before, after = old[i], new[i]
                    if before is ABSENT or (before != after and after is not UNCHANGED):
                        break
                else:
                    return
        if only is not None:
            only(draft, change)
            return
        for inner in steps:
            inner(draft, change)

    return step


def _direct(plan: ViewPlan, relation: Relation, types: Mapping[int, TypeShape]) -> Step:
    direct = plan.direct
    assert direct is not None
    view = plan.name
    encoder = compile_direct(direct, relation, types)
    key = compile_key(direct.key, relation, types)
    if key is None:
        raise _column_gone(view, relation, direct.key)
    assert encoder is None or encoder.key is not None
    write = _writer(view, encoder)
    carried = _carries(relation, direct.key)

    def step(draft: Draft, change: Change) -> None:
        _, _, old, new = change
        if old is not None or new is None:
            found = key(old) if old is not None and carried else None
            # A key is never null: then a partition's identity is not the root's.
            if found is None or None in found[1]:
                raise _not_in_log(view, relation, direct.key)
            if new is None:
                _remove(view, draft, found)
                return
            new = _filled(old, new)
            now = key(new)
            if now is None:
                raise _not_in_log(view, relation, direct.key)
            if now != found:
                _remove(view, draft, found)
            write(draft, now, new)
            return
        now = key(new)
        if now is None or not (carried or change[0] is ChangeKind.INSERT):
            raise _not_in_log(view, relation, direct.key)
        write(draft, now, new)

    return step


def _writer(
    view: str, encoder: DirectEncoder | None
) -> Callable[[Draft, tuple[str, Parts], Image], None]:
    encode = None if encoder is None else encoder.encode

    def write(draft: Draft, key: tuple[str, Parts], image: Image) -> None:
        """The row of this key is there now."""
        version = draft.version
        if encode is None or draft.read_all_back or view in draft.doubtful:
            _read_back(view, draft, key)
            return
        document = encode(image)
        if document is None:
            _read_back(view, draft, key)
            return
        puts = draft.puts.get(view)
        if puts is None:
            puts = draft.puts[view] = {}
        text, parts = key
        before = puts.get(text)
        if before is not None and before[2] == version and before[3] is None:
            _read_back(view, draft, key)  # removed in the same transaction
            return
        reread = draft.reread.get(view)
        if reread and reread.get(parts) is not None:
            if reread[parts] == version:
                return
            del reread[parts]
        puts[text] = Operation(text, parts, version, document)
        draft.byte_size += ENTRY_BYTES + len(document)

    return write


def _remove(view: str, draft: Draft, key: tuple[str, Parts]) -> None:
    """The row of this key is gone, or has another key now."""
    version = draft.version
    text, parts = key
    puts = draft.puts.setdefault(view, {})
    before = puts.get(text)
    reread = draft.reread.get(view)
    if (
        draft.read_all_back
        or view in draft.doubtful
        or (before is not None and before.version == version and before.document)
        or (reread and reread.get(parts) == version)
    ):
        _read_back(view, draft, key)
        return
    if reread:
        reread.pop(parts, None)
    puts[text] = Operation(text, parts, version, None)
    draft.byte_size += ENTRY_BYTES


def _read_back(view: str, draft: Draft, key: tuple[str, Parts]) -> None:
    text, parts = key
    puts = draft.puts.get(view)
    if puts:
        puts.pop(text, None)
    reread = draft.reread.get(view)
    if reread is None:
        reread = draft.reread[view] = {}
    if parts not in reread:
        draft.byte_size += ENTRY_BYTES + len(text)
    reread[parts] = draft.version


def _direct_keys(
    plan: ViewPlan,
    query: KeyQuery,
    relation: Relation,
    types: Mapping[int, TypeShape],
) -> Step:
    view, names = plan.name, query.columns
    key = compile_key(names, relation, types)
    if key is None:
        raise _column_gone(view, relation, names)
    carried = _carries(relation, names)

    def step(draft: Draft, change: Change) -> None:
        kind, _, old, new = change
        if kind is not ChangeKind.INSERT and not carried:
            raise _not_in_log(view, relation, names)
        for image in (old, None if new is None else _filled(old, new)):
            if image is None:
                continue
            found = key(image)
            if found is None:
                raise _not_in_log(view, relation, names)
            _read_back(view, draft, found)

    return step


def _collect(plan: ViewPlan, index: int, query: KeyQuery, relation: Relation) -> Step:
    view, names, place = plan.name, query.columns, (plan.name, index)
    by_name = {c.name: i for i, c in enumerate(relation.columns)}
    if not by_name.keys() >= set(names):
        raise _column_gone(view, relation, names)
    indexes = tuple(by_name[name] for name in names)
    carried = _carries(relation, names)

    def add(draft: Draft, image: Image) -> None:
        row = tuple([image[i] for i in indexes])
        if ABSENT in row or UNCHANGED in row:
            raise _not_in_log(view, relation, names)
        rows = draft.images.get(place)
        if rows is None:
            rows = draft.images[place] = {}
        if row not in rows:
            rows[row] = None  # type: ignore[index]
            draft.byte_size += ENTRY_BYTES + sum(map(len, filter(None, row)))  # type: ignore[arg-type]

    def step(draft: Draft, change: Change) -> None:
        kind, _, old, new = change
        if kind is not ChangeKind.INSERT and not carried:
            raise _not_in_log(view, relation, names)
        if old is not None:
            add(draft, old)
        if new is not None:
            add(draft, _filled(old, new))

    return step


def _null_key(view: str) -> Step:
    def step(draft: Draft, _change: Change) -> None:
        draft.null_keys.add(view)

    return step


def _filled(old: Image | None, new: Image) -> Image:
    """The new image, with what it left unchanged taken from the old one if there."""
    if old is None or UNCHANGED not in new:
        return new
    return [
        before if after is UNCHANGED and before is not ABSENT else after
        for before, after in zip(old, new, strict=True)
    ]


def _carries(relation: Relation, names: tuple[str, ...]) -> bool:
    """Whether old images of the table have these columns."""
    in_identity = {c.name for c in relation.columns if c.in_identity}
    return in_identity >= set(names)


def _not_in_log(view: str, relation: Relation, names: tuple[str, ...]) -> RouteHalt:
    columns = ", ".join(dict.fromkeys(names))
    table = f"{relation.schema}.{relation.name}"
    return RouteHalt(
        view,
        f"the log lacks old values of {table} ({columns}) that the view {view} needs",
        hint=f"give {table} a replica identity that carries {columns}, as "
        "`pgbridge check` prints it, and rebuild the view",
    )


def _column_gone(view: str, relation: Relation, names: tuple[str, ...]) -> RouteHalt:
    table = f"{relation.schema}.{relation.name}"
    missing = set(names) - {column.name for column in relation.columns}
    columns = ", ".join(sorted(missing))
    return RouteHalt(
        view,
        f"the log does not carry {columns} of {table}, which the view {view} needs",
        hint="was a column dropped, renamed or left out of the publication? "
        "`pgbridge plan` shows what the view needs",
    )


def _redescribed(view: str, relation: Relation, column: str) -> Redescribed:
    table = f"{relation.schema}.{relation.name}"
    return Redescribed(
        view,
        f"column {column} of {table} is not what it was when the view {view} was "
        "planned",
        hint="`pgbridge plan` shows what follows from it",
    )
