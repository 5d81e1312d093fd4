"""Which generation readers see: promoted, rolled back to, kept for a while, retired.

    level ─▶ hold the live one ─▶ level again ─▶ switch the sink ─▶ record it

The one thing to know: the sink is switched first and the switch recorded after it. A
crash between them is noticed by what the sink shows, and recorded then (`settle`);
everything that could have changed while somebody waited is looked at again under the
target's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.gates import ready_to_be_seen
from bridge.backfill.patience import patiently
from bridge.control.cutoff import record_cut_off
from bridge.control.former import displaced
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient
from bridge.observe.logs import logger
from bridge.sink import Generation, Target
from bridge.store.rows import GenerationRow, GenerationState

if TYPE_CHECKING:
    from bridge.backfill.life import Life

_log = logger("bridge.backfill")
_AGAIN_S = 1.0
_HELD_FIRST_S, _HELD_MAX_S = 5.0, 60.0
"""How long what readers see is held for another one to become level."""
READABLE = frozenset({GenerationState.LIVE, GenerationState.PREVIOUS})


class Switches:
    """Switches readers of a target from one generation to another."""

    def __init__(self, assembly: Assembly, life: Life) -> None:
        self._assembly = assembly
        self._life = life
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._retiring: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.waits: dict[Generation, str] = {}
        """Why generations that are to be seen are not yet."""

    def lock(self, target: Target) -> asyncio.Lock:
        """Held while what readers of a target see is switched, or must not be."""
        return self._locks.setdefault((target.sink, target.name), asyncio.Lock())

    async def promote(self, generation: Generation, *, force: bool = False) -> None:
        """Let readers see a generation that is complete, once it is level.

        Halt when it is not kept up to date, or not any more, or has dead letters that
        the live one has not; NotAsTheSource. What is done by `force` is not compared.
        Where the sink cannot show it, or it does not become level, the live one goes on
        meanwhile.
        """
        held_s, told = _HELD_FIRST_S, ""
        try:
            while True:
                try:
                    await self._promote(generation, held_s, force=force)
                except (Transient, TimeoutError) as problem:
                    reason = str(problem) or f"not level within {held_s:g} s"
                else:
                    return
                if reason != told:
                    _log.warning("waits", generation=str(generation), reason=reason)
                    self.waits[generation] = f"waits: {reason}"
                    told = reason
                await asyncio.sleep(_AGAIN_S)
                held_s = min(held_s * 2, _HELD_MAX_S)
        finally:
            self.waits.pop(generation, None)

    async def _promote(
        self, generation: Generation, held_s: float, *, force: bool
    ) -> None:
        """Once; the live one is held for so long at most until this one is level.

        Transient, TimeoutError: to be tried again.
        """
        life, target = self._life, generation.target
        lane = self._assembly.lanes[target.sink]
        self._must_be_kept(generation)
        if generation in life.stale and life.states[generation] in READABLE:
            await life.freshen(generation)
        await self._level(generation)
        if not force:
            await ready_to_be_seen(self._assembly, generation)
        async with self.lock(target), AsyncExitStack() as stack:
            # Another one may have been promoted, and this one dropped, meanwhile.
            self._must_be_kept(generation)
            live = life.live(target.sink, target.name)
            if live == generation:
                return
            if live is not None:
                if not force:
                    self._must_not_lack(generation, live)
                # What readers have seen of it by now, the other must have too.
                async with asyncio.timeout(held_s):
                    await stack.enter_async_context(lane.frozen(live))
                    await self._level(generation)
            await self._switch(generation)

    def _must_be_kept(self, generation: Generation) -> None:
        target = generation.target
        feeds = self._assembly.lanes[target.sink].feeds
        if generation not in self._life.states or generation not in feeds:
            raise Halt(
                f"{generation} is not kept up to date, so readers must not see it",
                hint=f"`pgbridge backfill {target.view} --rebuild` builds another one",
            )

    def _must_not_lack(self, generation: Generation, live: Generation) -> None:
        view, feeds = (
            generation.target.view,
            self._assembly.lanes[live.target.sink].feeds,
        )
        known = feeds[live].dead if live in feeds else {}
        if fresh := feeds[generation].dead.keys() - known:
            raise Halt(
                f"{generation} has {len(fresh)} dead letters that {live} has not",
                hint=f"see `pgbridge dead-letters list {view}`; "
                f"`pgbridge promote {view} --force` does it anyway",
            )

    async def _level(self, generation: Generation) -> None:
        """Wait until everything committed by now is in the generation."""
        pipeline = self._assembly.pipeline
        while True:
            marker = await patiently(pipeline.markers.next)
            era = pipeline.ledger.era
            await pipeline.level(generation, marker)
            if era == pipeline.ledger.era:
                return

    async def _switch(self, generation: Generation) -> None:
        """With the live one at rest: refresh, switch, record. Transient when the sink
        cannot now."""
        sink = self._assembly.sinks[generation.target.sink]
        await sink.refresh(generation)
        await self._life.count([generation])  # who sees it live sees how many it has
        await probes.reach("generation.publish")
        await sink.publish(generation)
        await probes.reach("generation.published")
        await self._record(generation)

    async def _record(self, generation: Generation) -> None:
        """Write down what readers see, and do what follows from it."""
        assembly, life, target = self._assembly, self._life, generation.target
        rolls_back = life.states[generation] is GenerationState.PREVIOUS
        generations = assembly.store.generations
        record = generations.roll_back if rolls_back else generations.promote
        changed = await patiently(partial(record, generation_key(generation)))
        await probes.reach("generation.recorded")
        await self._follow(target, changed)
        identity = (target.sink, target.name)
        assembly.halted.pop(identity, None)
        assembly.stale.pop(identity, None)
        self._keep_for(generation, assembly.config.daemon.keep_previous_s)
        _log.info("live", target=str(target), generation=generation.number)

    async def _follow(
        self, target: Target, changed: Mapping[int, GenerationState]
    ) -> None:
        """The generations of a target have these states from now on."""
        assembly, life = self._assembly, self._life
        known = {g.number: g for g in life.states if g.target == target}
        for number, state in changed.items():
            other = known.get(number, Generation(target, number))
            if state is GenerationState.DROPPED:
                life.feed_no_more(other)
                assembly.spawn(life.drop(other), f"drop {other}")
            elif other in life.states:
                life.states[other] = state
                if state is GenerationState.PREVIOUS and self.is_displaced(other):
                    await life.retire(other)

    def is_displaced(self, generation: Generation) -> bool:
        """Whether a newer one stands in the very place of it."""
        if self._life.is_fed(generation):
            return False
        others = [g for g in self._life.states if g.target == generation.target]
        return generation in displaced(others, self._assembly.sinks)

    # — after a crash, or a change by hand —

    async def settle(self, sink: str) -> None:
        """Record the switches of a sink that a crash has cut off after they were made.

        Transient, Halt.
        """
        assembly, life = self._assembly, self._life
        store = assembly.store
        rows = await store.generations.all()
        for target in {g.target for g in life.states if g.target.sink == sink}:
            known = [row for row in rows if row.key[:2] == (sink, target.name)]
            changed = await record_cut_off(store, assembly.sinks[sink], target, known)
            if changed:
                _log.info("a switch is recorded after a crash", target=str(target))
                await self._follow(target, changed)

    async def show(self, generation: Generation) -> None:
        """Let readers see the live one again, whatever they were shown instead.

        The caller holds the target's lock. Transient, Halt.
        """
        sink = self._assembly.sinks[generation.target.sink]
        lane = self._assembly.lanes[generation.target.sink]
        number = await sink.published(generation.target)
        async with AsyncExitStack() as stack:
            if number is not None and generation in lane.feeds:
                seen = Generation(generation.target, number)
                await stack.enter_async_context(lane.frozen(seen))
                await self._level(generation)
            await sink.publish(generation)

    # — retention —

    def retire_in_time(self, rows: Iterable[GenerationRow]) -> None:
        """Previous generations are kept for a while after the next was published."""
        keep_s = self._assembly.config.daemon.keep_previous_s
        if keep_s is None:
            return
        for row in rows:
            live = self._assembly.generation(row.key)
            if live is None or row.state is not GenerationState.LIVE:
                continue
            if row.published_at is not None:
                age_s = (datetime.now(UTC) - row.published_at).total_seconds()
                self._keep_for(live, max(0.0, keep_s - age_s))

    def _keep_for(self, live: Generation, keep_s: float | None) -> None:
        """From this switch on, and no more from the one before: who goes back and forth
        has the older one for as long again."""
        identity = (live.target.sink, live.target.name)
        if (earlier := self._retiring.pop(identity, None)) is not None:
            earlier.cancel()
        older = self._older(live)
        if keep_s is not None and older is not None:
            work = self._retire_after(older, keep_s)
            self._retiring[identity] = self._assembly.spawn(work, f"retire {older}")

    def _older(self, live: Generation) -> Generation | None:
        """The one kept that is older than the live one. A newer one, from which readers
        were rolled back, may be what the file asks for, and is kept until the next."""
        previous = self._life.previous(live.target.sink, live.target.name)
        older = previous is not None and previous.number < live.number
        return previous if older else None

    async def _retire_after(self, generation: Generation, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with self.lock(generation.target):
            if self._life.states.get(generation) is GenerationState.PREVIOUS:
                await self._life.retire(generation)
