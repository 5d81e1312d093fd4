"""The lane: writes in order, again and again until their outcome is known."""

from __future__ import annotations

import asyncio

from bridge.errors import Halt, Transient
from bridge.lanes import LaneLimits, LaneState, WriteSize
from bridge.ledger import Ticket
from bridge.operations import Report
from tests.unit.parts import (
    GENERATION,
    OTHER,
    QUICK,
    LaneBench,
    again,
    operation,
    refused,
    until,
)


async def test_a_kept_write_releases_its_entry() -> None:
    async with LaneBench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        bench.ledger.derived(entry)
        await until(lambda: bench.ledger.kept(GENERATION) == 10)
        assert [o.kept for o in (k.report for k in bench.kept)] == [1]


async def test_what_failed_is_called_again_with_exactly_the_same() -> None:
    async with LaneBench() as bench:
        bench.sink.answers = [Transient("away"), Transient("away")]
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10), operation("2", 10)], entry)
        await bench.sink.called(1)
        bench.lane.put(GENERATION, [operation("1", 11), operation("3", 11)], entry)
        await until(lambda: not bench.lane.waiting)
        first = [c for c in bench.sink.calls if c[0].version == 10]
        assert len(first) >= 2
        assert all(call == first[0] for call in first)
        renewed = next(c for c in bench.sink.calls if operation("1", 11) in c)
        assert bench.sink.calls.index(renewed) > bench.sink.calls.index(first[-1])


async def test_nothing_is_sent_without_the_lease() -> None:
    """Not even what was sent before, and what waits goes on once it is known again."""
    async with LaneBench() as bench:
        bench.sink.answers = [Transient("away")]
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        await bench.sink.called(1)
        bench.leased = False
        bench.lane.put(GENERATION, [operation("2", 11)], entry)
        await asyncio.sleep(0.05)
        assert len(bench.sink.calls) == 1
        bench.leased = True
        await until(lambda: not bench.lane.waiting)


async def test_the_state_tells_that_the_sink_is_away_and_back() -> None:
    async with LaneBench() as bench:
        bench.sink.answers = [Transient("away", hint="wait")]
        answer = bench.sink.hold()
        bench.lane.put(GENERATION, [operation("1", 10)], bench.ledger.enter(10, 0.0))
        await bench.sink.called(2)
        assert (bench.lane.state, bench.lane.reason) == (LaneState.DOWN, "away; wait")
        answer.set_result(Report(kept=1))
        await until(lambda: bench.lane.state is LaneState.OK)


async def test_no_two_writes_of_one_key_are_under_way() -> None:
    async with LaneBench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        first = bench.sink.hold()
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        await bench.sink.called(1)
        bench.lane.put(GENERATION, [operation("1", 11), operation("2", 11)], entry)
        await bench.sink.called(2)
        assert [o.key for o in bench.sink.calls[1]] == ["2"]
        await asyncio.sleep(0.01)
        assert len(bench.sink.calls) == 2
        first.set_result(Report(kept=1))
        await bench.sink.called(3)
        assert bench.sink.calls[2] == [operation("1", 11)]


async def test_a_write_s_end_does_not_free_keys_of_a_later_one() -> None:
    """`1` is kept, `2` is sent again; meanwhile another write has taken `1`."""
    async with LaneBench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        bench.sink.answers = [again(1)]
        bench.lane.put(GENERATION, [operation("1", 10), operation("2", 10)], entry)
        retried, second = bench.sink.hold(), bench.sink.hold()
        await bench.sink.called(1)
        bench.lane.put(GENERATION, [operation("1", 11)], entry)
        await bench.sink.called(3)
        by_key = {c[0].key: c[0].version for c in bench.sink.calls[1:]}
        assert by_key == {"1": 11, "2": 10}
        on_two = retried if bench.sink.calls[1][0].key == "2" else second
        on_one = second if on_two is retried else retried
        on_two.set_result(Report(kept=1))
        await until(lambda: "2" not in bench.lane.feeds[GENERATION].flying)
        bench.lane.put(GENERATION, [operation("1", 12)], entry)
        for _ in range(50):
            await asyncio.sleep(0.0005)
        assert len(bench.sink.calls) == 3, "`1` is still under way"
        on_one.set_result(Report(kept=1))
        await bench.sink.called(4)


async def test_little_is_written_between_much_of_another() -> None:
    """A generation that is being built always has most waiting, and its stream's
    neighbours are not held up by it."""
    async with LaneBench() as bench:
        bench.lane.add(OTHER)
        entry = bench.ledger.enter(10, 0.0)
        held = [bench.sink.hold() for _ in range(2)]
        built = [operation(str(n), 10) for n in range(1000)]
        bench.lane.put(GENERATION, built, entry)
        await bench.sink.called(2)
        bench.lane.put(OTHER, [operation("1", 10)], entry)
        for answer in held:
            answer.set_result(Report(kept=100))
        await until(lambda: not bench.lane.waiting)
        assert OTHER in bench.sink.generations[2:4]


async def test_items_to_be_sent_again_go_alone_and_hold_their_entry() -> None:
    async with LaneBench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        bench.sink.answers = [again(0, 2)]
        last = bench.sink.hold()
        operations = [operation(key, 10) for key in "123"]
        bench.lane.put(GENERATION, operations, entry)
        bench.ledger.derived(entry)
        await bench.sink.called(2)
        assert bench.sink.calls[1] == [operations[0], operations[2]]
        assert bench.ledger.kept(GENERATION) == 0
        last.set_result(Report(kept=2))
        await until(lambda: bench.ledger.kept(GENERATION) == 10)


async def test_a_refused_document_is_a_letter_and_the_rest_goes_on() -> None:
    async with LaneBench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        bench.sink.answers = [refused(0)]
        bench.lane.put(GENERATION, [operation("1", 10), operation("2", 10)], entry)
        bench.ledger.derived(entry)
        await until(lambda: bench.ledger.kept(GENERATION) == 10)
        assert [k for o in bench.letters for k in o.report.rejections] == [0]


async def test_a_key_with_a_letter_is_told_when_it_is_kept_later() -> None:
    async with LaneBench() as bench:
        bench.lane.feeds[GENERATION].dead["1"] = 5
        bench.lane.put(GENERATION, [operation("1", 10)], bench.ledger.enter(10, 0.0))
        await until(lambda: bench.letters)


async def test_halt_stops_the_lane_until_it_is_set_going_again() -> None:
    async with LaneBench() as bench:
        bench.sink.answers = [Halt("no", hint="grant it")]
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        bench.ledger.derived(entry)
        await until(lambda: bench.lane.state is LaneState.HALTED)
        assert bench.lane.reason == "no; grant it"
        await asyncio.sleep(0.01)
        assert len(bench.sink.calls) == 1
        assert bench.ledger.kept(GENERATION) == 0
        bench.lane.set_state(LaneState.OK)
        await until(lambda: bench.ledger.kept(GENERATION) == 10)
        assert bench.sink.calls[0] == bench.sink.calls[1]


async def test_paused_sends_nothing_and_takes_everything() -> None:
    async with LaneBench() as bench:
        bench.lane.set_state(LaneState.PAUSED)
        bench.lane.put(GENERATION, [operation("1", 10)], bench.ledger.enter(10, 0.0))
        await asyncio.sleep(0.01)
        assert not bench.sink.calls
        bench.lane.set_state(LaneState.OK)
        await bench.sink.called(1)


async def test_paused_stops_a_write_that_would_be_repeated() -> None:
    async with LaneBench() as bench:
        answer = bench.sink.hold()
        bench.lane.put(GENERATION, [operation("1", 10)], bench.ledger.enter(10, 0.0))
        await bench.sink.called(1)
        bench.lane.set_state(LaneState.PAUSED)
        answer.set_exception(Transient("away"))
        await asyncio.sleep(0.01)
        assert len(bench.sink.calls) == 1
        assert bench.lane.state is LaneState.PAUSED


async def test_reset_drops_what_waits_and_gives_up_what_is_repeated() -> None:
    async with LaneBench() as bench:
        bench.sink.answers = [Transient("away")] * 1000
        bench.lane.put(GENERATION, [operation("1", 10)], bench.ledger.enter(10, 0.0))
        await bench.sink.called(2)
        bench.lane.hold()
        bench.lane.put(GENERATION, [operation("2", 10)], bench.ledger.enter(10, 0.0))
        await bench.lane.reset()
        assert bench.lane.waiting == 0
        calls = len(bench.sink.calls)
        bench.lane.unhold()
        await asyncio.sleep(0.01)
        assert len(bench.sink.calls) == calls


async def test_an_answer_of_the_life_before_books_nothing() -> None:
    async with LaneBench() as bench:
        answer = bench.sink.hold()
        old = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], old)
        bench.ledger.derived(old)
        await bench.sink.called(1)
        reset = asyncio.create_task(bench.lane.reset())
        await asyncio.sleep(0)
        bench.ledger.start(0)
        again = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], again)
        bench.ledger.derived(again)
        answer.set_result(Report(kept=1))
        await reset
        assert GENERATION in old.holds
        await until(lambda: bench.ledger.kept(GENERATION) == 10)
        assert len(bench.sink.calls) == 2


async def test_a_job_outlives_the_stream_or_is_told() -> None:
    async with LaneBench() as bench:
        told: list[str] = []

        def ticket(name: str) -> Ticket:
            return Ticket(
                lambda: told.append(f"{name} kept"),
                lambda: told.append(f"{name} dropped"),
            )

        answer = bench.sink.hold()
        bench.lane.put(GENERATION, [operation("1", 10)], ticket("answered"))
        await bench.sink.called(1)
        bench.sink.answers = [Transient("away")] * 1000
        bench.lane.put(GENERATION, [operation("2", 10)], ticket("repeated"))
        await bench.sink.called(2)
        bench.lane.hold()
        bench.lane.put(GENERATION, [operation("3", 10)], ticket("waiting"))
        reset = asyncio.create_task(bench.lane.reset())
        await asyncio.sleep(0)
        answer.set_result(Report(kept=1))
        await reset
        assert sorted(told) == [
            "answered kept",
            "repeated dropped",
            "waiting dropped",
        ]


async def test_a_generation_taken_out_is_not_sent_for_ever() -> None:
    async with LaneBench() as bench:
        bench.lane.add(OTHER)
        bench.sink.answers = [Transient("its place is gone")] * 3
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10)], entry)
        bench.ledger.derived(entry)
        await bench.sink.called(1)
        bench.lane.remove(GENERATION)
        assert bench.ledger.kept(GENERATION) == 10
        await asyncio.sleep(0.01)
        calls = len(bench.sink.calls)
        assert calls <= 2
        for key in "123":
            bench.lane.put(OTHER, [operation(key, 10)], bench.ledger.enter(10, 0.0))
        await until(lambda: not bench.lane.waiting)
        sent = zip(bench.sink.generations, bench.sink.calls, strict=True)
        assert sum(g == GENERATION for g, _ in sent) == calls


async def test_a_full_lane_is_slow_after_a_while_and_owes_when_told() -> None:
    limits = LaneLimits(bytes_max=1000, patience_s=0.02, linger_s=0.001)
    async with LaneBench(limits) as bench:
        bench.lane.hold()
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10, b"x" * 1000)], entry)
        assert bench.lane.full
        assert not bench.lane.slow
        await bench.lane.room(0.03)
        assert bench.lane.slow
        bench.lane.owing = True
        bench.lane.put(GENERATION, [operation("2", 10)], entry)
        assert (bench.lane.owed, bench.lane.waiting) == (1, 1)
        job = asyncio.create_task(bench.lane.room())
        await asyncio.sleep(0.005)
        assert not job.done(), "a job waits as long as it takes"
        bench.lane.unhold()
        await job
        assert not bench.lane.full
        assert not bench.lane.owing, "there is room: documents are taken again"


async def test_a_full_lane_that_is_stopped_is_slow_at_once() -> None:
    limits = LaneLimits(bytes_max=1000, patience_s=1000)
    async with LaneBench(limits) as bench:
        bench.lane.set_state(LaneState.HALTED)
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation("1", 10, b"x" * 1000)], entry)
        assert bench.lane.slow


async def test_a_write_stays_within_what_the_sink_takes() -> None:
    async with LaneBench(QUICK) as bench:
        bench.sink.batch_count_max = 2
        bench.lane.hold()
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation(k, 10) for k in "12345"], entry)
        bench.lane.unhold()
        await until(lambda: not bench.lane.waiting)
        assert max(map(len, bench.sink.calls)) == 2
        assert sorted(o.key for c in bench.sink.calls for o in c) == list("12345")


async def test_a_lane_is_calm_until_half_a_write_waits() -> None:
    """Whoever comes next is not behind a whole write of a row in very many documents,
    however small those are."""
    async with LaneBench(LaneLimits(batch_count_max=4)) as bench:
        bench.lane.hold()
        entry = bench.ledger.enter(10, 0.0)
        bench.lane.put(GENERATION, [operation(k, 10) for k in "12"], entry)
        assert bench.lane.calm
        bench.lane.put(GENERATION, [operation("3", 10)], entry)
        assert not bench.lane.calm


def test_writes_that_come_to_nothing_after_a_while_become_smaller() -> None:
    """Whatever a sink may take for one: what is refused at once tells nothing."""
    size = WriteSize(LaneLimits(batch_count_max=100, write_s=5.0))
    size.failed(100, 1.0)
    size.failed(50, 1.0)
    assert size.count == 25
    size.failed(25, 0.01)
    assert size.count == 25
    size.took(25, 0.1)
    assert size.count == 50
