"""Events of a transaction too large for memory: kept small, then kept on disk.

The one thing to know: rows are kept as the columns asked for and nothing else, in
chunks of some thousand, first in memory and beyond a limit in an anonymous file,
which is gone when nothing refers to it any more, whatever happens to the process.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, NamedTuple, TypeAlias

from bridge.changes import (
    ABSENT,
    UNCHANGED,
    Change,
    ChangeKind,
    Event,
    LogicalMessage,
    Relation,
    Truncate,
)
from bridge.errors import Halt

Record: TypeAlias = tuple[Any, ...]
"""An event as it is kept: (kind, …) of plain numbers, bytes, text and tuples.

(I U D, index of the shape, old values or None, new values or None)
(T, indexes of shapes) and (M, prefix, content)
"""

KIND_TRUNCATE: Final = "T"
KIND_MESSAGE: Final = "M"
MARK_UNCHANGED: Final = True
MARK_ABSENT: Final = ...
"""Stand for the two markers in what is kept, which must be plain constants."""

CHUNK_BYTES_MAX: Final = 512 << 10
CHUNK_RECORDS_MAX: Final = 2_000
_KINDS: Final = {kind.value: kind for kind in ChangeKind}


class KeptShape(NamedTuple):
    """A relation, and the places of the columns that are kept of its rows."""

    relation: Relation
    places: tuple[int, ...]


class SpilledEvents:
    """The events of one transaction, appended once and iterated at will.

    Iterators are independent of each other and may run in any thread. Each of them
    holds one chunk in memory.
    """

    def __init__(
        self,
        *,
        memory_bytes_max: int,
        directory: str | None = None,
        between_chunks: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory_bytes_max = memory_bytes_max
        self._directory = directory
        self._between_chunks = between_chunks
        self._shapes: list[KeptShape] = []
        self._chunk: list[Record] = []
        self._chunk_bytes = 0
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._extents: list[tuple[int, int]] = []
        self._file_end = 0
        self.memory_bytes = 0
        """Bytes kept in memory, the current chunk left out."""

    def shape(self, relation: Relation, places: tuple[int, ...]) -> int:
        """The index by which records name this relation and these columns."""
        self._shapes.append(KeptShape(relation, places))
        return len(self._shapes) - 1

    def append(self, record: Record, size: int) -> None:
        """Add one event of about `size` bytes. Halt when the disk is full."""
        self._chunk.append(record)
        self._chunk_bytes += size
        if (
            self._chunk_bytes >= CHUNK_BYTES_MAX
            or len(self._chunk) >= CHUNK_RECORDS_MAX
        ):
            self.flush()

    def flush(self) -> None:
        """Pack the current chunk; to be called after the last event."""
        if not self._chunk:
            return
        packed = marshal.dumps(self._chunk)
        self._chunk = []
        self._chunk_bytes = 0
        self._chunks.append(packed)
        self.memory_bytes += len(packed)
        if self.memory_bytes > self._memory_bytes_max:
            self._write()

    def _write(self) -> None:
        """Move what is in memory to the file."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115
                    prefix="pgbridge-", dir=self._directory, buffering=0
                )
            for chunk in self._chunks:
                _write_all(self._file.fileno(), chunk)
                self._extents.append((self._file_end, len(chunk)))
                self._file_end += len(chunk)
        except OSError as error:
            raise Halt(
                f"a large transaction does not fit on disk: {error.strerror}",
                hint="free the disk, or have TMPDIR point at a larger one",
            ) from error
        self._chunks = []
        self.memory_bytes = 0

    def __iter__(self) -> Iterator[Event]:
        for packed in self._packed():
            for record in marshal.loads(packed):  # noqa: S302 - our own, unlinked
                yield self._event(record)
            self._between_chunks()

    def _packed(self) -> Iterator[bytes]:
        assert not self._chunk, "flush comes before iterating"
        for start, length in self._extents:
            assert self._file is not None, "iterated after close"
            packed = os.pread(self._file.fileno(), length, start)
            assert len(packed) == length
            yield packed
        yield from self._chunks

    def _event(self, record: Record) -> Event:
        kind = record[0]
        if kind == KIND_TRUNCATE:
            return Truncate(tuple(self._shapes[index].relation for index in record[1]))
        if kind == KIND_MESSAGE:
            return LogicalMessage(record[1], record[2])
        shape = self._shapes[record[1]]
        old, new = record[2], record[3]
        return Change(
            _KINDS[kind],
            shape.relation,
            None if old is None else _expand(shape, old),
            None if new is None else _expand(shape, new),
        )

    def close(self) -> None:
        """Free memory and disk now rather than when the last reference goes."""
        self._chunk, self._chunks, self.memory_bytes = [], [], 0
        if self._file is not None:
            self._file.close()
            self._file = None


def _expand(shape: KeptShape, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The full-width image of the values that were kept."""
    image: list[Any] = [ABSENT] * len(shape.relation.columns)
    for place, value in zip(shape.places, values, strict=True):
        if value is MARK_UNCHANGED:
            image[place] = UNCHANGED
        elif value is not MARK_ABSENT:
            image[place] = value
    return tuple(image)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
