"""What a sweep looks for in a sink waits for what is still on its way there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill.rederive import ghosts
from bridge.batch import FanOut
from bridge.keys import Parts
from bridge.operations import Report
from bridge.position import Position
from bridge.sink import Generation, Stored
from tests.unit.parts import GENERATION, LaneBench, operation, until

pytestmark = pytest.mark.unit

BEFORE = Position(1, 50).version


class Bench(LaneBench):
    """A sink that has a document once one was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.fan_out = FanOut(self.ledger)
        self.fan_out.add(self.lane, GENERATION)
        self.looked = False

    async def scan(
        self, _generation: Generation, *, documents: bool
    ) -> AsyncIterator[list[Stored]]:
        """See `Sink.scan`."""
        assert not documents
        self.looked = True
        yield [
            Stored(each.key, each.version, None)
            for call in self.sink.calls
            for each in call
        ]

    def ghosts(self) -> asyncio.Task[list[Parts]]:
        """Those of before `BEFORE`, once they are listed."""
        pipeline: Any = SimpleNamespace(
            fan_out=self.fan_out,
            ledger=self.ledger,
            source=SimpleNamespace(read=lambda **_: nullcontext(self)),
        )
        plan: Any = SimpleNamespace(cast_sql="")

        async def found() -> list[Parts]:
            pages = ghosts(pipeline, plan, cast(Any, self), GENERATION, BEFORE)
            return [parts async for page in pages for parts in page]

        return asyncio.create_task(found())

    async def stays(self) -> None:
        """It does not look, for as many turns as it takes to look."""
        for _ in range(50):
            await asyncio.sleep(0)
            assert not self.looked


async def test_what_waits_for_the_sink_is_waited_for() -> None:
    async with Bench() as bench:
        held = bench.sink.hold()
        entry = bench.ledger.enter(10, 0.0)
        late = [operation("1", Position(1, 10).version)]
        bench.fan_out.put("view", late, entry, 10)
        bench.ledger.derived(entry)
        task = bench.ghosts()
        await bench.sink.called(1)
        await bench.stays()
        held.set_result(Report(kept=1))
        assert await task == [("1",)]


async def test_what_is_being_read_is_waited_for() -> None:
    async with Bench() as bench:
        entry = bench.ledger.enter(10, 0.0)
        task = bench.ghosts()
        await bench.stays()
        bench.fan_out.put("view", [operation("1", Position(1, 10).version)], entry, 10)
        bench.ledger.derived(entry)
        await until(lambda: bench.sink.calls)
        assert await task == [("1",)]


async def test_what_is_newer_is_not_waited_for() -> None:
    async with Bench() as bench:
        entry = bench.ledger.enter(60, 0.0)
        assert await bench.ghosts() == []
        bench.ledger.derived(entry)
