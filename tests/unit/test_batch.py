"""The fan-out: every generation of a view, and what jobs learn of the stream."""

from __future__ import annotations

import asyncio

from bridge.batch import FanOut
from bridge.lanes import LaneLimits
from bridge.ledger import Ticket
from bridge.operations import Operation
from bridge.sink import Generation
from tests.unit.parts import GENERATION, OTHER, LaneBench, operation


def waiting(bench: LaneBench, generation: Generation) -> list[Operation]:
    return [o for o, _ in bench.lane.feeds[generation].waiting.values()]


async def test_every_generation_of_the_view_gets_what_the_stream_derives() -> None:
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    fan_out.add(bench.lane, GENERATION)
    fan_out.add(bench.lane, OTHER)
    fan_out.add(bench.lane, OTHER)
    entry = bench.ledger.enter(10, 0.0)
    fan_out.put("view", [operation("1", 10)], entry, 10)
    fan_out.put("unknown", [operation("1", 10)], entry, 10)
    bench.ledger.derived(entry)
    for generation in (GENERATION, OTHER):
        assert waiting(bench, generation) == [operation("1", 10)]
        assert bench.ledger.content(generation) == 10
        assert bench.ledger.kept(generation) == 0


async def test_a_job_writes_to_its_own_generations_while_they_are_fed() -> None:
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    fan_out.add(bench.lane, GENERATION)
    fan_out.add(bench.lane, OTHER)
    told: list[bool] = []
    ticket = Ticket(lambda: told.append(True))
    ticket.hold(1)
    fan_out.put_job([OTHER], [operation("1", 10)], ticket)
    assert not waiting(bench, GENERATION)
    assert len(waiting(bench, OTHER)) == 1
    fan_out.remove(OTHER)
    fan_out.put_job([OTHER], [operation("2", 10)], ticket)
    assert fan_out.outlet(OTHER) is None
    assert not told, "what was dropped with the generation was not kept"


async def test_a_watch_tells_what_the_stream_has_overtaken_since_it_began() -> None:
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    fan_out.add(bench.lane, GENERATION)
    entry = bench.ledger.enter(10, 0.0)
    fan_out.put("view", [operation("1", 10)], entry, 10)
    with fan_out.watch("view") as one, fan_out.watch("view") as two:
        fan_out.put("view", [operation("2", 10)], entry, 10)
        fan_out.put("other", [operation("3", 10)], entry, 10)
        fan_out.put_job([GENERATION], [operation("4", 10)], Ticket(lambda: None))
        assert one == two == {"2": 10}
    fan_out.put("view", [operation("5", 10)], entry, 10)
    assert one == {"2": 10}


async def test_a_job_is_overtaken_by_later_positions_alone() -> None:
    """A sink that holds more than an older one refuses that, and needs the job's."""
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    entry = bench.ledger.enter(30, 0.0)
    with fan_out.watch("view") as overtaken:
        fan_out.put("view", [operation("older", 10), operation("same", 20)], entry, 20)
        fan_out.put("view", [operation("later", 30)], entry, 30)
        fan_out.put("view", [operation("later", 10)], entry, 10)
    mine = [operation(key, 20) for key in ("older", "same", "later", "nobody's")]
    assert [o.key for o in overtaken.left(mine)] == ["older", "same", "nobody's"]


async def test_what_was_being_read_is_not_for_a_generation_added_since() -> None:
    """A later change that took it away again may have gone by before."""
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    fan_out.add(bench.lane, GENERATION)
    entry = bench.ledger.enter(10, 0.0)
    fan_out.add(bench.lane, OTHER)
    fan_out.put("view", [operation("1", 10)], entry, 10)
    assert waiting(bench, GENERATION)
    assert not waiting(bench, OTHER)
    assert bench.ledger.content(OTHER) == 0
    fan_out.put("view", [operation("2", 11)], bench.ledger.enter(11, 0.0), 11)
    assert [o.key for o in waiting(bench, OTHER)] == ["2"]
    bench.ledger.start(5)
    fan_out.put("view", [operation("3", 10)], bench.ledger.enter(10, 0.0), 10)
    assert len(waiting(bench, OTHER)) == 2, "it comes again in its order"


async def test_owed_keys_are_owed_to_every_generation() -> None:
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    fan_out.add(bench.lane, GENERATION)
    fan_out.add(bench.lane, OTHER)
    fan_out.owe("view", [("1", ("1",))], 10, bench.ledger.enter(10, 0.0))
    assert bench.lane.owed == 2


async def test_a_slow_lane_is_waited_for_only_while_nobody_else_could_go_on() -> None:
    limits = LaneLimits(bytes_max=1000, patience_s=0.01)
    slow, quick = LaneBench(limits), LaneBench(limits)
    fan_out = FanOut(slow.ledger)
    fan_out.add(slow.lane, GENERATION)
    slow.lane.hold()
    entry = slow.ledger.enter(10, 0.0)
    fan_out.put("view", [operation("1", 10, b"x" * 1000)], entry, 10)
    alone = asyncio.create_task(fan_out.room())
    await slow.lane.room(0.05)
    assert not alone.done(), "there is nobody whom it holds up"
    assert not slow.lane.owing
    fan_out.add(quick.lane, OTHER)
    await alone
    assert slow.lane.owing
    assert not quick.lane.owing


async def test_more_owed_keys_than_there_should_be_slow_everybody_down() -> None:
    """Each wait ends by itself: to write the keys down takes the stream."""
    slow = LaneBench(LaneLimits(owed_max=10))
    fan_out = FanOut(slow.ledger)
    fan_out.add(slow.lane, GENERATION)
    keys = [(str(n), (str(n),)) for n in range(25)]
    entry = slow.ledger.enter(10, 0.0)
    fan_out.owe("view", keys[:10], 10, entry)
    waits = asyncio.create_task(fan_out.room())
    await asyncio.sleep(0)
    assert waits.done(), "so many there may be"
    fan_out.owe("view", keys[10:], 10, entry)
    waits = asyncio.create_task(fan_out.room())
    await asyncio.sleep(0)
    assert not waits.done(), "too many were not waited for"
    await waits


async def test_a_truncated_table_makes_void_what_jobs_have_read() -> None:
    bench = LaneBench()
    fan_out = FanOut(bench.ledger)
    with fan_out.watch("view") as overtaken, fan_out.watch("other") as other:
        assert not overtaken.everything
        fan_out.truncated("view")
        assert overtaken.everything and not other.everything
    with fan_out.watch("view") as later:
        assert not later.everything
