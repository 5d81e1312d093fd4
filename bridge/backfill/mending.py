"""What a sink has lost is derived again, or built anew where its place is gone.

The one thing to know: what readers still see of a generation that lost something stays
in their sight, as it is, until another one stands in its stead: that is built at once
and promoted like any. In place, that every key is owed is written down before anything
else moves on. What nobody sees yet begins to be built again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.patience import patiently
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
        building = life.states.get(generation) is GenerationState.BUILDING
        if loss.serves and (building or self._waits(loss)):
            return  # told again once readers see it, or another can be built
        _log.warning("sink lost documents", generation=str(generation), why=loss.reason)
        try:
            if loss.serves:
                if not await self._replaced_beside(loss):
                    return
            elif loss.keys is not None:
                await life.jobs.keys(generation, plan, list(loss.keys))
                await arrived(assembly.pipeline, generation)
            elif building:
                await life.builds.begin_again(loss)
                return  # its build tells that it is repaired
            elif not sink.side_by_side(generation.target):
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

    def _waits(self, loss: Loss) -> bool:
        """Whether it has been told that its view waits, and it with that."""
        target = loss.generation.target
        told = self._assembly.halted.get((target.sink, target.name), "")
        return target.view not in self._assembly.plans and loss.reason in told

    async def _replaced_beside(self, loss: Loss) -> bool:
        """Build another one while readers stay with this one; whether it was left.

        Halt where its view waits: this one is fed on as it was.
        """
        life, old, target = self._life, loss.generation, loss.generation.target
        if life.states.get(old) is not GenerationState.LIVE:
            return True  # nobody reads it
        plan = self._assembly.plans.get(target.view)
        if plan is None:
            why = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"{loss.reason}, and its view waits: {why}")
        await asyncio.wait({life.builds.begin(await life.create(target, plan))})
        return life.states.get(old) is not GenerationState.LIVE

    async def _replace(self, lost: Generation) -> None:
        """A generation whose place is not what was kept: another one is built in its
        stead, and it is fed no more, and dropped once nobody sees it."""
        assembly, life, target = self._assembly, self._life, lost.target
        async with life.switches.lock(target):
            if (state := life.states.get(lost)) is None:
                return  # it was dropped meanwhile
            # Durable first: what is fed no more, nobody tells of again.
            drop = assembly.store.generations.drop
            await patiently(partial(drop, generation_key(lost)))
            life.feed_no_more(lost)
        await probes.reach("generation.lost")
        assembly.spawn(life.drop(lost), f"drop {lost}")
        if state is not GenerationState.LIVE or any(
            g.target == target for g in life.building
        ):
            return  # nobody reads it, or the next one is being built already
        wanted = assembly.targets[target.sink, target.name]
        plan = assembly.plans.get(wanted.view)
        if plan is not None:
            life.builds.begin(await life.create(wanted, plan))
