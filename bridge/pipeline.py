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
from contextlib import suppress
from typing import Any

from bridge import probes
from bridge.batch import FanOut
from bridge.changes import Keepalive
from bridge.deliver import Lane
from bridge.derive.deriver import Deriver, Work
from bridge.derive.digest import Batch
from bridge.derive.view import ViewPlan
from bridge.doubt import Doubt
from bridge.errors import Halt, Transient
from bridge.gate import Gate
from bridge.ledger import Ledger
from bridge.markers import Markers
from bridge.sink import Generation
from bridge.source import Source
from bridge.surroundings import Capture, Hooks, PipelineLimits

_LOOK_S, _LOOK_MAX_S = 0.002, 0.1
_ASK_S = 0.1
_PUSH_S = 0.1
_APPLIED_S = 0.02
_IDLE_S, _IDLE_BYTES, _IDLE_BYTES_MAX = 5.0, 64 << 10, 4 << 20


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
        self.proven: int | None = None
        """Up to where tables and publication are known to be as they were planned:
        nothing beyond is acknowledged. None: nobody looks."""
        self.doubt = Doubt(ledger, self.markers, hooks.rederive, hooks.settled)
        self._connect = connect
        self._hooks = hooks
        self._limits = limits
        self._capture: Capture | None = None
        self._ready = asyncio.Event()
        self._taking = asyncio.Event()
        self._taking.set()
        self._wanted = 0
        self._ending = False
        self._saved: dict[Generation, int] = {}
        self._saved_s = 0.0
        self._told = 0
        self._moved_to: int | None = None
        self._passed, self._passed_s = 0, 0.0
        self._held: list[Lane] = []
        self._deriver = Deriver(
            epoch=epoch,
            source=source,
            gate=gate,
            ledger=ledger,
            plans=plans,
            put=self.fan_out.put,
            reads=self.doubt.reads,
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
                parts = (self._deriver.run, self._look, self._acknowledge, self._save)
                for part in (*parts, self._record, self._stream, self._tell_applied):
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

    @property
    def acknowledged(self) -> int:
        """What the slot may have moved to."""
        return self._told

    def want(self, lsn: int) -> None:
        """Somebody waits for this position: it is to be written down when applied."""
        self._wanted = max(self._wanted, lsn)

    async def level(self, generation: Generation, lsn: int) -> None:
        """Wait until everything up to `lsn` shows in the generation."""
        while self.ledger.applied(generation) < lsn:
            self.ask()
            await asyncio.sleep(self._limits.acknowledge_s)

    def ask(self) -> None:
        """Have the server say at once how far it is."""
        if self._capture is not None:
            self._capture.ask()

    def stop_taking(self) -> None:
        """Take nothing more from the stream; what was taken goes on."""
        self._taking.clear()

    async def drain(self) -> None:
        """Wait until everything taken in is kept everywhere and written down."""
        tick_s = self._limits.acknowledge_s
        # Many things move it.
        while self.ledger.outstanding or self.gate.waiting:  # noqa: ASYNC110
            await asyncio.sleep(tick_s)
        self._ending = True
        await self.write_down()
        # That has pushed out the log whose end has to come back before the slot moves.
        ends_s = time.monotonic() + 10 * _ASK_S
        while (capture := self._capture) is not None and time.monotonic() < ends_s:
            await self._move(capture, at_once=True)
            if self._told >= min(map(self.saved, self._positions()), default=0):
                return
            capture.ask()
            await asyncio.sleep(tick_s)

    async def write_down(self) -> None:
        """Save and record every position now."""
        positions = self._positions()
        for generation, lsn in positions.items():
            await self._hooks.record(generation, lsn)
            self.ledger.recorded(generation, lsn)
        await self.save(positions)

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
            if self._moved_to is not None and confirmed > self._moved_to:
                raise Halt(
                    "the slot was moved past what is kept: changes were passed over",
                    hint="start the bridge again: it derives every document again",
                )
            self._told = self._moved_to = confirmed
            self.gate.start(confirmed)
            self._deriver.forget()
            for lane in self.lanes.values():
                await lane.reset()
            self.ledger.start(confirmed)
            self.doubt.start()
            self._saved.clear()
            self._capture = capture
            self._ready.set()
            self._unhold()
            self._hooks.state("streaming", "")
            await _together(
                self._watch(capture), self._consume(capture), self.doubt.settle()
            )
        finally:
            self._ready.clear()
            self._capture = None
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
            self._wanted = max(self._wanted, batch.end_lsn)
        for view in self._truncated(batch):
            self.fan_out.truncated(view)
            self._hooks.truncated(view, batch.version_lsn, entry)
        if batch.reread or batch.images or batch.null_keys:
            keys = {view: tuple(keys) for view, keys in batch.reread.items()}
            work = Work(entry, batch.version_lsn, keys, batch.images, batch.null_keys)
            await self._deriver.take(work)
        else:
            ledger.derived(entry)
        for _prefix, content, lsn in batch.messages:
            text = content.decode("utf-8", "replace")
            self._wanted = max(self._wanted, lsn)
            self.markers.arrived(text, lsn)
            self._hooks.message(text, lsn)

    def _truncated(self, batch: Batch) -> list[str]:
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
                    self.gate.passes(reader.snapshot, 0)
            except Transient:
                delay = _LOOK_MAX_S
                continue
            moved = self.gate.invisible_from() != before
            delay = _LOOK_S * 10 if moved else min(delay * 2, _LOOK_MAX_S)

    async def _tell_applied(self) -> None:
        """Tell the server how far every target is, for whoever waits for it there."""
        while True:
            await asyncio.sleep(_APPLIED_S)
            if (capture := self._capture) is not None:
                outlets = list(self.fan_out.outlets())
                aside = not outlets or any(o.lane.aside for o in outlets)
                applied = () if aside else (self.reached(o.generation) for o in outlets)
                capture.applied(min(applied, default=0))

    async def _acknowledge(self) -> None:
        asked, waited_since = 0.0, None
        while True:
            await asyncio.sleep(self._limits.acknowledge_s)
            capture = self._capture
            if capture is None:
                continue
            if not self.ledger.wants_wal_end():
                waited_since = None
            elif waited_since is None:
                waited_since = time.monotonic()
            elif time.monotonic() - waited_since >= _PUSH_S:
                # Nobody else writes the log out that reads have seen: a marker does.
                waited_since = None
                with suppress(Transient):
                    await self.markers.next()
                continue
            await self._move(capture)
            waits = self.ledger.wants_wal_end() or self._unsaved()
            if waits and time.monotonic() - asked >= _ASK_S:
                asked = time.monotonic()
                capture.ask()

    async def _move(self, capture: Capture, *, at_once: bool = False) -> None:
        """Let the slot move as far as it may; of a life that has ended it is nothing.

        `at_once`: even for a little, where that is to be written down first.
        """
        lsn = self._may_acknowledge()
        if lsn <= self._told or not await self._passes(lsn, at_once=at_once):
            return
        await probes.reach("ledger.acknowledge")
        if capture is self._capture and lsn > self._told:
            self._told = self._moved_to = lsn
            capture.acknowledge(lsn)

    async def _passes(self, lsn: int, *, at_once: bool) -> bool:
        """Whether it is written down that the slot may be found at `lsn`.

        The positions of the targets tell it, but for a parked sink's, which stay
        behind. To write makes log, so that this waits until it is worth while.
        """
        parked = any(outlet.lane.aside for outlet in self.fan_out.outlets())
        if not parked or lsn <= self._passed:
            return True
        now = time.monotonic()
        little = lsn - self._passed < _IDLE_BYTES and now - self._passed_s < _IDLE_S
        if little and not at_once:
            return False
        try:
            await self._hooks.passes(lsn)
        except Transient:
            return False
        self._passed, self._passed_s = lsn, now
        return True

    def _may_acknowledge(self) -> int:
        """What the ledger allows, as far as it is written down for every target."""
        lsn = self.ledger.acknowledge()
        if self.proven is not None:
            lsn = min(lsn, self.proven)
        saved = [self.saved(o.generation) for o in self.fan_out.current()]
        return min(lsn, *saved) if saved else lsn

    async def save(self, positions: Mapping[Generation, int]) -> None:
        """Write down how far these generations are. Transient, Halt."""
        await self._hooks.progress(positions)
        for generation, lsn in positions.items():
            self._saved[generation] = max(lsn, self.saved(generation))

    def saved(self, generation: Generation) -> int:
        """How far the generation is, as it is written down."""
        return self._saved.get(generation, 0)

    def _positions(self) -> dict[Generation, int]:
        return {
            o.generation: self.reached(o.generation) for o in self.fan_out.current()
        }

    def reached(self, generation: Generation) -> int:
        """Everything up to here shows in the generation, and was seen to be visible.

        What is written down beyond that would not tell, after somebody else has moved
        the slot there, that commits were passed over which nobody can see yet.
        """
        invisible = self.gate.invisible_from()
        applied = self.ledger.applied(generation)
        return applied if invisible is None else min(applied, invisible)

    def expect(self, confirmed: int) -> None:
        """The slot was found here before the first connection: further on, changes
        were passed over."""
        self._moved_to = confirmed

    def _unsaved(self) -> bool:
        """Whether a position that somebody may wait for is not written down yet."""
        return any(
            self._saved.get(outlet.generation, 0) < self._wanted
            for outlet in self.fan_out.current()
        )

    def _idle_log(self) -> bool:
        """Whether others have written so much log that the slot should follow.

        Small moves are left alone: the bridge's own records move the log too, and a
        bridge that writes for each of them would feed itself.
        """
        saved = [self.saved(o.generation) for o in self.fan_out.current()]
        if not saved:
            return False
        moved = self.ledger.acknowledge() - min(saved)
        waited = time.monotonic() - self._saved_s
        return moved > _IDLE_BYTES_MAX or (moved > _IDLE_BYTES and waited > _IDLE_S)

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(self._limits.progress_s)
            waits = self._unsaved() or self._idle_log()
            if self._ending or not (waits and self._ready.is_set()):
                continue
            moved = {
                generation: lsn
                for generation, lsn in self._positions().items()
                if lsn > self._saved.get(generation, 0)
            }
            if not moved:
                continue
            await probes.reach("store.progress")
            try:
                await self.save(moved)
            except Transient:
                continue
            self._saved_s = time.monotonic()

    async def _record(self) -> None:
        """Have each sink note its position, so that the slot may move past it."""
        recorded: dict[Generation, int] = {}
        while True:
            await asyncio.sleep(self._limits.record_s)
            if self._ending or not self._ready.is_set():
                continue
            for generation, lsn in self._positions().items():
                if recorded.get(generation, 0) >= self.ledger.content(generation):
                    continue
                try:
                    await self._hooks.record(generation, lsn)
                except Transient:
                    continue
                recorded[generation] = lsn
                self.ledger.recorded(generation, lsn)
                # That has written down one: the others, and the slot, are to follow,
                # or it looks as if this one were still behind what the slot knows.
                self._wanted = max(self._wanted, lsn)


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
