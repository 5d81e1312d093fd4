"""Messages → whole transactions, within bounds of memory.

The one thing to know: a transaction leaves here when its Commit has come, never in
parts. One that grows beyond `transaction_bytes_max` goes on as a spilled one: of its
rows, those before included, only the columns that `keep` asks for are kept.

An ABSENT value of a spilled row says nothing about the column, neither its value nor
whether the change touched it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias, assert_never

from bridge.changes import (
    ABSENT,
    UNCHANGED,
    Change,
    ChangeKind,
    Event,
    LogicalMessage,
    Relation,
    Transaction,
    Truncate,
)
from bridge.decode.images import (
    Image,
    ImageReader,
    Layout,
    general_reader,
    image_reader,
)
from bridge.decode.pgoutput import (
    EPOCH_US,
    Begin,
    Buffer,
    Commit,
    Delete,
    Insert,
    Message,
    MessageError,
    Origin,
    TruncateMessage,
    Type,
    Update,
    decode,
)
from bridge.decode.spill import (
    KIND_MESSAGE,
    KIND_TRUNCATE,
    MARK_ABSENT,
    MARK_UNCHANGED,
    SpilledEvents,
)

Keep: TypeAlias = Callable[[Relation], frozenset[str]]
"""The columns of a relation that a spilled transaction must keep."""
Describe: TypeAlias = Callable[[Relation], Relation]
"""A relation with the identity that its rows are written with, where the stream
describes another one."""

_ROWS: Final = b"IUD"
_UPDATE, _DELETE = ord("U"), ord("D")
_NEW, _KEY, _OLD = ord("N"), ord("K"), ord("O")
_KINDS: Final = {ord(kind.value): kind for kind in ChangeKind}
_u32 = Struct(">I").unpack_from
_make = tuple.__new__
_EVENT_BYTES: Final = 200
"""Memory of an event beside its columns: two tuples and their list's slot."""
_COLUMN_BYTES: Final = 56
"""Memory of a column beside its bytes on the wire: an object and a reference."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds of the memory that one unfinished transaction takes."""

    transaction_bytes_max: int = 32 << 20
    """Estimated bytes of its events in memory; beyond, it is spilled."""
    spill_memory_bytes_max: int = 8 << 20
    """Packed bytes of a spilled transaction in memory; beyond, it is on disk."""
    message_bytes_max: int = 256
    """Of a longer message nothing is kept but that it was there: anybody may emit any,
    and none of the bridge's own is so long."""
    directory: str | None = None
    """Where spilled transactions are kept; default: the system's temporary place."""


class _Form(NamedTuple):
    """How the rows of one relation are read at present."""

    relation: Relation
    new: ImageReader
    key: ImageReader
    """For an old image: what the identity does not carry is absent, not null."""
    event_bytes: int
    layouts: tuple[Layout, Layout]
    """Those of `new` and `key`."""
    shape: int = -1
    """The relation's index among the present transaction's spilled events."""


def keep_all(relation: Relation) -> frozenset[str]:
    """Every column."""
    return frozenset(column.name for column in relation.columns)


def as_described(relation: Relation) -> Relation:
    """Just as the stream says."""
    return relation


class TransactionAssembler:
    """Takes the messages of one connection in order and gives whole transactions.

    It remembers the relations described on that connection: another connection needs
    another assembler.
    """

    def __init__(
        self,
        keep: Keep = keep_all,
        limits: DecodeLimits = DecodeLimits(),
        describe: Describe = as_described,
    ) -> None:
        self.between_chunks: Callable[[], None] | None = None
        self._keep = keep
        self._describe_rows = describe
        self._limits = limits
        self._relations: dict[int, Relation] = {}
        self._whole: dict[int, _Form] = {}
        self._kept: dict[int, _Form] = {}
        self._kept_ever: dict[Relation, _Form] = {}
        self._begin: Begin | None = None
        self._events: list[Event] = []
        self._spilled: SpilledEvents | None = None
        self._count = self._bytes = 0
        self._described: list[Relation] = []

    @property
    def inside(self) -> bool:
        """A transaction has begun and not ended."""
        return self._begin is not None

    def feed(self, frames: Sequence[Buffer], at: int = 0) -> list[Transaction]:
        """The transactions that these frames complete, in order.

        A frame holds one message from `at` to its end. Values are copied out of
        memoryviews. MessageError for what is not protocol 1; Halt when a large
        transaction finds no room on disk.
        """
        done: list[Transaction] = []
        rows, row = _ROWS, self._row
        try:
            for frame in frames:
                kind = frame[at]
                if kind in rows:
                    row(frame, at, kind)
                elif (transaction := self._message(frame, at)) is not None:
                    done.append(transaction)
        except (IndexError, struct.error) as error:
            raise MessageError("a message ends early") from error
        return done

    def close(self) -> None:
        """Free what an unfinished transaction holds."""
        if self._spilled is not None:
            self._spilled.close()
        self._forget()

    # -- everything but rows --------------------------------------------------------

    def _message(self, frame: Buffer, at: int) -> Transaction | None:
        match decode(frame, at):
            case Begin() as begin:
                if self._begin is not None:
                    raise MessageError("a transaction begins within another")
                self._begin = begin
            case Commit() as commit:
                return self._commit(commit)
            case Relation() as relation:
                self._describe(relation)
            case TruncateMessage(oids):
                relations = tuple(map(self._relation, oids))
                self._add(Truncate(relations), 64)
            case Message(True, _, prefix, content):
                if len(content) > self._limits.message_bytes_max:
                    content = b""
                self._add(LogicalMessage(prefix, content), len(content))
            case Message() | Type() | Origin():
                # A message outside of transactions has no position of its own, and
                # what types and origins say is asked of the catalog.
                pass
            case Insert() | Update() | Delete():
                raise AssertionError("rows are read by _row")
            case unreachable:
                assert_never(unreachable)
        return None

    def _commit(self, commit: Commit) -> Transaction:
        begin, spilled = self._begin, self._spilled
        if begin is None:
            raise MessageError("a commit outside of a transaction")
        events: Iterable[Event] = self._events
        count, size = len(self._events), self._bytes
        if spilled is not None:
            spilled.flush()
            events, count, size = spilled, self._count, spilled.memory_bytes
        transaction = Transaction(
            xid=begin.xid,
            end_lsn=commit.end_lsn,
            commit_time_s=(commit.commit_time_us + EPOCH_US) / 1_000_000,
            events=events,
            count=count,
            spilled=spilled is not None,
            memory_bytes=size,
            described=tuple(self._described),
        )
        self._forget()
        return transaction

    def _forget(self) -> None:
        self._begin = None
        self._events = []
        self._spilled = None
        self._count = self._bytes = 0
        self._described = []
        self._kept.clear()
        self._kept_ever.clear()

    def _describe(self, relation: Relation) -> None:
        """Remember a relation; one described as before keeps its readers."""
        relation = self._describe_rows(relation)
        if self._relations.get(relation.oid) == relation:
            return
        self._relations[relation.oid] = relation
        self._whole.pop(relation.oid, None)
        self._kept.pop(relation.oid, None)
        self._described.append(relation)

    def _relation(self, oid: int) -> Relation:
        if (relation := self._relations.get(oid)) is None:
            raise MessageError(f"relation {oid} was not described")
        return relation

    # -- rows -----------------------------------------------------------------------

    def _row(self, frame: Buffer, at: int, kind: int) -> None:
        (oid,) = _u32(frame, at + 1)
        form = self._whole.get(oid) or self._whole_form(oid)
        size = len(frame) + form.event_bytes
        if self._spilled is None:
            self._bytes += size
            if self._bytes <= self._limits.transaction_bytes_max:
                old, new = _images(form, frame, at, kind)
                change = _make(Change, (_KINDS[kind], form.relation, old, new))
                self._events.append(change)
                return
            self._begin_spilling()
        assert self._spilled is not None
        kept = self._kept_form(form.relation)
        old, new = _images(kept, frame, at, kind)
        self._spilled.append((chr(kind), kept.shape, old, new), kept.event_bytes)
        self._count += 1

    def _whole_form(self, oid: int) -> _Form:
        relation = self._relation(oid)
        columns = relation.columns
        width = len(columns)
        key = tuple(i if columns[i].in_identity else None for i in range(width))
        form = self._whole[oid] = _form(
            relation,
            Layout(width, tuple(range(width)), UNCHANGED, ABSENT),
            Layout(width, key, UNCHANGED, ABSENT),
        )
        return form

    # -- beyond the limit -----------------------------------------------------------

    def _begin_spilling(self) -> None:
        """Keep from here on, and of what came before, only what `keep` asks for."""
        self._spilled = SpilledEvents(
            memory_bytes_max=self._limits.spill_memory_bytes_max,
            directory=self._limits.directory,
            between_chunks=self._chunk_done,
        )
        events, self._events = self._events, []
        events.reverse()
        while events:  # freed as they go
            self._add(events.pop(), 0)

    def _chunk_done(self) -> None:
        if self.between_chunks is not None:
            self.between_chunks()

    def _add(self, event: Event, size: int) -> None:
        """Add an event that is there as such, whole or to what is spilled."""
        self._bytes += size + _EVENT_BYTES
        spilled = self._spilled
        if spilled is None:
            if self._bytes <= self._limits.transaction_bytes_max:
                self._events.append(event)
                return
            self._begin_spilling()
            spilled = self._spilled
            assert spilled is not None
        self._count += 1
        match event:
            case Change(kind, relation, old, new):
                form = self._kept_form(relation)
                kept = (_kept(form, old), _kept(form, new))
                spilled.append((kind.value, form.shape, *kept), form.event_bytes)
            case Truncate(relations):
                shapes = tuple(self._kept_form(each).shape for each in relations)
                spilled.append((KIND_TRUNCATE, shapes), size)
            case LogicalMessage(prefix, content):
                spilled.append((KIND_MESSAGE, prefix, content), size)

    def _kept_form(self, relation: Relation) -> _Form:
        """The present way to keep rows of this very description of a relation."""
        form = self._kept.get(relation.oid)
        if form is not None and form.relation is relation:
            return form
        if (form := self._kept_ever.get(relation)) is None:
            form = self._kept_ever[relation] = self._new_kept_form(relation)
        self._kept[relation.oid] = form
        return form

    def _new_kept_form(self, relation: Relation) -> _Form:
        names = self._keep(relation)
        columns = relation.columns
        width = len(columns)
        places = tuple(i for i in range(width) if columns[i].name in names)
        key = tuple(i if columns[i].in_identity else None for i in places)
        assert self._spilled is not None
        return _form(
            relation,
            Layout(width, places, MARK_UNCHANGED, MARK_ABSENT),
            Layout(width, key, MARK_UNCHANGED, MARK_ABSENT),
            shape=self._spilled.shape(relation, places),
        )


def _form(relation: Relation, new: Layout, key: Layout, shape: int = -1) -> _Form:
    return _Form(
        relation,
        image_reader(new),
        image_reader(key),
        event_bytes=_EVENT_BYTES + len(new.outputs) * _COLUMN_BYTES,
        layouts=(new, key),
        shape=shape,
    )


def _images(
    form: _Form, frame: Buffer, at: int, kind: int
) -> tuple[Image | None, Image | None]:
    """Old and new image of the row message at `at`, which must end the frame."""
    read_new, read_key = form.new, form.key
    if type(frame) is not bytes:
        read_new, read_key = map(general_reader, form.layouts)
    old: Any = None
    new: Any = None
    at += 5
    tag = frame[at]
    if tag != _NEW or kind == _DELETE:
        if tag in (_KEY, _OLD):
            old, at = read_key(frame, at + 1)
        if old is None or (kind != _UPDATE and kind != _DELETE):
            raise MessageError(f"a row change with the tag {tag:#04x}")
    if kind != _DELETE:
        if frame[at] != _NEW:
            raise MessageError(f"a row change with the tag {frame[at]:#04x}")
        new, at = read_new(frame, at + 1)
    if at != len(frame):
        raise MessageError("a row that does not end with its message")
    return old, new


def _kept(form: _Form, image: Iterable[Any] | None) -> Image | None:
    """The values of a whole image that are kept, markers as they are kept."""
    if image is None:
        return None
    values = tuple(image)
    return tuple(
        MARK_UNCHANGED
        if values[place] is UNCHANGED
        else MARK_ABSENT
        if values[place] is ABSENT
        else values[place]
        for place in form.layouts[0].outputs
        if place is not None
    )
