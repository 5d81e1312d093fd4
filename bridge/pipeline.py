"""One slot from end to end: the stages joined.

    capture thread ─▶ consume ─┬─▶ puts ────────────────▶ FanOut ─▶ Lane ─▶ sink
                               └─▶ keys, images ─▶ Deriver ──┘        │
    slot ◀── acknowledge ◀───────────── Ledger ◀──────────────────────┘ kept

The one thing to know: a lost stream is handled like a crash. Everything that waits is
dropped, the stream starts again from what was acknowledged, and what comes again
changes nothing, because every write carries its version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from bridge import probes
from bridge.batch import FanOut
from bridge.changes import Keepalive
from bridge.deliver import Lane
from bridge.derive.deriver import Deriver, Work
from bridge.derive.digest import Batch
from bridge.derive.view import ViewPlan
from bridge.doubt import Doubt
from bridge.errors import Transient
from bridge.gate import Gate
from bridge.ledger import Entry, Ledger
from bridge.markers import Markers
from bridge.progress import Progress
from bridge.sink import Generation
from bridge.source import Source
from bridge.surroundings import Capture, Hooks, PipelineLimits

_LOOK_S, _LOOK_MAX_S = 0.002, 0.1
_ALTERED = b"altered"
"""What event triggers put into the log (`control/sql/install_notices.sql`)."""


class Pipeline:
    """One stream and all that follows from it."""

    def __init__(
        self,
        *,
        epoch: int,
        source: Source,
        connect: Callable[[], Awaitable[tuple[Capture, int]]],
        lanes: Mapping[str, Lane],
        plans: Mapping[str, ViewPlan],
        ledger: Ledger,
        gate: Gate,
        hooks: Hooks,
        limits: PipelineLimits,
    ) -> None:
        """`connect` opens the stream and tells where the slot stands; `lanes` and
        `plans` may change while the pipeline runs."""
        self.epoch = epoch
        self.source = source
        self.lanes = lanes
        self.plans = plans
        self.ledger = ledger
        self.gate = gate
        self.fan_out = FanOut(ledger)
        self.markers = Markers(source.emit)
        self.progress = Progress(
            ledger=ledger,
            gate=gate,
            fan_out=self.fan_out,
            markers=self.markers,
            hooks=hooks,
            limits=limits,
        )
        self.doubt = Doubt(ledger, self.markers, hooks.rederive, hooks.settled)
        self._connect = connect
        self._hooks = hooks
        self._limits = limits
        self._ready = asyncio.Event()
        self._taking = asyncio.Event()
        self._taking.set()
        self._held: list[Lane] = []
        self._deriver = Deriver(
            epoch=epoch,
            source=source,
            gate=gate,
            ledger=ledger,
            plans=plans,
            put=self.fan_out.put,
            reads=self.doubt.reads,
            sweep=self._sweep,
            reject=hooks.reject,
            room=self._room,
            full=lambda: self.fan_out.full or self.doubt.full,
            calm=lambda: self.fan_out.calm and not self.doubt.full,
            cost=hooks.cost,
            limits=limits.derive,
        )

    async def run(self) -> None:
        """Stream until cancelled, or until something halts it (raised)."""
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._deriver.run, self._look, self._stream)
                for part in (*parts, *self.progress.parts):
                    group.create_task(part())
        finally:
            await self.markers.close()

    @property
    def streaming(self) -> bool:
        """Whether the stream is open."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """Wait until the stream is open."""
        await self._ready.wait()

    async def level(self, generation: Generation, lsn: int) -> None:
        """Wait until everything up to `lsn` shows in the generation."""
        while self.ledger.applied(generation) < lsn:
            self.progress.ask()
            await asyncio.sleep(self._limits.acknowledge_s)

    def stop_taking(self) -> None:
        """Take nothing more from the stream; what was taken goes on."""
        self._taking.clear()

    async def drain(self) -> None:
        """Wait until everything taken in that can be is kept, and written down.

        Not for what a sink is owed: that is derived or recorded at a marker, and nobody
        takes one any more. Nor for what waits before a sink that is sent nothing.
        """
        tick_s = self._limits.acknowledge_s
        # Many things move it.
        while self._under_way() or self.gate.waiting:  # noqa: ASYNC110
            await asyncio.sleep(tick_s)
        await self.progress.finish()

    def _under_way(self) -> bool:
        lanes, ledger = self.lanes.values(), self.ledger
        writes = any(lane.waiting and not lane.stopped for lane in lanes)
        return writes or not ledger.derived_to(ledger.end)

    # — the stream —

    async def _stream(self) -> None:
        self._hold()
        delay = self._limits.retry_first_s
        while True:
            began = time.monotonic()
            try:
                await self._one_life()
            except Transient as error:
                self._hooks.state("connecting", str(error))
            if time.monotonic() - began > self._limits.retry_max_s:
                delay = self._limits.retry_first_s
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._limits.retry_max_s)

    async def _one_life(self) -> None:
        """Connect, and stream until the connection is lost."""
        self._hooks.state("connecting", "")
        capture, confirmed = await self._connect()
        try:
            self.progress.found(confirmed)
            self.gate.start(confirmed)
            self._deriver.forget()
            for lane in self.lanes.values():
                await lane.reset()
            self.ledger.start(confirmed)
            self.doubt.start()
            self.progress.begin(capture)
            self._ready.set()
            self._unhold()
            self._hooks.state("streaming", "")
            await _together(
                self._watch(capture), self._consume(capture), self.doubt.settle()
            )
        finally:
            self._ready.clear()
            self.progress.end()
            self._hold()
            try:
                await capture.close()
            finally:
                for lane in self.lanes.values():
                    await lane.reset()

    def _hold(self) -> None:
        """Nothing is sent without a slot: another daemon may have it by now."""
        self._unhold()
        self._held = list(self.lanes.values())
        for lane in self._held:
            lane.hold()

    def _unhold(self) -> None:
        while self._held:
            self._held.pop().unhold()

    async def _room(self) -> None:
        await self.fan_out.room()
        while self.doubt.full:  # noqa: ASYNC110 - the stream's end moves it
            await asyncio.sleep(self._limits.acknowledge_s)

    async def _watch(self, capture: Capture) -> None:
        await capture.lost()
        raise Transient("the stream has ended")

    async def _consume(self, capture: Capture) -> None:
        while True:
            item = await capture.get()
            if isinstance(item, Keepalive):
                self.ledger.keepalive(item.wal_end)
                continue
            for batch in item:
                await probes.reach("capture.batch")
                await self._taking.wait()
                await self._take(batch)
                await self.fan_out.room()

    async def _take(self, batch: Batch) -> None:
        """One batch: documents into the lanes, keys to the deriver."""
        ledger = self.ledger
        # A piece of a huge transaction ends where the one before it did, and the server
        # may have told meanwhile that it has sent more.
        end_lsn = max(batch.end_lsn, ledger.end) if batch.piece else batch.end_lsn
        entry = ledger.enter(end_lsn, batch.commit_time_s)
        self.gate.streamed(batch.xids, entry.start, batch.version_lsn)
        self._hooks.batch(batch)
        for view, puts in batch.puts.items():
            self.fan_out.put(view, list(puts.values()), entry, batch.version_lsn)
        if not batch.empty:
            self.progress.want(batch.end_lsn)
        for view in self._swept(batch):
            self._sweep(view, batch.version_lsn, entry)
        if batch.reread or batch.images or batch.null_keys:
            keys = {view: tuple(keys) for view, keys in batch.reread.items()}
            work = Work(entry, batch.version_lsn, keys, batch.images, batch.null_keys)
            await self._deriver.take(work)
        else:
            ledger.derived(entry)
        for _prefix, content, lsn in batch.messages:
            text = content.decode("utf-8", "replace")
            self.progress.want(lsn)
            self.markers.arrived(text, lsn)
            self._hooks.message(text, lsn)
        if any(content == _ALTERED for _, content, _ in batch.messages):
            await self._hooks.altered()

    def _sweep(self, view: str, lsn: int, entry: Entry) -> None:
        self.fan_out.truncated(view)
        self._hooks.truncated(view, lsn, entry)

    def _swept(self, batch: Batch) -> list[str]:
        """Views of which every document is to be derived again."""
        if not (batch.truncated or batch.sweeps):
            return []
        return [
            name
            for name, plan in self.plans.items()
            if name in batch.sweeps
            or any(use.table.oid in batch.truncated for use in plan.tables)
        ]

    # — beside it —

    async def _look(self) -> None:
        """See whether what was streamed has become visible, while nobody reads."""
        delay = _LOOK_S
        while True:
            await asyncio.sleep(delay)
            if not self.gate.waiting:
                delay = _LOOK_S
                continue
            try:
                async with self.source.read() as reader:
                    before = self.gate.invisible_from()
                    self.gate.look(reader.snapshot, time.monotonic())
            except Transient:
                delay = _LOOK_MAX_S
                continue
            moved = self.gate.invisible_from() != before
            delay = _LOOK_S * 10 if moved else min(delay * 2, _LOOK_MAX_S)


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run until one fails, which is raised, or all have ended.

    Not a task group: in 3.11 an error of its own hides that it was cancelled, and
    whoever then tries again could not be stopped any more.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for task in done if (error := task.exception())]
        for error in sorted(errors, key=lambda e: isinstance(e, Transient)):
            raise error  # a reason to stop before one to try again
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
