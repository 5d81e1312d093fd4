"""Spilled events come back as they went in, and leave nothing behind."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.changes import (
    ABSENT,
    Change,
    ChangeKind,
    Identity,
    Relation,
    RelationColumn,
)
from bridge.decode import spill
from bridge.decode.spill import CHUNK_RECORDS_MAX, SpilledEvents
from bridge.errors import Halt

RELATION = Relation(
    1,
    "public",
    "t",
    Identity.DEFAULT,
    (
        RelationColumn("id", 23, -1, in_identity=True),
        RelationColumn("body", 25, -1, in_identity=False),
    ),
)


def filled(count: int, *, memory_bytes_max: int, directory: Path) -> SpilledEvents:
    events = SpilledEvents(memory_bytes_max=memory_bytes_max, directory=str(directory))
    shape = events.shape(RELATION, (0,))
    for n in range(count):
        events.append(("I", shape, None, (b"%d" % n,)), 100)
    events.flush()
    return events


def numbers(events: SpilledEvents) -> list[int]:
    read = []
    for event in events:
        assert isinstance(event, Change)
        assert event.new is not None
        assert isinstance(event.new[0], bytes)
        read.append(int(event.new[0]))
    return read


@pytest.mark.parametrize("memory_bytes_max", [0, 100_000, 1 << 30])
def test_order_and_number_from_memory_and_disk(
    memory_bytes_max: int, tmp_path: Path
) -> None:
    count = 5 * CHUNK_RECORDS_MAX + 1
    events = filled(count, memory_bytes_max=memory_bytes_max, directory=tmp_path)
    assert numbers(events) == list(range(count))
    assert numbers(events) == list(range(count))
    assert events.memory_bytes <= memory_bytes_max


def test_iterators_do_not_disturb_each_other(tmp_path: Path) -> None:
    events = filled(3 * CHUNK_RECORDS_MAX, memory_bytes_max=0, directory=tmp_path)
    first, second = iter(events), iter(events)
    for _ in range(CHUNK_RECORDS_MAX + 5):
        next(first)
    one = next(second)
    assert one == Change(ChangeKind.INSERT, RELATION, None, (b"0", ABSENT))
    rest = [int(event.new[0]) for event in first]  # type: ignore[union-attr, index, arg-type]
    assert all(after == before + 1 for before, after in pairwise(rest))
    assert rest[-1] == 3 * CHUNK_RECORDS_MAX - 1


def descriptors_in(directory: Path) -> int:
    """How many open files of this process lie, or lay, in `directory`."""
    links = (
        os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")
    )
    return sum(
        os.path.islink(link) and os.readlink(link).startswith(str(directory))
        for link in links
    )


@pytest.mark.parametrize("explicitly", [True, False])
def test_the_file_has_no_name_and_goes_with_the_events(
    *, explicitly: bool, tmp_path: Path
) -> None:
    events = filled(CHUNK_RECORDS_MAX, memory_bytes_max=0, directory=tmp_path)
    assert descriptors_in(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    if explicitly:
        events.close()
    else:
        del events
    assert descriptors_in(tmp_path) == 0


def test_a_full_disk_halts_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spill.os, "write", full)
    with pytest.raises(Halt, match="No space left") as caught:
        filled(CHUNK_RECORDS_MAX, memory_bytes_max=0, directory=tmp_path)
    assert caught.value.hint


def test_the_reader_is_called_between_chunks(tmp_path: Path) -> None:
    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1

    events = SpilledEvents(
        memory_bytes_max=0, directory=str(tmp_path), between_chunks=called
    )
    shape = events.shape(RELATION, (0,))
    for n in range(3 * CHUNK_RECORDS_MAX):
        events.append(("I", shape, None, (b"%d" % n,)), 1)
    events.flush()
    assert sum(1 for _ in events) == 3 * CHUNK_RECORDS_MAX
    assert calls == 3
