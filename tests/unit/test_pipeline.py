"""The pipeline's own promises; everything else about it is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from bridge.errors import Halt, Transient
from bridge.gate import Gate
from bridge.lanes import LaneState
from bridge.ledger import Sweep
from bridge.operations import Report
from bridge.pipeline import Pipeline, _together
from bridge.progress import Progress
from bridge.surroundings import PipelineLimits
from tests.unit.parts import GENERATION, LaneBench, nothing, operation


async def test_a_life_that_is_ended_while_it_fails_is_ended() -> None:
    """An error at the same moment must not hide it: the next life would begin."""
    began = asyncio.Event()

    async def fails() -> None:
        began.set()
        try:
            await asyncio.sleep(1000)
        finally:
            raise Transient("the stream has ended")

    task = asyncio.create_task(_together(fails(), fails()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reason_to_stop_goes_before_one_to_try_again() -> None:
    async def transient() -> None:
        raise Transient("away")

    async def halt() -> None:
        raise Halt("no")

    for _ in range(5):
        with pytest.raises(Halt):
            await _together(transient(), halt(), transient())


async def test_what_ends_in_order_ends_nothing_else() -> None:
    done = asyncio.Event()

    async def ends() -> None:
        done.set()

    task = asyncio.create_task(_together(ends(), asyncio.sleep(1000)))
    await done.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _drained(bench: LaneBench) -> Iterator[asyncio.Task[None]]:
    """The end of a pipeline with one lane, to which one batch has come."""
    hooks: Any = mock.Mock(reject=nothing, rederive=nothing, settled=nothing)
    pipeline = Pipeline(
        epoch=1,
        source=cast(Any, SimpleNamespace(emit=nothing)),
        connect=cast(Any, nothing),
        lanes={"sink": bench.lane},
        plans={},
        ledger=bench.ledger,
        gate=Gate(),
        hooks=hooks,
        limits=PipelineLimits(acknowledge_s=0.0),
    )
    entry = bench.ledger.enter(10, 0.0)
    bench.lane.put(GENERATION, [operation("1", 10)], entry)
    bench.ledger.derived(entry)
    with mock.patch.object(Progress, "finish", nothing):
        task = asyncio.create_task(pipeline.drain())
        yield task
        task.cancel()


async def _turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_can_be_written_is_before_it_ends() -> None:
    async with LaneBench() as bench:
        answer = bench.sink.hold()
        with _drained(bench) as task:
            await bench.sink.called(1)
            await _turns()
            assert not task.done()
            answer.set_result(Report(kept=1))
            await asyncio.wait_for(task, 5)


async def test_what_is_not_derived_is_before_it_ends() -> None:
    async with LaneBench() as bench:
        entry = bench.ledger.enter(5, 0.0)
        with _drained(bench) as task:
            await bench.sink.called(1)
            await _turns()
            assert not task.done()
            bench.ledger.derived(entry)
            await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("how", ["parked", "recording", "paused", "swept"])
async def test_what_nobody_will_keep_is_not_waited_for(how: str) -> None:
    """Debts are recorded, and paid, at markers, of which none is taken any more."""
    async with LaneBench() as bench:
        bench.lane.hold()
        with _drained(bench) as task:
            feed = bench.lane.feeds[GENERATION]
            match how:
                case "parked":
                    bench.lane.park()
                case "recording":  # and it flows again
                    bench.lane.park()
                    feed.record(100)
                    bench.lane.unpark()
                case "paused":
                    bench.lane.set_state(LaneState.PAUSED)
                case "swept":
                    entry = bench.ledger.enter(20, 0.0)
                    bench.ledger.hold(entry, Sweep(GENERATION), 1)
                    bench.ledger.derived(entry)
            bench.lane.unhold()
            await asyncio.wait_for(task, 5)
            kept = bench.ledger.kept(GENERATION)
            assert kept == (10 if how == "swept" else 0)
