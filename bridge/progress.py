"""How far every target is, and how far the slot may move.

A position is reached, then written down in the source and recorded in the sink, and
only then does the slot follow. Whoever waits for a position is told by the server,
which the stream tells how far the targets are.

The one thing to know: what is written down is never behind the slot, so a slot that is
found beyond it was moved by somebody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from bridge import probes
from bridge.batch import FanOut
from bridge.errors import Halt, Transient
from bridge.gate import Gate
from bridge.ledger import Ledger
from bridge.markers import Markers
from bridge.sink import Generation
from bridge.surroundings import Capture, Hooks, PipelineLimits

_ASK_S = 0.1
_PUSH_S = 0.1
_APPLIED_S = 0.02
_IDLE_S, _IDLE_BYTES, _IDLE_BYTES_MAX = 5.0, 64 << 10, 4 << 20


class Progress:
    """The positions of one pipeline's targets and of its slot."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        gate: Gate,
        fan_out: FanOut,
        markers: Markers,
        hooks: Hooks,
        limits: PipelineLimits,
    ) -> None:
        self.proven: int | None = None
        """Up to where tables and publication are known to be as they were planned:
        nothing beyond is acknowledged. None: nobody looks."""
        self.prove = asyncio.Event()
        """Set to have that looked at now, by whoever looks."""
        self._ledger = ledger
        self._gate = gate
        self._fan_out = fan_out
        self._markers = markers
        self._hooks = hooks
        self._limits = limits
        self._capture: Capture | None = None
        self._ending = False
        self._wanted = 0
        self._saved: dict[Generation, int] = {}
        self._saved_s = 0.0
        self._told = 0
        self._moved_to: int | None = None
        self._passed, self._passed_s = 0, 0.0
        self._looked = (0, 0)

    @property
    def parts(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs beside the stream until it is cancelled."""
        return self._acknowledge, self._save, self._record, self._tell

    # — the lives of a stream —

    def expect(self, confirmed: int) -> None:
        """The slot was found here before the first connection: further on, changes
        were passed over."""
        self._moved_to = confirmed

    def found(self, confirmed: int) -> None:
        """Here the slot stands as a stream begins. Halt: somebody has moved it."""
        if self._moved_to is not None and confirmed > self._moved_to:
            raise Halt(
                "the slot was moved past what is kept: changes were passed over",
                hint="start the bridge again: it derives every document again",
            )
        self._told = self._moved_to = confirmed

    def begin(self, capture: Capture) -> None:
        """The stream is open."""
        self._saved.clear()
        self._capture = capture

    def end(self) -> None:
        """It is not open any more."""
        self._capture = None

    async def finish(self) -> None:
        """Write everything down, and let the slot follow: nothing is taken any more."""
        self._ending = True
        positions = self._positions()
        for generation, lsn in positions.items():
            await self._hooks.record(generation, lsn)
            self._ledger.recorded(generation, lsn)
        await self.save(positions)
        # That has pushed out the log whose end has to come back before the slot moves.
        ends_s = time.monotonic() + 10 * _ASK_S
        while (capture := self._capture) is not None and time.monotonic() < ends_s:
            await self._move(capture, at_once=True)
            wanted = min(map(self.saved, self._positions()), default=0)
            if self._told >= wanted:
                return
            if self.proven is not None and self.proven < wanted:
                self.prove.set()
            capture.ask()
            await asyncio.sleep(self._limits.acknowledge_s)

    # — where everything stands —

    def reached(self, generation: Generation) -> int:
        """Everything up to here shows in the generation, and was seen to be visible.

        What is written down beyond that would not tell, after somebody else has moved
        the slot there, that commits were passed over which nobody can see yet.
        """
        invisible = self._gate.invisible_from()
        applied = self._ledger.applied(generation)
        return applied if invisible is None else min(applied, invisible)

    def saved(self, generation: Generation) -> int:
        """How far the generation is, as it is written down."""
        return self._saved.get(generation, 0)

    def want(self, lsn: int) -> None:
        """Somebody waits for this position: it is to be written down when applied."""
        self._wanted = max(self._wanted, lsn)

    def ask(self) -> None:
        """Have the server say at once how far it is."""
        if self._capture is not None:
            self._capture.ask()

    async def look(self, flushed: int) -> None:
        """The server has written its log out up to `flushed`; called now and then.

        That may be inside of a record, a long one that nobody has committed yet. Then
        the server sends nothing up to there until more is written out, and whoever
        waits for the position would wait for that: a message has it written out.
        """
        if (capture := self._capture) is None:
            return
        before, self._looked = self._looked, (capture.received, flushed)
        if self._looked == before and capture.received < flushed:
            with suppress(Transient):
                await self._markers.push()

    async def save(self, positions: Mapping[Generation, int]) -> None:
        """Write down how far these generations are. Transient, Halt."""
        await self._hooks.progress(positions)
        for generation, lsn in positions.items():
            self._saved[generation] = max(lsn, self.saved(generation))

    async def answered(self, generations: Collection[Generation]) -> None:
        """Write down what the sinks of these have answered for: before anything that it
        was written for is closed. Transient, Halt."""
        await self._hooks.answered(generations)

    # — beside the stream —

    async def _tell(self) -> None:
        """Tell the server how far every target is, for whoever waits for it there."""
        while True:
            await asyncio.sleep(_APPLIED_S)
            if (capture := self._capture) is not None:
                outlets = list(self._fan_out.outlets())
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
            if self._ending or not self._ledger.wants_wal_end():
                waited_since = None  # nobody would take a marker at the end
            elif waited_since is None:
                waited_since = time.monotonic()
            elif time.monotonic() - waited_since >= _PUSH_S:
                # Nobody else writes the log out that reads have seen: a marker does.
                waited_since = None
                with suppress(Transient):
                    await self._markers.next()
                continue
            await self._move(capture)
            waits = self._ledger.wants_wal_end() or self._unsaved()
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
        parked = any(outlet.lane.aside for outlet in self._fan_out.outlets())
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
        lsn = self._ledger.acknowledge()
        if self.proven is not None:
            lsn = min(lsn, self.proven)
        saved = [self.saved(o.generation) for o in self._fan_out.current()]
        return min(lsn, *saved) if saved else lsn

    def _positions(self) -> dict[Generation, int]:
        return {
            o.generation: self.reached(o.generation) for o in self._fan_out.current()
        }

    def _unsaved(self) -> bool:
        """Whether a position that somebody may wait for is not written down yet."""
        return any(
            self.saved(outlet.generation) < self._wanted
            for outlet in self._fan_out.current()
        )

    def _idle_log(self) -> bool:
        """Whether others have written so much log that the slot should follow.

        Small moves are left alone: the bridge's own records move the log too, and a
        bridge that writes for each of them would feed itself.
        """
        saved = [self.saved(o.generation) for o in self._fan_out.current()]
        if not saved:
            return False
        moved = self._ledger.acknowledge() - min(saved)
        waited = time.monotonic() - self._saved_s
        return moved > _IDLE_BYTES_MAX or (moved > _IDLE_BYTES and waited > _IDLE_S)

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(self._limits.progress_s)
            waits = self._unsaved() or self._idle_log()
            if self._ending or self._capture is None or not waits:
                continue
            moved = {
                generation: lsn
                for generation, lsn in self._positions().items()
                if lsn > self.saved(generation)
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
            if self._ending or self._capture is None:
                continue
            for generation, lsn in self._positions().items():
                if recorded.get(generation, 0) >= self._ledger.content(generation):
                    continue
                try:
                    await self._hooks.record(generation, lsn)
                except Transient:
                    continue
                recorded[generation] = lsn
                self._ledger.recorded(generation, lsn)
                # That has written down one: the others, and the slot, are to follow,
                # or it looks as if this one were still behind what the slot knows.
                self.want(lsn)
