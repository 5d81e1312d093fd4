"""Parking, in its parts: what a parked lane owes, and who answers for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from bridge.errors import Transient
from bridge.feed import Feed
from bridge.lanes import LaneState
from bridge.ledger import Ticket
from bridge.operations import Report
from bridge.parking import Parking
from tests.unit.parts import GENERATION, OTHER, LaneBench, ledger, operation, until


def recorded(feed: Feed) -> dict[str, int]:
    """What the feed gives to be recorded; it is durable then."""
    debts = {key: debt.version for key, debt in feed.record(100).items()}
    feed.recorded()
    return debts


async def test_what_waits_is_owed_and_held_until_it_is_recorded() -> None:
    async with LaneBench() as bench:
        bench.lane.hold()
        first, second = bench.ledger.enter(10, 0.0), bench.ledger.enter(20, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10), operation("2", 10)], first)
        bench.lane.put(GENERATION, [operation("1", 20)], second)
        for entry in (first, second):
            bench.ledger.derived(entry)
        bench.lane.park()
        assert not bench.lane.waiting
        feed = bench.lane.feeds[GENERATION]
        assert {k: d.version for k, d in feed.record(100).items()} == {"1": 20, "2": 10}
        assert bench.ledger.outstanding, "released before it was durable"
        feed.recorded()
        assert not bench.ledger.outstanding


async def test_a_write_without_an_outcome_is_given_up_and_owed() -> None:
    async with LaneBench() as bench:
        bench.sink.answers = [Transient("away") for _ in range(1000)]
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        bench.ledger.derived(entry)
        await bench.sink.called(2)
        bench.lane.park()
        await until(lambda: not bench.lane.waiting)
        calls = len(bench.sink.calls)
        bench.lane.put(GENERATION, [operation("1", 11), operation("2", 11)], entry)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(bench.sink.calls) == calls, "a parked lane has sent something"
        assert recorded(bench.lane.feeds[GENERATION]) == {"1": 11, "2": 11}
        assert not bench.ledger.outstanding


async def test_an_answer_after_parking_releases_nothing_twice() -> None:
    """And the key is not written again before the old call has ended."""
    async with LaneBench() as bench:
        answer = bench.sink.hold()
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        bench.ledger.derived(entry)
        await bench.sink.called(1)
        bench.lane.park()
        assert recorded(bench.lane.feeds[GENERATION]) == {"1": 10}
        bench.lane.unpark()
        later = bench.ledger.enter(20, 0.0)
        bench.lane.put(GENERATION, [operation("1", 20)], later)
        bench.ledger.derived(later)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(bench.sink.calls) == 1
        answer.set_result(Report(kept=1))
        await bench.sink.called(2)
        await until(lambda: not bench.ledger.outstanding)
        assert bench.ledger.kept(GENERATION) == 20


async def test_jobs_are_told_to_do_it_again() -> None:
    async with LaneBench() as bench:
        bench.lane.hold()
        told: list[str] = []
        ticket = Ticket(lambda: told.append("kept"), lambda: told.append("dropped"))
        bench.lane.put(GENERATION, [operation("1", 10)], ticket)
        bench.lane.park()
        bench.lane.put(GENERATION, [operation("2", 10)], ticket)
        assert told == ["dropped", "dropped"]
        assert recorded(bench.lane.feeds[GENERATION]) == {}


async def test_work_for_a_lane_ends_when_that_is_parked() -> None:
    async with LaneBench() as bench:
        endless = asyncio.create_task(
            bench.lane.unless_parked(asyncio.Event().wait())  # type: ignore[arg-type]
        )
        await asyncio.sleep(0)
        bench.lane.park()
        assert await endless is False
        bench.lane.unpark()
        assert await bench.lane.unless_parked(asyncio.sleep(0)) is True


def test_a_key_asked_for_while_it_is_recorded_stays_owed() -> None:
    """Its entry is released with a record of its own, not with the one before."""
    own = ledger()
    feed = Feed(GENERATION, own)
    first, second = own.enter(10, 0.0), own.enter(20, 0.0)
    feed.put([operation("1", 10)], first, full=True)
    own.derived(first)
    feed.record(100)
    feed.put([operation("1", 20)], second, full=True)
    own.derived(second)
    feed.recorded()
    assert own.kept(GENERATION) == 10
    assert recorded(feed) == {"1": 20}
    assert own.kept(GENERATION) == 20


def test_the_slot_does_not_wait_for_one_set_aside_and_it_is_not_level() -> None:
    own = ledger()
    entry = own.enter(10, 0.0)
    own.note(GENERATION, 10)
    own.hold(entry, OTHER, 1)
    own.derived(entry)
    own.set_aside(GENERATION, 5, 0.0)
    assert own.acknowledge() == 0, "another still holds the batch"
    own.release(entry, OTHER, 1)
    own.recorded(OTHER, 10)
    assert own.acknowledge() == 10
    assert (own.kept(GENERATION), own.applied(GENERATION)) == (5, 5)
    assert own.held_at(GENERATION) is None
    own.take_back(GENERATION)
    assert own.applied(GENERATION) == 10


def test_what_stands_aside_outlives_the_stream() -> None:
    own = ledger()
    own.set_aside(GENERATION, 5, 0.0)
    own.start(30)
    assert own.applied(GENERATION) == 5


def test_who_holds_the_slot_back_is_known() -> None:
    own = ledger()
    first, second = own.enter(10, 0.0), own.enter(20, 0.0)
    for entry, holder in ((first, OTHER), (second, GENERATION)):
        own.hold(entry, holder, 1)
        own.derived(entry)
    assert own.held_at(OTHER) == 0
    assert own.held_at(GENERATION) == 10


BUDGET = 1000


def parking(bench: LaneBench) -> Parking:
    """Of the bench's lane, over a stream that is open; nothing runs."""
    claimed = asyncio.Event()
    claimed.set()
    config = SimpleNamespace(source=SimpleNamespace(wal_budget_bytes=BUDGET))
    pipeline = SimpleNamespace(ledger=bench.ledger, streaming=True)
    assembly = SimpleNamespace(config=config, pipeline=pipeline, store=None)
    return Parking(cast(Any, assembly), cast(Any, None), bench.lane, claimed)


async def behind(bench: LaneBench, *lsns: int) -> None:
    """What comes up to there waits before the lane's sink."""
    for lsn in lsns:
        entry = bench.ledger.enter(lsn, 0.0)
        bench.lane.put(GENERATION, [operation(str(lsn), lsn)], entry)
        bench.ledger.derived(entry)


async def test_who_was_parked_once_is_not_parked_at_the_next_look() -> None:
    """It has to be found behind again as often as before."""
    async with LaneBench() as bench:
        own = parking(bench)
        bench.lane.hold()
        await behind(bench, 10, 5000)
        looks = 0
        while not bench.lane.parked:
            own.consider(6000, 6000)
            looks += 1
        assert looks > 1
        recorded(bench.lane.feeds[GENERATION])
        bench.lane.unpark()
        bench.lane.owing = False
        await behind(bench, 10_000)
        for _ in range(looks - 1):
            own.consider(20_000, 20_000)
            assert not bench.lane.parked
        own.consider(20_000, 20_000)
        assert bench.lane.parked


async def test_a_sink_is_not_parked_for_log_that_a_crash_holds_back() -> None:
    """Until all that is doubtful was derived again nothing is acknowledged, whoever
    takes documents; one that takes none is parked all the same."""
    async with LaneBench() as bench:
        own = parking(bench)
        bench.lane.hold()
        await behind(bench, 10, 5000)
        bench.ledger.frozen = True
        for _ in range(10):
            own.consider(6000, 6000)
        assert not bench.lane.parked
        bench.lane.set_state(LaneState.DOWN, "away")
        own.consider(6000, 6000)
        assert bench.lane.parked
