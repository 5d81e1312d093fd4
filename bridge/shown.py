"""That readers see the live generations, whatever is done to an alias by hand.

The one thing to know: what stands in the readers' place and is not the bridge's is
never overwritten. The target halts until it is gone, and goes on by itself then.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.patience import patiently
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient, sentence
from bridge.lanes import LaneState
from bridge.observe.logs import logger
from bridge.sink import Generation
from bridge.store.rows import GenerationState

_log = logger("bridge.shown")


class Shown:
    """Looks at what readers see, and puts it right."""

    def __init__(self, assembly: Assembly, life: Life) -> None:
        self._assembly = assembly
        self._life = life
        self._hidden: dict[Generation, str] = {}
        """Live ones in whose place readers find something else, and what."""

    async def look(self, generations: Iterable[Generation]) -> None:
        """Show each that is live and is not shown; returns when the sink is away."""
        for one in generations:
            try:
                await self._show(one)
            except Transient:
                return
            except Halt as error:
                if one not in self._hidden:
                    self._hidden[one] = sentence(error)
                    await self._life.halt(one, error)
            else:
                await self._visible(one)

    async def _show(self, generation: Generation) -> None:
        switching = self._life.switches.lock(generation.target)
        if switching.locked():
            return  # what they see is being changed
        sink = self._assembly.sinks[generation.target.sink]
        if self._assembly.lanes[generation.target.sink].state is not LaneState.OK:
            return  # it cannot be made level now
        async with switching:
            if self._life.states.get(generation) is not GenerationState.LIVE:
                return
            if await sink.published(generation.target) == generation.number:
                return
            await self._life.switches.show(generation)
        _log.warning("shown to readers again", generation=str(generation))

    async def _visible(self, generation: Generation) -> None:
        """Take back what `look` has halted, unless it has halted otherwise since."""
        reason = self._hidden.pop(generation, None)
        identity = (generation.target.sink, generation.target.name)
        if reason is None or self._assembly.halted.get(identity) != reason:
            return
        del self._assembly.halted[identity]
        store = self._assembly.store.generations
        await patiently(partial(store.halt, generation_key(generation), None))
