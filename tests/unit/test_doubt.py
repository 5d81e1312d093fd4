"""Keys whose reads have seen what a crash of the server may take back."""

from __future__ import annotations

import asyncio

from bridge.doubt import Doubt
from bridge.keys import Parts
from bridge.ledger import Ledger
from bridge.markers import Markers
from tests.unit.parts import ledger


class Bench:
    """Doubt whose marker ends at 100, and what it does."""

    def __init__(self) -> None:
        self.again: list[tuple[str, list[Parts]]] = []
        self.settled = 0
        self.ledger: Ledger = ledger()
        self.markers = Markers(self._emit)
        self.doubt = Doubt(self.ledger, self.markers, self._rederive, self._settled)

    async def _emit(self, content: str) -> None:
        self.markers.arrived(content, 100)

    async def _rederive(self, view: str, keys: list[Parts]) -> None:
        assert self.ledger.frozen, "acknowledged before it was derived again"
        self.again.append((view, keys))

    async def _settled(self) -> None:
        self.settled += 1


async def test_a_key_read_with_log_that_is_lost_is_derived_again() -> None:
    """Though nothing in the stream leads to it any more."""
    bench = Bench()
    bench.ledger.keepalive(50)
    bench.doubt.reads("view", [("old",)], 50)
    bench.doubt.reads("view", [("lost",)], 60)
    bench.doubt.suspect = True
    bench.ledger.start(40)
    bench.doubt.start()
    bench.doubt.reads("view", [("replayed",)], 45)
    await bench.doubt.settle()
    assert bench.again == [("view", [("lost",), ("replayed",)])]
    assert bench.settled == 1
    assert not bench.ledger.frozen
    assert not bench.doubt.suspect


async def test_a_stream_lost_before_it_is_settled_forgets_nothing() -> None:
    bench = Bench()
    bench.doubt.reads("view", [("lost",)], 60)
    bench.doubt.suspect = True
    for _ in range(2):
        bench.ledger.start(0)
        bench.doubt.start()
        assert bench.ledger.frozen
    await bench.doubt.settle()
    assert bench.again == [("view", [("lost",)])]


async def test_a_stream_lost_without_a_crash_derives_nothing_again() -> None:
    """But a crash after it does: the log that was seen is not durable yet."""
    bench = Bench()
    bench.doubt.reads("view", [("lost",)], 60)
    bench.ledger.start(0)
    bench.doubt.start()
    await bench.doubt.settle()
    assert bench.again == []
    assert not bench.settled
    bench.doubt.suspect = True
    bench.ledger.start(0)
    bench.doubt.start()
    await bench.doubt.settle()
    assert bench.again == [("view", [("lost",)])]


async def test_it_is_settled_only_when_the_replay_is_derived() -> None:
    bench = Bench()
    bench.doubt.suspect = True
    bench.ledger.start(0)
    bench.doubt.start()
    entry = bench.ledger.enter(90, 0.0)
    settling = asyncio.create_task(bench.doubt.settle())
    for _ in range(20):
        await asyncio.sleep(0)
    bench.doubt.reads("view", [("1",)], 0)
    assert not settling.done()
    bench.ledger.derived(entry)
    await settling
    assert bench.again == [("view", [("1",)])]


def test_who_derives_much_waits_until_its_log_is_durable() -> None:
    bench = Bench()
    bench.doubt.reads("view", [(str(at),) for at in range(200_001)], 60)
    assert bench.doubt.full
    bench.ledger.keepalive(60)
    assert not bench.doubt.full
