"""Keys to be derived, each once: in memory, and beyond a limit on disk.

One row may be in a hundred thousand documents, or in ten million. Their keys are kept
in an anonymous file, which is gone when nothing refers to it any more.

The one thing to know: on disk they are cut up by their hash, so that equal keys meet
again when their part is read, and only one part is ever in memory.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO
from zlib import crc32

from bridge.errors import Halt
from bridge.keys import Parts

_PARTS = 64


class KeySet:
    """Keys of one view, in no order that means anything."""

    def __init__(self, memory_max: int, directory: str | None = None) -> None:
        """Up to `memory_max` keys are in memory; more go to a file in `directory`."""
        self._memory_max = memory_max
        self._directory = directory
        self._keys: dict[Parts, None] = {}
        self._file: IO[bytes] | None = None
        self._extents: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._end = 0
        self._written = 0

    def __len__(self) -> int:
        """How many keys; of those on disk, repeated ones count again."""
        return len(self._keys) + self._written

    @property
    def on_disk(self) -> bool:
        """Whether some of the keys are in the file."""
        return self._file is not None

    def add(self, keys: Iterable[Parts]) -> None:
        """Add keys. Halt when the disk is full."""
        self._keys.update(dict.fromkeys(keys))
        if len(self._keys) > self._memory_max:
            self._spill()

    def pieces(self, size: int) -> Iterator[list[Parts]]:
        """All keys, at most `size` at once, each in one piece only; forgets them."""
        if self._file is None:
            yield from _pieces(self._keys, size)
        else:
            self._spill()
            for part in list(self._extents):
                yield from _pieces(self._read(part), size)
            self._file.close()
        self._keys, self._written = {}, 0

    def _read(self, part: int) -> dict[Parts, None]:
        assert self._file is not None
        keys: dict[Parts, None] = {}
        for start, length in self._extents.pop(part):
            packed = os.pread(self._file.fileno(), length, start)
            assert len(packed) == length
            found = marshal.loads(packed)  # noqa: S302 - our own, unlinked
            self._written -= len(found)
            keys.update(dict.fromkeys(found))
        return keys

    def _spill(self) -> None:
        """Move what is in memory to the file."""
        parts: dict[int, list[Parts]] = defaultdict(list)
        for key in self._keys:
            parts[crc32("\0".join(map(str, key)).encode()) % _PARTS].append(key)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115
                    prefix="pgbridge-", dir=self._directory
                )
            self._file.seek(self._end)
            for part, keys in parts.items():
                packed = marshal.dumps(keys)
                self._file.write(packed)
                self._extents[part].append((self._end, len(packed)))
                self._end += len(packed)
            self._file.flush()
        except OSError as error:
            raise Halt(
                f"the keys that one change touches do not fit on disk: "
                f"{error.strerror}",
                hint="free the disk, or have TMPDIR point at a larger one",
            ) from error
        self._written += len(self._keys)
        self._keys = {}


def _pieces(keys: Iterable[Parts], size: int) -> Iterator[list[Parts]]:
    iterator = iter(keys)
    while piece := list(islice(iterator, size)):
        yield piece
