"""Rebuilds that were asked for: begun once, whatever is replayed, and given up.

The one thing to know: a rebuild belongs to its command by the build in the store, so
that the same command, carried out again after a crash, builds nothing a second time.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.patience import ended, patiently
from bridge.backfill.running import Cancelled
from bridge.backfill.switches import READABLE
from bridge.control.cutoff import is_built
from bridge.control.letters import generation_key
from bridge.errors import Halt
from bridge.sink import Generation, Target
from bridge.store.rows import BackfillKind, CommandState, GenerationState


class Rebuilds:
    """Carries out `backfill --rebuild`."""

    def __init__(self, assembly: Assembly, life: Life) -> None:
        self._assembly = assembly
        self._life = life

    async def rebuild(self, target: Target, command: int, issued_at: datetime) -> int:
        """Build a target anew and let readers see it; the number that is live then.

        Beside the live generation where the sink can, else in place. The same command
        once more, after a crash, goes on with what it had begun; so it does with what
        was begun since it was issued for another reason. Halt: it failed.
        """
        life = self._life
        live = life.live(target.sink, target.name)
        plan = self._assembly.plans.get(target.view)
        if plan is None:
            why = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"{target} cannot be built: {why}")
        sink = self._assembly.sinks[target.sink]
        if live is not None and not sink.side_by_side(live.target, target):
            store = self._assembly.store.backfills
            backfill = await store.create(
                generation_key(live),
                view=target.view,
                kind=BackfillKind.SWEEP,
                command=command,
            )
            row = await store.read(backfill)
            assert row is not None
            await life.backfills.follow(row)
            return live.number
        generation = await self._begun(command, target)
        if generation is None:
            generation = await self._since(issued_at, target)
        if generation is None:
            generation = await life.create(target, plan)
        if life.states.get(generation) in READABLE:
            return generation.number  # promoted before a crash
        await patiently(partial(life.builds.of, generation, command))
        if await self.is_cancelled(command):
            await self.give_up(command)
            raise Cancelled("the rebuild was cancelled before it began")
        await asyncio.wait({life.builds.begin(generation)})
        async with life.switches.lock(target):  # who gives it up has dropped it then
            state = life.states.get(generation)
        if state is None:
            raise Cancelled(f"{generation} was cancelled and dropped")
        if state is GenerationState.BUILDING:
            reason = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"the rebuild of {target} halted: {reason}")
        return generation.number

    async def _begun(self, command: int, target: Target) -> Generation | None:
        """The generation that a command has begun to build, unless it was dropped."""
        rows = await self._assembly.store.backfills.of_command(command)
        for row in rows:
            generation = Generation(target, row.key.number)
            at = (row.key.sink, row.key.name)
            if row.kind is BackfillKind.BUILD and at == (target.sink, target.name):
                return generation if generation in self._life.states else None
        return None

    async def _since(self, issued_at: datetime, target: Target) -> Generation | None:
        """The newest generation begun since then: an edit may have dropped what the
        command had begun, and begun its own."""
        for row in reversed(await self._assembly.store.generations.all()):
            generation = Generation(target, row.key.number)
            if row.key[:2] == (target.sink, target.name) and (
                row.created_at > issued_at and generation in self._life.states
            ):
                return generation
        return None

    async def is_cancelled(self, command: int) -> bool:
        """Whether it was cancelled: asked again once what it begins is recorded."""
        commands = self._assembly.store.commands
        row = await patiently(partial(commands.read, command))
        return row is not None and row.state is CommandState.CANCELLED

    async def abandon(self, command: int) -> None:
        """Give up what a command is building, and close the command as cancelled.

        Halt: there is nothing else that readers could see, or they see it already, or
        the command has ended.
        """
        life, commands = self._life, self._assembly.store.commands
        builds = await self._builds_of(command)
        async with AsyncExitStack() as stack:
            for generation in builds:
                await self._until_known(generation)
                await stack.enter_async_context(life.switches.lock(generation.target))
            left = [g for g in builds if self._is_building(g)]
            for generation in left:
                self._must_be_rebuild(generation)
            if not left and (seen := [g for g in builds if g in life.states]):
                raise Halt(
                    f"readers see {seen[0]} already",
                    hint=f"`pgbridge rollback {seen[0].target.view}` shows what was "
                    "before",
                )
            # Its outcome first: nobody begins it again after a crash.
            await commands.finish(command, CommandState.CANCELLED, "cancelled")
            found = await commands.read(command)
            if found is not None and found.state is not CommandState.CANCELLED:
                raise Halt(f"command {command} had ended before: {found.state}")
            for generation in left:
                await self._drop(generation)

    async def give_up(self, command: int) -> None:
        """Drop what a cancelled command is building."""
        for generation in await self._builds_of(command):
            async with self._life.switches.lock(generation.target):
                if self._is_building(generation):
                    await self._drop(generation)

    async def _builds_of(self, command: int) -> list[Generation]:
        """In an order that all agree on, since each is locked."""
        rows = await self._assembly.store.backfills.of_command(command)
        found = {
            self._assembly.generation(row.key)
            for row in rows
            if row.kind is BackfillKind.BUILD
        }
        return sorted((g for g in found if g is not None), key=str)

    async def _until_known(self, generation: Generation) -> None:
        """What is built whole may be seen already, though a crash came before that was
        recorded: wait until its sink has told."""
        if await is_built(self._assembly.store, generation_key(generation)):
            await self._life.claimed[generation.target.sink].wait()

    def _is_building(self, generation: Generation) -> bool:
        return self._life.states.get(generation) is GenerationState.BUILDING

    def _must_be_rebuild(self, generation: Generation) -> None:
        target = generation.target
        if self._life.live(target.sink, target.name) is None:
            raise Halt(
                f"{generation} is the first build of its target, not a rebuild",
                hint="take the target out of the file to give it up",
            )

    async def _drop(self, generation: Generation) -> None:
        life, target = self._life, generation.target
        # In one step with its build: nobody goes on with it after a crash.
        drop = self._assembly.store.generations.drop
        await patiently(partial(drop, generation_key(generation)))
        await probes.reach("generation.abandoned")
        if (task := life.builds.tasks.get(generation)) is not None:
            await ended(task)
        await life.retire(generation)
        self._assembly.halted.pop((target.sink, target.name), None)
