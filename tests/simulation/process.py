"""One process of the bridge: the real parts, joined as the daemon joins them.

The one thing to know: only what `Remembered` holds survives a process, as the bridge's
own tables do; everything else is made anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bridge.backfill.pace import Pace
from bridge.backfill.patience import patiently
from bridge.backfill.ranges import Range, RangeBackfill, RangeLimits, RangeLog
from bridge.backfill.rederive import ghosts, rederive
from bridge.deliver import Lane
from bridge.errors import Transient
from bridge.gate import Gate
from bridge.keys import Parts
from bridge.lanes import LaneLimits, LaneState, Outcomes
from bridge.ledger import Entry, Ledger
from bridge.live_digest import LiveDigest
from bridge.pipeline import Capture, Hooks, Pipeline, PipelineLimits
from bridge.position import Position
from bridge.sink import Generation, Loss
from tests.simulation import views
from tests.simulation.capture import SimulatedCapture
from tests.simulation.sinks import SimulatedSink, Store
from tests.simulation.source import Server


@dataclass
class Build:
    """The ranges of one generation's build, and whether it needs a sweep."""

    ranges: dict[int, tuple[Range, bool]] = field(default_factory=dict)
    done: bool = False


@dataclass
class Remembered:
    """The bridge's own tables."""

    epoch: int = 0
    barrier: int = 0
    generations: list[Generation] = field(default_factory=list)
    builds: dict[Generation, Build] = field(default_factory=dict)
    sweeps: set[Generation] = field(default_factory=set)
    positions: dict[Generation, tuple[int, int]] = field(default_factory=dict)
    server_life: int = 0
    """Which start of the server was read from last."""


class _BuildLog:
    """`RangeLog` of a build."""

    def __init__(self, build: Build) -> None:
        self._build = build

    async def ranges(self) -> tuple[list[Range], Range | None]:
        found = self._build.ranges
        left = [span for span, done in found.values() if not done]
        return left, found[max(found)][0] if found else None

    async def begun(self, span: Range) -> None:
        self._build.ranges[span.number] = (span, False)

    async def done(self, span: Range, documents: int) -> None:
        await asyncio.sleep(0)
        self._build.ranges[span.number] = (span, True)


async def _no_letters(_outcomes: Outcomes) -> None:
    return


async def _no_rejects(*_refused: object) -> None:
    raise AssertionError("no document is refused here")


class Process:
    """One life of the daemon."""

    def __init__(
        self,
        server: Server,
        stores: Mapping[str, Store],
        remembered: Remembered,
        dice: random.Random,
        limits: LaneLimits,
    ) -> None:
        self.server = server
        self.stores = stores
        self.remembered = remembered
        self.dice = dice
        self.capture: SimulatedCapture | None = None
        self.problem: BaseException | None = None
        self.stopped = False
        self._digest = LiveDigest(views.PLANS.values(), {}, remembered.epoch)
        self.gate = Gate(remembered.barrier)
        self.ledger = Ledger(self.gate.invisible_from)
        self.lanes: dict[str, Lane] = {}
        self._truncated: dict[str, list[Entry]] = {}
        self._mending: set[Generation] = set()
        self.pipeline = Pipeline(
            epoch=remembered.epoch,
            source=server,
            connect=self._connect,
            lanes=self.lanes,
            plans=views.PLANS,
            ledger=self.ledger,
            gate=self.gate,
            hooks=Hooks(
                reject=_no_rejects,
                truncated=self._was_truncated,
                rederive=self._rederive_view,
                message=lambda _content, _lsn: None,
                progress=self._progress,
                record=self._record,
            ),
            limits=PipelineLimits(
                acknowledge_s=0.1, progress_s=0.2, record_s=0.5, retry_max_s=0.5
            ),
        )
        self.pipeline._deriver._keys_max = dice.choice((2, 5, 100))
        self.pipeline._deriver._backlog_max = dice.choice((2, 4, 16))
        for name, store in stores.items():
            self.lanes[name] = Lane(
                name,
                SimulatedSink(store),  # type: ignore[arg-type]
                self.ledger,
                limits=limits,
                dice=dice,
                letters=_no_letters,
                kept=lambda _outcomes: None,
            )

    # — life and death —

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._take_up()
                for name, lane in self.lanes.items():
                    group.create_task(lane.run())
                    group.create_task(self._catch_up(lane))
                    group.create_task(self._audit(name, lane))
                group.create_task(self.pipeline.run())
        except BaseException as error:
            self.problem = error
            raise
        finally:
            self.stopped = True

    def _take_up(self) -> None:
        """Feed every generation and go on with what was begun."""
        slot = self.server.slot
        assert slot is not None
        # Moved on between this look and the first connection: it is noticed there.
        self.pipeline._moved_to = slot.confirmed
        for generation in self.remembered.generations:
            target = generation.target
            self.pipeline.fan_out.add(self.lanes[target.sink], generation)
            saved = self.remembered.positions.get(generation)
            held = self.stores[target.sink].recorded.get(generation, 0)
            if saved is not None:
                position, content = saved
                base = Position(self.remembered.epoch, 0).version
                if slot.confirmed > position or (
                    content and held < base + min(content, slot.confirmed)
                ):
                    self.remembered.sweeps.add(generation)
                    # What it was moved past may still be invisible.
                    self.gate.raise_barrier(self.server.barrier())
            if not self.remembered.builds.setdefault(generation, Build()).done:
                self._group.create_task(self._build(generation))
            if generation in self.remembered.sweeps:
                self._group.create_task(self._swept(generation))

    async def kill(self) -> None:
        """As by the kernel: nothing is told, nothing is written any more."""
        if self.capture is not None:
            self.capture.lose(silently=True)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        """In order, as far as that gets."""
        self.pipeline.stop_taking()
        with suppress(TimeoutError, Transient):
            async with asyncio.timeout(2):
                await self.pipeline.drain()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # — hooks —

    async def _connect(self) -> tuple[Capture, int]:
        await asyncio.sleep(self.dice.random() * 0.05)
        self.server.check(self.server.life)
        slot = self.server.slot
        assert slot is not None
        if self.remembered.server_life != self.server.life:
            self.remembered.server_life = self.server.life
            self.pipeline.suspect = True
        self._digest.start(slot.confirmed)
        self.capture = SimulatedCapture(self.server, self._digest, slot.confirmed)
        return self.capture, slot.confirmed

    async def _progress(self, positions: Mapping[Generation, int]) -> None:
        life = self.server.life
        content = {g: self.ledger.content(g) for g in positions}
        await self.server._work()
        self.server.check(life)
        for generation, lsn in positions.items():
            self.remembered.positions[generation] = (lsn, content[generation])

    async def _record(self, generation: Generation, lsn: int) -> None:
        sink = self.lanes[generation.target.sink].sink
        await sink.record(generation, Position(self.remembered.epoch, lsn))

    # — jobs —

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)

    async def _build(self, generation: Generation) -> None:
        await self.pipeline.ready()
        build = self.remembered.builds[generation]
        await self._ranges(generation, _BuildLog(build))
        build.done = True

    async def _ranges(self, generation: Generation, log: RangeLog) -> None:
        backfill = RangeBackfill(
            self.pipeline,
            views.PLANS[generation.target.view],
            [generation],
            log,
            pace=Pace(),
            limits=RangeLimits(self.dice.choice((2, 4)), self.dice.choice((1, 2))),
            reject=_no_rejects,
        )
        await backfill.run()

    async def _swept(self, generation: Generation) -> None:
        await self.sweep(generation)
        self.remembered.sweeps.discard(generation)

    async def sweep(self, generation: Generation) -> None:
        await self.pipeline.ready()
        lsn = await patiently(self.pipeline.markers.next)
        before = Position(self.remembered.epoch, lsn).version
        await self._ranges(generation, _BuildLog(Build()))
        sink = self.lanes[generation.target.sink].sink
        async for keys in ghosts(self.pipeline, sink, generation, before):
            await self.rederive([generation], keys)

    async def rederive(
        self, generations: Sequence[Generation], keys: Sequence[Parts]
    ) -> None:
        await rederive(
            self.pipeline,
            views.PLANS[generations[0].target.view],
            generations,
            keys,
            reject=_no_rejects,
            pace=Pace(),
        )

    async def _rederive_view(self, view: str, keys: list[Parts]) -> None:
        outlets = list(self.pipeline.fan_out.of(view))
        if outlets:
            await self.rederive([outlet.generation for outlet in outlets], keys)

    async def add(self, generation: Generation) -> None:
        """A generation more: fed from now on, and built."""
        self.pipeline.fan_out.add(self.lanes[generation.target.sink], generation)
        await self._build(generation)

    def _was_truncated(self, view: str, _lsn: int, entry: Entry) -> None:
        self.ledger.hold(entry, ("sweep", view), 1)
        waiting = self._truncated.setdefault(view, [])
        waiting.append(entry)
        if len(waiting) == 1:
            self._spawn(self._sweep_view(view))

    async def _sweep_view(self, view: str) -> None:
        while entries := list(self._truncated[view]):
            for outlet in list(self.pipeline.fan_out.of(view)):
                await self.sweep(outlet.generation)
            for entry in entries:
                self.ledger.release(entry, ("sweep", view), 1)
            del self._truncated[view][: len(entries)]

    async def _catch_up(self, lane: Lane) -> None:
        while True:
            await asyncio.sleep(0.2)
            if lane.full or lane.state is not LaneState.OK:
                continue
            for generation, feed in list(lane.feeds.items()):
                owed = [debt.parts for debt in islice(feed.owed.values(), 5)]
                if owed:
                    await self.rederive([generation], owed)

    async def _audit(self, name: str, lane: Lane) -> None:
        while True:
            await asyncio.sleep(0.5)
            for loss in await lane.sink.audit(list(lane.feeds)):
                if loss.generation not in self._mending:
                    self._mending.add(loss.generation)
                    self._spawn(self._mend(lane, loss))

    async def _mend(self, lane: Lane, loss: Loss) -> None:
        try:
            await self.pipeline.ready()
            assert loss.keys is not None
            await self.rederive([loss.generation], loss.keys)
            await lane.sink.repaired(loss)
        finally:
            self._mending.discard(loss.generation)

    # — at rest —

    def busy(self) -> str:
        """What is still to be done; empty when nothing is."""
        if not self.pipeline.streaming:
            return "no stream"
        if self.ledger.outstanding:
            return "a batch is not kept"
        for name, lane in self.lanes.items():
            if lane.owed or lane.waiting:
                return f"{name}: {lane.waiting} wait, {lane.owed} are owed"
            if any(self.stores[name].losses.values()):
                return f"{name}: losses are not mended"
        if not all(build.done for build in self.remembered.builds.values()):
            return "a build is not done"
        return "a sweep is not done" if self.remembered.sweeps else ""
