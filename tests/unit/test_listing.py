"""A listing of what a sink holds, by who has all the time to do it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill import patience
from bridge.backfill.listing import listed
from bridge.batch import FanOut
from bridge.errors import Halt, Transient
from bridge.lanes import LaneState
from bridge.sink import Generation, Stored
from tests.unit.parts import GENERATION, LaneBench, until

pytestmark = pytest.mark.unit

PAGES = [[Stored("1", 1, None)], [Stored("2", 1, None)]]


class Bench(LaneBench):
    """A generation that is fed, in a sink that fails at the second page as told."""

    def __init__(self, *troubles: Exception) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.fan_out = FanOut(self.ledger)
        self.fan_out.add(self.lane, GENERATION)

    async def scan(
        self, _generation: Generation, *, documents: bool
    ) -> AsyncIterator[list[Stored]]:
        """See `Sink.scan`."""
        assert not documents
        yield PAGES[0]
        if self.troubles:
            raise self.troubles.pop(0)
        yield PAGES[1]

    def listed(self) -> AsyncIterator[list[Stored]]:
        pipeline: Any = SimpleNamespace(fan_out=self.fan_out)
        return listed(pipeline, cast(Any, self), GENERATION, documents=False)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_S", 0.0)


async def test_what_is_lost_is_listed_from_the_start() -> None:
    bench = Bench(Transient("lost"), Transient("lost"))
    assert [page async for page in bench.listed()] == [PAGES[0], PAGES[0], *PAGES]
    assert bench.lane.state is LaneState.OK


async def test_what_is_not_granted_halts_the_sink_until_it_is_resumed() -> None:
    bench = Bench(Halt("not granted", hint="grant it"))
    pages = bench.listed()
    assert await anext(pages) == PAGES[0]
    waiting = asyncio.ensure_future(anext(pages))
    await until(lambda: bench.lane.state is LaneState.HALTED)
    assert bench.lane.reason == "not granted; grant it"
    bench.lane.set_state(LaneState.OK)
    assert await waiting == PAGES[0]
    assert [page async for page in pages] == PAGES[1:]


async def test_nobody_waits_for_what_is_fed_no_more() -> None:
    """Its place may be gone for good."""
    bench = Bench(*[Transient("no such index")] * 9)
    found = 0
    async for _ in bench.listed():
        found += 1
        bench.fan_out.remove(GENERATION)
    assert found == 1
    assert len(bench.troubles) == 8
