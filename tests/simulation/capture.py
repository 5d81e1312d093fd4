"""The simulated stream: one connection's life.

The one thing to know: it brings whole transactions in log order once they are durable,
visible or not, tells the end of what was sent at any point between, and its
acknowledgements arrive late or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from bridge.changes import Keepalive
from bridge.derive.digest import Batch
from bridge.errors import Transient
from bridge.live_digest import LiveDigest
from tests.simulation.source import Server


class SimulatedCapture:
    """`pipeline.Capture` over the simulated server."""

    def __init__(self, server: Server, digest: LiveDigest, confirmed: int) -> None:
        self._server = server
        self._digest = digest
        self._sent = confirmed
        self._told = confirmed
        self._told_end = confirmed
        self._asked = False
        self._life = server.life
        self._lost = asyncio.Event()
        self.open = True
        self.lost_at: float | None = None

    def lose(self, *, silently: bool = False) -> None:
        """The connection ends; `silently`: with the process, which tells no more."""
        if self.lost_at is None:
            self.lost_at = asyncio.get_running_loop().time()
        if silently:
            self.open = False
        self._lost.set()
        self._server.moved.set()

    def _gone(self) -> bool:
        return self._lost.is_set() or self._life != self._server.life

    async def get(self) -> Iterable[Batch] | Keepalive:
        dice = self._server.dice
        while True:
            if self._gone():
                self.lose()
                raise Transient("the stream has ended")
            if dice.random() < 0.7:
                await asyncio.sleep(dice.expovariate(1 / self._server.profile.stream_s))
                continue
            due = [
                txn
                for txn in self._server.log
                if self._sent < txn.end_lsn <= self._server.flush_lsn
            ]
            if due and dice.random() < 0.9:
                due = due[: dice.choice((1, 1, 2, 4, 8))]
                self._sent = self._told_end = due[-1].end_lsn
                return list(self._digest([txn.streamed() for txn in due]))
            end = due[0].end_lsn - 8 if due else self._server.flush_lsn
            if end > self._told_end or self._asked:
                self._asked = False
                self._told_end = max(self._told_end, end)
                return Keepalive(self._told_end)
            self._server.moved.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._server.moved.wait()
            except TimeoutError:
                continue

    async def lost(self) -> None:
        while not self._gone():
            try:
                async with asyncio.timeout(0.05):
                    await self._lost.wait()
            except TimeoutError:
                continue
        self.lose()
        await asyncio.sleep(self._server.dice.random() * 0.02)
        raise Transient("the stream has ended")

    def acknowledge(self, lsn: int) -> None:
        assert lsn <= self._told_end, "acknowledged more than the server has sent"
        self._told = max(self._told, lsn)
        delay = self._server.dice.random() * 0.3
        asyncio.get_running_loop().call_later(delay, self._arrive, lsn)

    def _arrive(self, lsn: int) -> None:
        slot = self._server.slot
        if self.open and not self._gone() and slot is not None:
            slot.confirmed = max(slot.confirmed, lsn)
            if self._server.dice.random() < 0.2:
                slot.on_disk = slot.confirmed  # as when `restart_lsn` moves

    def applied(self, lsn: int) -> None:
        assert lsn <= self._told_end, "applied more than the server has sent"

    def ask(self) -> None:
        self._asked = True
        self._server.moved.set()

    async def close(self) -> None:
        if self._life == self._server.life:
            self._arrive(self._told)
        self.lose()
        self.open = False
        await asyncio.sleep(0)
