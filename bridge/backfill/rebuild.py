"""Rebuilds that were asked for: begun once, whatever is replayed, and given up.

The one thing to know: a rebuild belongs to its command by the build in the store, so
that the same command, carried out again after a crash, builds nothing a second time.
"""

from __future__ import annotations

import asyncio
from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.life import READABLE, Life
from bridge.backfill.patience import patiently
from bridge.backfill.running import Cancelled
from bridge.control.letters import generation_key
from bridge.errors import Halt
from bridge.sink import Generation, Target
from bridge.store.rows import BackfillKind, BackfillRow, GenerationState, WorkState


class Rebuilds:
    """Carries out `backfill --rebuild`."""

    def __init__(self, assembly: Assembly, life: Life) -> None:
        self._assembly = assembly
        self._life = life

    async def rebuild(self, target: Target, command: int) -> int:
        """Build a target anew and let readers see it; the number that is live then.

        Beside the live generation where the sink can, else in place. The same command
        once more, after a crash, goes on with what it had begun. Halt: it failed.
        """
        life = self._life
        live = life.live(target.sink, target.name)
        plan = self._assembly.plans.get(target.view)
        if plan is None:
            why = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"{target} cannot be built: {why}")
        sink = self._assembly.sinks[target.sink]
        if live is not None and not sink.side_by_side(target):
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
        generation = await self._begun_by(command, target)
        if generation is None:
            generation = await life.create(target, plan)
        elif generation not in life.states:
            raise Halt(f"{generation} was dropped since")
        if life.states.get(generation) in READABLE:
            return generation.number  # promoted before a crash
        await patiently(partial(life.build_of, generation, command))
        await asyncio.wait({life.begin_build(generation)})
        async with life.promoting:  # whoever gives it up has dropped it then
            state = life.states.get(generation)
        if state is None:
            raise Cancelled(f"{generation} was cancelled and dropped")
        if state is GenerationState.BUILDING:
            reason = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"the rebuild of {target} halted: {reason}")
        return generation.number

    async def _begun_by(self, command: int, target: Target) -> Generation | None:
        """The generation that a command has begun to build."""
        rows = await self._assembly.store.backfills.of_command(command)
        for row in rows:
            at = (row.key.sink, row.key.name)
            if row.kind is BackfillKind.BUILD and at == (target.sink, target.name):
                return Generation(target, row.key.number)
        return None

    async def abandon(self, row: BackfillRow) -> None:
        """Give up a rebuild and drop what was built, unless readers see it by now.

        Halt: there is nothing else that readers could see.
        """
        life, generation = self._life, self._assembly.generation(row.key)
        async with life.promoting:
            if (
                generation is None
                or life.states.get(generation) is not GenerationState.BUILDING
            ):
                return
            if life.live(row.key.sink, row.key.name) is None:
                raise Halt(
                    f"{generation} is the first build of its target, not a rebuild",
                    hint="take the target out of the file to give it up",
                )
            store = self._assembly.store.backfills
            await patiently(partial(store.finish, row.id, WorkState.CANCELLED))
            if (task := life.builds.get(generation)) is not None:
                task.cancel()
                await asyncio.wait({task})
            await life.retire(generation)
            identity = (row.key.sink, row.key.name)
            self._assembly.halted.pop(identity, None)
