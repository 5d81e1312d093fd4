"""The life of a generation, from an empty place to one that is gone.

    building ──build──▶ level ──publish──▶ live ──next one is live──▶ previous
                                             ▲                            │
                                             └──────── roll back ─────────┘
                                                          previous ──▶ dropped

A generation is fed by the stream from before its first range is read, so that the two
overlap and nothing falls between them.

The one thing to know: the sink is switched first and the switch recorded after it, and
both can be made again. A crash between them is repeated and changes nothing.
"""

from __future__ import annotations

import asyncio
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.jobs import Jobs, StoredLog
from bridge.backfill.patience import patiently
from bridge.control.letters import generation_key
from bridge.deliver import sentence
from bridge.errors import BridgeError, Halt, Transient, first_of
from bridge.observe.logs import logger
from bridge.sink import Generation, Loss, Target
from bridge.store.rows import (
    BackfillKind,
    BackfillRow,
    GenerationRow,
    GenerationState,
    WorkState,
)

_log = logger("bridge.backfill")
_FED = frozenset(
    {GenerationState.BUILDING, GenerationState.LIVE, GenerationState.PREVIOUS}
)


class Life:
    """Drives the generations of all targets to where they are wanted."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.jobs = Jobs(assembly)
        self.states: dict[Generation, GenerationState] = {}
        """What is fed, and as what."""
        self.claimed: dict[str, asyncio.Event] = {
            name: asyncio.Event() for name in assembly.lanes
        }
        """Set when a sink was told whose it is."""
        self.building: set[Generation] = set()
        self.estimates: dict[Generation, int] = {}
        """About how many documents a build will have."""
        self._tasks: dict[int, asyncio.Task[int]] = {}
        self._cancelled: set[int] = set()
        self._promoting = asyncio.Lock()

    async def start(self) -> None:
        """Feed what is there and go on with all that was begun."""
        for row in await patiently(self._assembly.store.generations.all):
            self._take_up(row)
        await self._assembly.letters.load()
        for backfill in await patiently(self._assembly.store.backfills.open):
            if backfill.kind is not BackfillKind.BUILD:
                self.run(backfill)

    def live(self, sink: str, name: str) -> Generation | None:
        """The live generation of a target."""
        return self._in(sink, name, GenerationState.LIVE)

    def previous(self, sink: str, name: str) -> Generation | None:
        """The one kept for a rollback."""
        return self._in(sink, name, GenerationState.PREVIOUS)

    def _in(self, sink: str, name: str, state: GenerationState) -> Generation | None:
        for generation, found in self.states.items():
            target = generation.target
            if (target.sink, target.name, found) == (sink, name, state):
                return generation
        return None

    def progress(self, generation: Generation) -> float:
        """Share of a build that is done, 0 to 1; 1 for what is not being built."""
        if generation not in self.building:
            return 1.0
        running = self.jobs.running.get(generation)
        estimate = self.estimates.get(generation, 0)
        if running is None or not estimate:
            return 0.0
        return min(1.0, running.documents / estimate)

    @property
    def complete(self) -> bool:
        """Whether every wanted target has a live generation and none is building."""
        live = {
            (g.target.sink, g.target.name)
            for g, state in self.states.items()
            if state is GenerationState.LIVE
        }
        return not self.building and live >= self._assembly.targets.keys()

    def _take_up(self, row: GenerationRow) -> None:
        generation = self._assembly.generation(row.key)
        if row.state is GenerationState.DROPPED:
            if generation is not None:
                self._assembly.spawn(self._drop(generation), f"drop {generation}")
            return
        if generation is None:
            return
        if row.halted:
            self._assembly.halted[generation.target.sink, generation.target.name] = (
                row.halted
            )
        self._feed(generation, row.state)
        if row.state is GenerationState.BUILDING:
            self.building.add(generation)
            self._assembly.spawn(self._build(generation), f"build {generation}")

    def _feed(self, generation: Generation, state: GenerationState) -> None:
        self.states[generation] = state
        lane = self._assembly.lanes[generation.target.sink]
        self._assembly.pipeline.fan_out.add(lane, generation)

    # — building —

    async def build_beside(self, generation: Generation) -> None:
        """Feed a generation just created, build and promote it."""
        self._feed(generation, GenerationState.BUILDING)
        self.building.add(generation)
        await self._build(generation)

    async def _build(self, generation: Generation) -> None:
        target = generation.target
        try:
            await self.claimed[target.sink].wait()
            await self._fill(generation)
            await self.promote(generation)
        except* Halt as errors:
            await self.halt(generation, first_of(errors))
        finally:
            self.building.discard(generation)

    async def _fill(self, generation: Generation) -> None:
        assembly, key = self._assembly, generation_key(generation)
        sink = assembly.sinks[generation.target.sink]
        await patiently(lambda: sink.prepare(generation, assembly.owner))
        await probes.reach("generation.prepared")
        await patiently(partial(assembly.store.generations.set_prepared, key))
        await assembly.pipeline.ready()
        backfill = await patiently(partial(self._build_of, generation))
        _log.info("building", target=str(generation.target), generation=key.number)
        if sink.side_by_side(generation.target):
            documents = await self.jobs.run(backfill)
        else:
            # Keys of an older generation may stand in its place.
            plan = assembly.plans[generation.target.view]
            log = StoredLog(assembly.store, backfill.id)
            documents = await self.jobs.sweep(generation, plan, log)
        await patiently(
            partial(assembly.store.backfills.finish, backfill.id, WorkState.DONE)
        )
        _log.info("built", target=str(generation.target), documents=documents)

    async def _build_of(self, generation: Generation) -> BackfillRow:
        """The build that was begun for a generation, or a new one."""
        store, key = self._assembly.store.backfills, generation_key(generation)
        plan = self._assembly.plans[generation.target.view]
        async with self._assembly.pipeline.source.read(scanning=True) as reader:
            estimate = await reader.estimate(plan)
        self.estimates[generation] = estimate
        backfill = await store.create(key, view=plan.name, kind=BackfillKind.BUILD)
        await store.start(backfill, estimate=estimate)
        row = await store.read(backfill)
        assert row is not None
        return row

    # — switching —

    async def promote(self, generation: Generation, *, force: bool = False) -> None:
        """Let readers see a generation that is complete, once it is level."""
        assembly, pipeline = self._assembly, self._assembly.pipeline
        lane = assembly.lanes[generation.target.sink]
        live = self.live(generation.target.sink, generation.target.name)
        feed = lane.feeds[generation]
        known = lane.feeds[live].dead if live in lane.feeds else set()
        if live is not None and not force and (fresh := feed.dead - known):
            raise Halt(
                f"{generation} has {len(fresh)} dead letters that {live} has not",
                hint=f"see `pgbridge dead-letters list {generation.target.view}`; "
                f"`pgbridge promote {generation.target.view} --force` does it anyway",
            )
        while True:
            marker = await patiently(pipeline.markers.next)
            await pipeline.level(generation, marker)
            async with self._promoting:
                lane.hold()
                try:
                    if await lane.quiet():
                        await self._switch(generation)
                        return
                finally:
                    lane.unhold()
            await asyncio.sleep(0.05)

    async def _switch(self, generation: Generation) -> None:
        """With the lane at rest: refresh, switch, record."""
        assembly, key = self._assembly, generation_key(generation)
        sink = assembly.sinks[generation.target.sink]
        await patiently(partial(sink.refresh, generation))
        await probes.reach("generation.publish")
        await patiently(partial(sink.publish, generation))
        await probes.reach("generation.published")
        rolls_back = self.states[generation] is GenerationState.PREVIOUS
        generations = assembly.store.generations
        record = generations.roll_back if rolls_back else generations.promote
        changed = await patiently(partial(record, key))
        for number, state in changed.items():
            other = Generation(generation.target, number)
            if state is GenerationState.DROPPED:
                self.states.pop(other, None)
                assembly.pipeline.fan_out.remove(other)
                assembly.spawn(self._drop(other), f"drop {other}")
            elif other in self.states:
                self.states[other] = state
        assembly.halted.pop((generation.target.sink, generation.target.name), None)
        _log.info("live", target=str(generation.target), generation=generation.number)

    async def halt(self, generation: Generation, error: BridgeError) -> None:
        """Stop what is done for a generation, and say why."""
        target = generation.target
        reason = sentence(error)
        self._assembly.halted[target.sink, target.name] = reason
        _log.error("target halted", target=str(target), reason=reason)
        key = generation_key(generation)
        await patiently(partial(self._assembly.store.generations.halt, key, reason))

    async def _drop(self, generation: Generation) -> None:
        sink = self._assembly.sinks[generation.target.sink]
        await self.claimed[generation.target.sink].wait()
        try:
            await patiently(partial(sink.drop, generation))
        except Halt as error:
            _log.error("cannot drop", generation=str(generation), reason=error.message)
            return
        key = generation_key(generation)
        await patiently(partial(self._assembly.store.generations.forget, key))

    # — backfills and losses —

    def run(self, row: BackfillRow) -> asyncio.Task[int]:
        """Carry out a backfill beside everything else; one that runs is joined."""
        task = self._tasks.get(row.id)
        if task is None:
            task = asyncio.create_task(self._run(row), name=f"backfill {row.id}")
            self._tasks[row.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(row.id, None))
        return task

    async def follow(self, row: BackfillRow) -> int:
        """Carry out a backfill and wait for it; how many documents. Halt: it failed."""
        try:
            return await asyncio.shield(self.run(row))
        except asyncio.CancelledError:
            if self._tasks.get(row.id) is not None or row.id not in self._cancelled:
                raise  # this life ends, and the next one goes on
            raise Halt("the backfill was cancelled") from None

    async def cancel(self, row: BackfillRow) -> None:
        """Stop a backfill, for good."""
        self._cancelled.add(row.id)
        store = self._assembly.store.backfills
        await patiently(partial(store.finish, row.id, WorkState.CANCELLED))
        if (task := self._tasks.get(row.id)) is not None:
            task.cancel()

    async def stop(self) -> None:
        """Leave every backfill as it is; the next life goes on with it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, row: BackfillRow) -> int:
        store = self._assembly.store.backfills
        try:
            await self.claimed[row.key.sink].wait()
            await self._assembly.pipeline.ready()
            if not await patiently(partial(store.start, row.id)):
                return row.documents
            documents = await self.jobs.run(row)
        except* Halt as errors:
            error = first_of(errors)
            await patiently(
                partial(store.finish, row.id, WorkState.FAILED, sentence(error))
            )
            raise error from None
        await patiently(partial(store.finish, row.id, WorkState.DONE))
        return documents

    async def rebuild(self, target: Target) -> int:
        """Build a target anew and let readers see it; the number that is live then.

        Beside the live generation where the sink can, else in place.
        """
        store = self._assembly.store.generations
        live = self.live(target.sink, target.name)
        plan = self._assembly.plans[target.view]
        sink = self._assembly.sinks[target.sink]
        if live is not None and not sink.side_by_side(target):
            await self.jobs.sweep(live, plan)
            return live.number
        key = await patiently(
            partial(
                store.create,
                target.sink,
                target.name,
                fingerprint=sink.fingerprint(target),
                view_fingerprint=plan.fingerprint,
            )
        )
        generation = Generation(target, key.number)
        if generation not in self.building:
            await self.build_beside(generation)
        reason = self._assembly.halted.get((target.sink, target.name))
        if reason is not None:
            raise Halt(f"the rebuild of {target} halted: {reason}")
        return key.number

    async def mend(self, loss: Loss) -> None:
        """The sink no longer holds what it had kept: derive it again."""
        assembly, generation = self._assembly, loss.generation
        sink = assembly.sinks[generation.target.sink]
        plan = assembly.plans[generation.target.view]
        _log.warning("sink lost documents", generation=str(generation), why=loss.reason)
        try:
            if loss.keys is not None:
                await self.jobs.keys(generation, plan, list(loss.keys))
            elif generation in self.building or not sink.side_by_side(
                generation.target
            ):
                await sink.prepare(generation, assembly.owner)
                await self.jobs.sweep(generation, plan)
                if self.states.get(generation) is GenerationState.LIVE:
                    await sink.publish(generation)
            else:
                await self._replace(generation)
            await sink.repaired(loss)
        except Transient:
            return  # told again by the next audit
        except Halt as error:
            await self.halt(generation, error)

    async def _replace(self, lost: Generation) -> None:
        """A generation whose place is gone: another one is built in its stead."""
        assembly, store = self._assembly, self._assembly.store.generations
        rows = {row.key: row for row in await store.all()}
        row = rows[generation_key(lost)]
        self.states.pop(lost, None)
        assembly.pipeline.fan_out.remove(lost)
        await store.drop(row.key)
        key = await store.create(
            row.key.sink,
            row.key.name,
            fingerprint=row.fingerprint,
            view_fingerprint=row.view_fingerprint,
        )
        generation = Generation(lost.target, key.number)
        assembly.spawn(self._drop(lost), f"drop {lost}")
        if generation not in self.building:
            assembly.spawn(self.build_beside(generation), f"build {generation}")
