"""One process of the bridge: the real parts, joined as the daemon joins them.

The one thing to know: only what `Remembered` holds survives a process, as the bridge's
own tables do; everything else is made anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from bridge.assembly import Assembly
from bridge.backfill.builds import Builds
from bridge.backfill.jobs import Jobs
from bridge.backfill.pace import Pace
from bridge.backfill.patience import patiently
from bridge.control.letters import Letters
from bridge.deliver import Lane
from bridge.derive.deriver import DeriveLimits
from bridge.errors import BridgeError, Transient
from bridge.gate import Gate
from bridge.keys import Parts
from bridge.lanes import LaneLimits
from bridge.ledger import Entry, Ledger
from bridge.live_digest import LiveDigest
from bridge.observe.metrics import DeriveCost, Metrics
from bridge.operations import Rejection
from bridge.pipeline import Pipeline
from bridge.sink import Generation, Loss, Owner, Target
from bridge.standing import Standing
from bridge.store.rows import GenerationState
from bridge.surroundings import Capture, Hooks, PipelineLimits
from bridge.watch import Watch
from tests.simulation import views
from tests.simulation.capture import SimulatedCapture
from tests.simulation.sinks import SimulatedSink, Store
from tests.simulation.source import Server
from tests.simulation.tables import BuildLog, Remembered, Tables

OWNER = Owner("1", "simulated", "pgbridge")
_LOOK_S = 0.5


@dataclass(frozen=True)
class Limits:
    """What a history allows the bridge."""

    lane: LaneLimits
    wal_budget_bytes: int
    owed_keys_max: int


LETTERS_MAX = 1000


def _too_many(_generation: Generation, _count: int) -> None:
    raise AssertionError("there are not so many keys")


def _derive_limits(dice: random.Random) -> DeriveLimits:
    return DeriveLimits(
        keys_max=dice.choice((2, 5, 100)),
        at_once_max=dice.choice((1, 4, 100)),
        memory_keys_max=dice.choice((2, 1000)),
        spread_keys_max=dice.choice((3, 1000)),
        backlog_max=dice.choice((2, 4, 16)),
    )


class SimulatedSwitches:
    """What `Watch` asks of `bridge.backfill.switches.Switches`: nobody switches."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def lock(self, _target: Target) -> asyncio.Lock:
        return self._lock

    async def settle(self, _sink: str) -> None:
        return

    async def show(self, _generation: Generation) -> None:
        """Readers see every generation here."""


class SimulatedLife:
    """What `Watch` asks of `bridge.backfill.life.Life`, and the builds."""

    def __init__(self, assembly: Assembly, remembered: Remembered) -> None:
        self._assembly = assembly
        self._remembered = remembered
        self.jobs = Jobs(assembly)
        self.switches = SimulatedSwitches()
        self.claimed = {name: asyncio.Event() for name in assembly.lanes}
        self.lost: dict[Generation, Loss] = {}
        self.builds = SimulatedBuilds(assembly, self, remembered)

    @property
    def building(self) -> set[Generation]:
        builds = self._remembered.builds
        return {g for g in self._remembered.generations if not builds[g].done}

    @property
    def states(self) -> dict[Generation, GenerationState]:
        building = self.building
        return {
            g: GenerationState.BUILDING if g in building else GenerationState.LIVE
            for g in self._remembered.generations
        }

    async def halt(self, _generation: Generation, error: BridgeError) -> None:
        """Nothing halts a build here."""
        raise error

    async def sweep(self, generation: Generation) -> None:
        """As a recorded backfill: begun again by the next process."""
        self._remembered.sweeps.add(generation)
        await self._assembly.pipeline.ready()
        plan = views.PLANS[generation.target.view]
        await self.jobs.sweep(generation, plan)
        await self.level(generation)
        self._remembered.sweeps.discard(generation)

    async def level(self, generation: Generation) -> None:
        """What the stream has overtaken a job on is kept too."""
        pipeline = self._assembly.pipeline
        await pipeline.level(generation, await patiently(pipeline.markers.next))


class SimulatedBuilds(Builds):
    """The real ones, which begin again; what they do once through is simulated."""

    def __init__(
        self, assembly: Assembly, life: SimulatedLife, remembered: Remembered
    ) -> None:
        super().__init__(assembly, cast(Any, life))
        self._simulated = life
        self._remembered = remembered

    async def _through(self, generation: Generation) -> None:
        life, build = self._simulated, self._remembered.builds[generation]
        await self._place(generation)
        self.placed.add(generation)
        await self._assembly.pipeline.ready()
        plan = views.PLANS[generation.target.view]
        if build.again:
            await life.jobs.sweep(generation, plan)
        else:
            await life.jobs.ranges(generation, plan, BuildLog(build))
        await life.level(generation)
        build.done = True

    async def _restart(self, generation: Generation) -> None:
        build = self._remembered.builds[generation]
        build.ranges.clear()
        build.again = True


class SimulatedWatch(Watch):
    """The real one over the simulated server."""

    _server: Server

    async def _confirmed(self) -> int:
        await self._server._work()
        self._server.check(self._server.life)
        slot = self._server.slot
        return slot.confirmed if slot is not None else 0

    async def _barrier(self) -> int:
        self._server.check(self._server.life)
        return self._server.barrier()

    async def _slot(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            server = self._server
            if not server.down and server.slot is not None:
                retained = server.insert_lsn - server.slot.confirmed
                for parking in self._parkings.values():
                    parking.consider(server.flush_lsn, retained)

    async def _count(self) -> None:
        return

    async def _tell(self) -> None:
        return


class Process:
    """One life of the daemon."""

    def __init__(
        self,
        server: Server,
        stores: Mapping[str, Store],
        remembered: Remembered,
        dice: random.Random,
        limits: Limits,
    ) -> None:
        self.server = server
        self.stores = stores
        self.remembered = remembered
        self.dice = dice
        self.limits = limits
        self.capture: SimulatedCapture | None = None
        self.problem: BaseException | None = None
        self.stopped = False
        self.watch: SimulatedWatch | None = None
        self.life: SimulatedLife
        fed = {g.target.view for g in remembered.generations}
        self.plans = {view: views.PLANS[view] for view in sorted(fed)}
        self._digest = LiveDigest(self.plans.values(), {}, remembered.epoch)
        self.gate = Gate(remembered.barrier)
        self.ledger = Ledger(self.gate.invisible_from)
        self.lanes: dict[str, Lane] = {}
        self._sinks = {name: SimulatedSink(store) for name, store in stores.items()}
        self._metrics = Metrics()
        self._tables = cast(Any, Tables(server, remembered))
        sinks = cast(Any, self._sinks)
        self._standing = Standing(self._tables, sinks, remembered.epoch, self.ledger)
        self.pipeline = Pipeline(
            epoch=remembered.epoch,
            source=server,
            connect=self._connect,
            lanes=self.lanes,
            plans=self.plans,
            ledger=self.ledger,
            gate=self.gate,
            hooks=Hooks(
                reject=self._reject,
                truncated=self._truncated,
                rederive=self._rederive,
                message=lambda _content, _lsn: None,
                progress=self._standing.save,
                passes=self._passes,
                answered=self._standing.answered_by,
                record=self._record,
                settled=self._settled,
                cost=DeriveCost(self._metrics),
            ),
            limits=PipelineLimits(
                acknowledge_s=dice.choice((0.02, 0.1)),
                progress_s=dice.choice((0.05, 0.2)),
                record_s=dice.choice((0.05, 0.5)),
                retry_max_s=0.5,
                derive=_derive_limits(dice),
            ),
        )
        self._make_lanes()

    def _make_lanes(self) -> None:
        self._letters = Letters(
            self._tables,
            self.pipeline.fan_out,
            count_max=LETTERS_MAX,
            too_many=_too_many,
        )
        for name, sink in self._sinks.items():
            self.lanes[name] = Lane(
                name,
                cast(Any, sink),
                self.ledger,
                limits=self.limits.lane,
                dice=self.dice,
                letters=self._letters.of_write,
                kept=lambda _outcomes: None,
            )

    # — life and death —

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self.group = group
                assembly = self._assemble(group)
                self.life = SimulatedLife(assembly, self.remembered)
                watch = SimulatedWatch(assembly, cast(Any, self.life), cast(Any, None))
                watch._server = self.server
                self.watch = watch
                settled = self.remembered.server_life
                self._server_life = self.server.life
                self.pipeline.doubt.suspect = settled != self._server_life
                crashed = self.pipeline.doubt.suspect
                rows = await watch.start(crashed=crashed)
                await patiently(partial(self._standing.start, rows))
                self._take_up()
                if self.remembered.letters:
                    await patiently(self._letters.load)
                for lane in self.lanes.values():
                    group.create_task(lane.run())
                group.create_task(self.pipeline.run())
                group.create_task(watch.run())
        except BaseException as error:
            self.problem = error
            raise
        finally:
            self.stopped = True

    def _assemble(self, group: asyncio.TaskGroup) -> Assembly:
        dice, remembered = self.dice, self.remembered
        config = SimpleNamespace(
            source=SimpleNamespace(wal_budget_bytes=self.limits.wal_budget_bytes),
            daemon=SimpleNamespace(audit=None),
            limits=SimpleNamespace(
                owed_keys_max=self.limits.owed_keys_max,
                audit_interval_s=0.5,
                chunk_rows=dice.choice((2, 4)),
                chunks_concurrent=dice.choice((1, 2)),
            ),
        )
        return Assembly(
            config=cast(Any, config),
            owner=OWNER,
            epoch=remembered.epoch,
            store=self._tables,
            sinks=cast(Any, self._sinks),
            lanes=self.lanes,
            plans=self.plans,
            pipeline=self.pipeline,
            letters=self._letters,
            pace=Pace(),
            metrics=self._metrics,
            group=group,
            targets={
                (g.target.sink, g.target.name): g.target for g in remembered.generations
            },
        )

    def _take_up(self) -> None:
        """Feed every generation and go on with what was begun."""
        for generation in self.remembered.generations:
            self.pipeline.fan_out.add(self.lanes[generation.target.sink], generation)
            if not self.remembered.builds[generation].done:
                self.life.builds.begin(generation)
            if generation in self.remembered.sweeps:
                self.group.create_task(self.life.sweep(generation))

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

    async def _reject(
        self, view: str, refused: Sequence[tuple[Parts, Rejection]], version: int
    ) -> None:
        await self._letters.of_view(view, refused, version)

    async def _connect(self) -> tuple[Capture, int]:
        await asyncio.sleep(self.dice.random() * 0.05)
        self.server.check(self.server.life)
        slot = self.server.slot
        assert slot is not None
        if self._server_life != self.server.life:
            reason = await self._standing.missing_log(self.ledger.wal_end)
            assert not reason, reason
            self._server_life = self.server.life
            self.pipeline.doubt.suspect = True
        self._digest.start(slot.confirmed)
        self.capture = SimulatedCapture(self.server, self._digest, slot.confirmed)
        return self.capture, slot.confirmed

    async def _settled(self) -> None:
        await asyncio.sleep(0)
        self.remembered.server_life = self._server_life

    async def _passes(self, lsn: int) -> None:
        await self._standing.answered()
        await self._tables.save_passed(lsn)

    async def _record(self, generation: Generation, lsn: int) -> None:
        if not self.life.claimed[generation.target.sink].is_set():
            raise Transient("the sink is not reached yet")
        await self._standing.record(generation, lsn)

    def _truncated(self, view: str, lsn: int, entry: Entry) -> None:
        assert self.watch is not None
        self.watch.truncated(view, lsn, entry)

    async def _rederive(self, view: str, keys: list[Parts]) -> None:
        assert self.watch is not None
        await self.watch.rederive(view, keys)

    # — what people do —

    async def add(self, generation: Generation) -> None:
        """A generation more: fed from now on, and built."""
        self.pipeline.fan_out.add(self.lanes[generation.target.sink], generation)
        await asyncio.wait({self.life.builds.begin(generation)})

    async def repair(self, generation: Generation, keys: list[Parts]) -> None:
        """`backfill --keys`."""
        plan = views.PLANS[generation.target.view]
        await self.life.jobs.keys(generation, plan, keys)

    # — at rest —

    def busy(self) -> str:
        """What is still to be done; empty when nothing is."""
        if not self.pipeline.streaming or self.pipeline.doubt.suspect:
            return "no stream, or not settled"
        if self.ledger.outstanding:
            return "a batch is not kept"
        for name, lane in self.lanes.items():
            if lane.owed or lane.waiting or lane.in_debt:
                return f"{name}: {lane.waiting} wait, {lane.owed} are owed"
            if self._sinks[name].suspect:
                return f"{name}: losses are not mended"
        if self.remembered.debts:
            return "debts are not paid"
        if not all(build.done for build in self.remembered.builds.values()):
            return "a build is not done"
        return "a sweep is not done" if self.remembered.sweeps else ""
