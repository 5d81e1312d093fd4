"""Builds of generations: prepared, filled, compared, and shown to readers.

The one thing to know: what a place has lost, its build makes again: it begins anew in
that place, in the same task, so that whoever waits for it waits on. That nothing of
what was built counts is durable before the place is made again, since a place that is
there tells the next life of no loss.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.gates import NotAsTheSource
from bridge.backfill.patience import ended, patiently
from bridge.backfill.running import declared
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient
from bridge.observe.logs import logger
from bridge.sink import Generation, Loss
from bridge.store.rows import BackfillKind, BackfillRow, GenerationState, WorkState

if TYPE_CHECKING:
    from bridge.backfill.life import Life

_log = logger("bridge.backfill")


class Builds:
    """Builds what is fed and not yet seen; one task a generation."""

    def __init__(self, assembly: Assembly, life: Life) -> None:
        self._assembly = assembly
        self._life = life
        self._recording = asyncio.Lock()
        self._work: dict[Generation, asyncio.Task[None]] = {}
        """What the task of a build waits for: once through, from its place on."""
        self._again: set[Generation] = set()
        """To be gone through once more."""
        self.tasks: dict[Generation, asyncio.Task[None]] = {}
        self.placed: set[Generation] = set()
        """Being built, and their place was made, or was found: its loss can be told."""

    def begin(self, generation: Generation) -> asyncio.Task[None]:
        """Build and promote a generation that is fed; one being built is joined."""
        task = self.tasks.get(generation)
        if task is None or task.done():
            self._life.building.add(generation)
            work = self._build(generation)
            task = self._assembly.spawn(work, f"build {generation}")
            self.tasks[generation] = task
            task.add_done_callback(partial(self._ended, generation))
        return task

    def _ended(self, generation: Generation, task: asyncio.Task[None]) -> None:
        if self.tasks.get(generation) is task:
            self._life.building.discard(generation)
            del self.tasks[generation]

    async def lose(self, loss: Loss) -> None:
        """What was built counts for nothing, durably on return; it is not under way
        yet, and begins so."""
        self._life.lost.setdefault(loss.generation, loss)
        await self._restart(loss.generation)

    async def begin_again(self, loss: Loss) -> None:
        """What was built of a generation is lost: it is built once more. Nothing where
        readers see it by now, or it is nobody's any more."""
        life, generation = self._life, loss.generation
        async with life.switches.lock(generation.target):
            if life.states.get(generation) is not GenerationState.BUILDING:
                return
            life.lost[generation] = loss
            self.placed.discard(generation)
            self._again.add(generation)
            if (work := self._work.get(generation)) is not None:
                await ended(work)
            self.begin(generation)

    async def _build(self, generation: Generation) -> None:
        await self._life.claimed[generation.target.sink].wait()
        # Else readers saw it before a crash.
        while self._life.states.get(generation) is GenerationState.BUILDING:
            self._again.discard(generation)
            try:
                await self._once(generation)
            except Exception as raised:
                error = declared(raised)
                if isinstance(error, Transient):
                    raise
                await self._life.halt(generation, error)
            if generation not in self._again:
                return

    async def _once(self, generation: Generation) -> None:
        """From its place to readers' sight; cut short where it is found to be lost."""
        work = asyncio.create_task(self._through(generation), name=f"fill {generation}")
        self._work[generation] = work
        try:
            await asyncio.wait({work})
        finally:
            self._work.pop(generation, None)
            await ended(work)
        if not work.cancelled():
            work.result()

    async def _through(self, generation: Generation) -> None:
        life = self._life
        backfill = await self._fill(generation)
        await probes.reach("generation.built")
        await life.commands_first(generation)
        try:
            await life.switches.promote(generation)
        except NotAsTheSource as found:
            if (loss := await self._lost(generation)) is not None:
                why = loss.reason
                _log.warning("built again", generation=str(generation), why=why)
                life.lost[generation] = loss
                self._again.add(generation)
                return
            # Whoever builds it again builds all.
            await self.note(backfill, WorkState.FAILED, found.message)
            raise
        await self.note(backfill)

    async def note(
        self, backfill: BackfillRow, how: WorkState = WorkState.DONE, why: str = ""
    ) -> None:
        """Its build is over."""
        store = self._assembly.store.backfills
        await patiently(partial(store.finish, backfill.id, how, why))

    # — what is lost —

    def held(self, sink: str) -> list[Generation]:
        """The generations that a sink must not have lost: all it is fed, but for those
        being built that may not have their place yet."""
        life = self._life
        return [
            generation
            for generation in self._assembly.lanes[sink].feeds
            if (state := life.states.get(generation)) is not None
            and (state is not GenerationState.BUILDING or generation in self.placed)
        ]

    async def _lost(self, generation: Generation) -> Loss | None:
        """Whether its sink has lost any of it. It is asked of all that it holds, since
        it tells a loss of everything to those that ask next."""
        name = generation.target.sink
        sink = self._assembly.sinks[name]
        for loss in await patiently(lambda: sink.audit(self.held(name))):
            if loss.generation == generation and not loss.serves:
                return loss
        return None

    async def _restart(self, generation: Generation) -> None:
        """What its build has derived counts for nothing; durable on return."""
        store, key = self._assembly.store.backfills, generation_key(generation)
        for row in await patiently(store.open):
            if row.kind is BackfillKind.BUILD and row.key == key:
                await patiently(partial(store.restart, row.id))

    # — filling —

    async def _fill(self, generation: Generation) -> BackfillRow:
        assembly, life, key = self._assembly, self._life, generation_key(generation)
        try:
            await self._place(generation)
        except Halt as error:
            # What has no place would hold up the others in its sink.
            life.lost[generation] = Loss(generation, None, error.message)
            assembly.pipeline.fan_out.remove(generation)
            await self._from_nothing(generation)
            raise
        self.placed.add(generation)
        await probes.reach("generation.prepared")
        await patiently(partial(assembly.store.generations.set_prepared, key))
        await assembly.pipeline.ready()
        backfill = await patiently(partial(self.of, generation))
        _log.info("building", target=str(generation.target), generation=key.number)
        if await patiently(partial(self._is_empty, generation, backfill)):
            documents = await life.jobs.run(backfill)
        else:
            plan = life.plan(generation)
            documents = await life.jobs.resweep(backfill, generation, plan)
        _log.info("built", target=str(generation.target), documents=documents)
        return backfill

    async def _place(self, generation: Generation) -> None:
        """Make its place; what was lost of it is on its way again then, and its sink
        is told so."""
        sink, lost = self._assembly.sinks[generation.target.sink], self._life.lost
        if generation in lost:
            await self._restart(generation)
        await patiently(partial(sink.prepare, generation, self._assembly.owner))
        if generation in lost:
            await patiently(partial(sink.repaired, lost[generation]))
            del lost[generation]

    async def _from_nothing(self, generation: Generation) -> None:
        """It is fed no more, and misses changes: another life builds it from the start.
        That it stays behind the slot does not mean that somebody has moved that."""
        await self._restart(generation)
        store, key = self._assembly.store, generation_key(generation)
        await patiently(partial(store.positions.forget, key))

    async def _is_empty(self, generation: Generation, build: BackfillRow) -> bool:
        """Whether nothing was in its place before. Where the source was set back, the
        numbers of generations have been used before; and those that cannot stand side
        by side take over the keys of an older one."""
        sink = self._assembly.sinks[generation.target.sink]
        if build.marker is not None or not sink.side_by_side(generation.target):
            return False
        return build.documents > 0 or not await sink.count(generation)

    async def of(
        self, generation: Generation, command: int | None = None
    ) -> BackfillRow:
        """The build that was begun for a generation, or a new one; from now on it is
        that of the command which asks for it first."""
        store, key = self._assembly.store.backfills, generation_key(generation)
        async with self._recording:
            for row in await store.open():
                if row.kind is BackfillKind.BUILD and row.key == key:
                    if command is not None:
                        await store.adopt(row.id, command)
                    break
            else:
                backfill = await store.create(
                    key,
                    view=generation.target.view,
                    kind=BackfillKind.BUILD,
                    command=command,
                )
                await store.start(backfill)
                found = await store.read(backfill)
                assert found is not None
                row = found
        plan = self._life.plan(generation)
        async with self._assembly.pipeline.source.read(scanning=True) as reader:
            self._life.estimates[generation] = await reader.estimate(plan)
        return row
