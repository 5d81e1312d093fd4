"""The gate: what may be read when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bridge.gate import Gate, Snapshot


def snapshot(xmin: int, xmax: int, *running: int) -> Snapshot:
    return Snapshot(xmin, xmax, frozenset(running))


def test_a_snapshot_is_parsed_as_postgres_prints_it() -> None:
    assert Snapshot.parse("10:20:10,14") == snapshot(10, 20, 10, 14)
    assert Snapshot.parse("10:10:") == snapshot(10, 10)


@pytest.mark.parametrize(
    ("xid", "seen"), [(9, True), (10, False), (12, True), (14, False), (20, False)]
)
def test_a_snapshot_sees_what_has_ended_and_nothing_else(xid: int, seen: bool) -> None:
    assert snapshot(10, 20, 10, 14).sees(xid) is seen


def test_a_32_bit_xid_is_the_one_nearest_to_xmax() -> None:
    wrapped = snapshot((7 << 32) + 5, (7 << 32) + 9, (7 << 32) + 5)
    assert wrapped.sees(0xFFFFFFF0), "older, from before the wrap"
    assert not wrapped.sees(5), "running"
    assert wrapped.sees(7)
    assert not wrapped.sees(9), "not begun"
    before = snapshot((7 << 32) - 9, (7 << 32) - 5)
    assert not before.sees(3), "of the epoch to come"


def test_an_older_unseen_transaction_holds_the_gate_though_the_newest_shows() -> None:
    gate = Gate()
    gate.start(0)
    gate.streamed([11], 0, 100)
    gate.streamed([12], 100, 200)
    assert not gate.passes(snapshot(11, 13, 11), 200)
    assert gate.invisible_from() == 0
    assert gate.passes(snapshot(13, 13), 200)
    assert gate.invisible_from() is None


def test_every_transaction_of_a_batch_counts() -> None:
    gate = Gate()
    gate.start(0)
    gate.streamed([11, 12, 13], 0, 100)
    assert not gate.passes(snapshot(12, 14, 12), 100)
    assert gate.passes(snapshot(14, 14), 100)


def test_what_is_before_the_first_unseen_transaction_may_be_read() -> None:
    gate = Gate()
    gate.start(0)
    gate.streamed([11], 0, 100)
    gate.streamed([12], 100, 200)
    assert gate.passes(snapshot(12, 13, 12), 100)
    assert not gate.passes(snapshot(12, 13, 12), 101)


def test_nothing_is_read_before_the_barrier() -> None:
    gate = Gate(barrier=50)
    gate.start(0)
    assert not gate.passes(snapshot(49, 60, 49), 0)
    assert gate.passes(snapshot(50, 60, 50), 0)
    gate.raise_barrier(55)
    gate.raise_barrier(40)
    assert not gate.passes(snapshot(54, 60, 54), 0)


def test_nothing_is_read_without_a_commit_that_is_invisible_for_long() -> None:
    """Whatever it took away is not remembered as deleted for ever."""
    gate = Gate()
    gate.streamed([100], 0, 10)
    hidden = Snapshot(100, 101, frozenset({100}))
    gate.look(hidden, 0.0)
    gate.look(hidden, 599.0)
    assert gate.passes(hidden, 0)
    gate.look(hidden, 601.0)
    assert not gate.passes(hidden, 0)
    gate.look(Snapshot(101, 101, frozenset()), 602.0)
    gate.streamed([101], 10, 20)
    assert gate.passes(Snapshot(101, 102, frozenset({101})), 10)


def test_what_was_seen_once_need_not_be_seen_again() -> None:
    gate = Gate()
    gate.start(0)
    gate.streamed([11], 0, 100)
    assert gate.passes(snapshot(12, 12), 0)
    assert not gate.waiting


def test_a_position_not_streamed_yet_is_not_read_for() -> None:
    gate = Gate()
    gate.start(0)
    assert not gate.passes(snapshot(50, 50), 100)
    gate.streamed([11], 0, 100)
    assert gate.passes(snapshot(50, 50), 100)


@dataclass
class Reading:
    snapshot: Snapshot
    insert_lsn: int = 0


class Reads:
    """Gives the snapshots of a list, the last one for ever; counts those open."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self.left = list(snapshots)
        self.taken = self.open = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Reading]:
        self.taken += 1
        self.open += 1
        found = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        try:
            yield Reading(found)
        finally:
            self.open -= 1


async def test_open_waits_and_holds_no_snapshot_meanwhile() -> None:
    waited: list[float] = []
    gate = Gate(waited=waited.append)
    gate.start(0)
    gate.streamed([11], 0, 100)
    hidden = snapshot(11, 12, 11)
    reads = Reads(hidden, hidden, snapshot(12, 12))
    async with gate.open(reads.take, 100) as reading:
        assert reading.snapshot == snapshot(12, 12)
        assert reads.open == 1
    assert reads.taken == 3
    assert waited[-1] == 0.0 and len(waited) == 3


async def test_who_waits_waits_on_when_the_stream_starts_again() -> None:
    """A transaction still invisible is not forgotten with the connection."""
    gate = Gate()
    gate.start(0)
    gate.streamed([11], 0, 100)
    reads = Reads(snapshot(11, 12, 11))
    passed = asyncio.Event()

    async def wait() -> None:
        async with gate.open(reads.take, 100):
            passed.set()

    task = asyncio.create_task(wait())
    while not reads.taken:
        await asyncio.sleep(0)
    gate.start(0)
    before = reads.taken
    while reads.taken < before + 3:
        await asyncio.sleep(0.001)
    assert not passed.is_set()
    gate.streamed([11], 0, 100)
    reads.left = [snapshot(12, 12)]
    await task


async def test_a_snapshot_that_is_older_than_it_looks_does_not_pass() -> None:
    """It was taken before another that has shown a commit, and is looked at after it:
    what it does not show must not be taken for what is there."""
    gate, taken = Gate(), [snapshot(11, 12, 11), snapshot(12, 12)]
    gate.start(0)
    gate.streamed([11], 0, 100)
    late = asyncio.Event()

    @asynccontextmanager
    async def take() -> AsyncIterator[Reading]:
        made = Reading(taken.pop(0))
        if taken:
            await late.wait()
        yield made

    async def reads() -> Snapshot:
        async with gate.open(take, 100) as opened:
            return opened.snapshot

    reading = asyncio.create_task(reads())
    await asyncio.sleep(0)
    gate.look(snapshot(12, 12), 0.0)
    assert gate.invisible_from() is None
    late.set()
    assert (await reading).sees(11)
    assert not taken
    assert not gate._shown, "nothing is remembered that nobody asks for"
