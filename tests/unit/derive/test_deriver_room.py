"""The stage that derives: when it holds a snapshot, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bridge.derive.deriver import DeriveLimits, Deriver, Work
from bridge.gate import Gate, Snapshot
from bridge.ledger import Entry
from bridge.operations import Operation
from bridge.source import Row
from tests.simulation import views
from tests.unit.parts import ledger, until


class Bench:
    """A deriver over a source of any documents, and lanes that may be full."""

    def __init__(self) -> None:
        self.open = self.opened = 0
        self.waited_with_a_snapshot = False
        self.full = False
        self.put: list[str] = []
        self.room = asyncio.Event()
        self.ledger = ledger()
        self.snapshot, self.insert_lsn = Snapshot(10, 10, frozenset()), 0
        gate = Gate()
        gate.streamed([], 0, 100)
        self.deriver = Deriver(
            epoch=1,
            source=self,  # type: ignore[arg-type]
            gate=gate,
            ledger=self.ledger,
            plans=views.PLANS,
            put=self._put,
            reads=lambda *_: None,
            reject=None,  # type: ignore[arg-type]
            room=self._room,
            full=lambda: self.full,
            limits=DeriveLimits(keys_max=1),
        )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        self.open, self.opened = self.open + 1, self.opened + 1
        try:
            yield self
        finally:
            self.open -= 1

    async def documents(
        self, _plan: Any, keys: Sequence[Any], **_: Any
    ) -> tuple[list[Row], list[Any]]:
        return [Row(key, b"{}") for key in keys], []

    def _put(
        self, _view: str, operations: Sequence[Operation], _claim: Entry, _lsn: int
    ) -> None:
        self.put += [operation.key for operation in operations]
        self.full = True

    async def _room(self) -> None:
        if self.full:
            self.waited_with_a_snapshot |= self.open > 0
            await self.room.wait()
            self.room.clear()
            self.full = False


async def test_no_snapshot_is_open_while_there_is_no_room() -> None:
    """It would hold back vacuum for as long as a sink is away."""
    bench = Bench()
    entry = bench.ledger.enter(50, 0.0)
    run = asyncio.create_task(bench.deriver.run())
    await bench.deriver.take(Work(entry, 50, {"flat": [("1",), ("2",), ("3",)]}))
    for count in (1, 2, 3):
        await until(lambda count=count: len(bench.put) == count)  # type: ignore[misc]
        await until(lambda: not bench.open)
        assert entry.derived is (count == 3)
        bench.room.set()
    assert bench.put == ["1", "2", "3"]
    assert bench.opened == 3
    assert not bench.waited_with_a_snapshot
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
