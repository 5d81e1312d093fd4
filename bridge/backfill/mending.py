"""What a sink has lost is derived again, or built anew where its place is gone.

The one thing to know: what readers still see of a generation that lost something stays
in their sight, as it is, until another one stands in its stead: that is built at once
and promoted like any. In place, that every key is owed is written down before anything
else moves on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.receipt import arrived
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient
from bridge.observe.logs import logger
from bridge.sink import Generation, Loss
from bridge.store.rows import GenerationState

_log = logger("bridge.backfill")


class Mending:
    """Makes good what sinks have lost."""

    def __init__(
        self,
        assembly: Assembly,
        life: Life,
        owe_all: Callable[[Generation, str], Awaitable[None]],
    ) -> None:
        """`owe_all` has every key of a generation derived again, and why; it is durable
        when it returns."""
        self._assembly = assembly
        self._life = life
        self._owe_all = owe_all

    async def mend(self, loss: Loss) -> None:
        """The sink no longer holds what it had kept: derive it again."""
        assembly, generation = self._assembly, loss.generation
        life = self._life
        sink = assembly.sinks[generation.target.sink]
        plan = assembly.plan(generation)
        if plan is None:
            return  # fed no more
        _log.warning("sink lost documents", generation=str(generation), why=loss.reason)
        try:
            if loss.serves:
                if not await self._replaced_beside(generation):
                    return
            elif loss.keys is not None:
                await life.jobs.keys(generation, plan, list(loss.keys))
                await arrived(assembly.pipeline, generation)
            elif life.states.get(
                generation
            ) is GenerationState.BUILDING or not sink.side_by_side(generation.target):
                await sink.prepare(generation, assembly.owner)
                if life.states.get(generation) is GenerationState.LIVE:
                    await sink.publish(generation)
                await self._owe_all(generation, loss.reason)
            else:
                await self._replace(generation)
            await sink.repaired(loss)
        except Transient:
            return  # told again by the next audit
        except Halt as error:
            await life.halt(generation, error)

    async def _replaced_beside(self, old: Generation) -> bool:
        """Build another one while readers stay with this one; whether it was left."""
        life, target = self._life, old.target
        if life.states.get(old) is not GenerationState.LIVE:
            return True  # nobody reads it
        plan = self._assembly.plans[target.view]
        await asyncio.wait({life.begin_build(await life.create(target, plan))})
        return life.states.get(old) is not GenerationState.LIVE

    async def _replace(self, lost: Generation) -> None:
        """A generation whose place is not what was kept: another one is built in its
        stead, and it is fed no more, and dropped once nobody sees it."""
        assembly, life = self._assembly, self._life
        store = assembly.store.generations
        sink, name = lost.target.sink, lost.target.name
        was_live = life.states.get(lost) is GenerationState.LIVE
        life.feed_no_more(lost)
        await store.drop(generation_key(lost))
        await probes.reach("generation.lost")
        assembly.spawn(life.drop(lost), f"drop {lost}")
        if not was_live or any(g.target == lost.target for g in life.building):
            return  # nobody reads it, or the next one is being built already
        target = assembly.targets[sink, name]
        plan = assembly.plans[target.view]
        life.begin_build(await life.create(target, plan))
