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
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.jobs import Jobs, StoredLog
from bridge.backfill.patience import patiently
from bridge.backfill.running import Backfills
from bridge.control.former import built_from, displaced
from bridge.control.letters import generation_key
from bridge.control.survey import MISSED
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, Halt, Transient, first_of, sentence
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
_READABLE = frozenset({GenerationState.LIVE, GenerationState.PREVIOUS})


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
        self.backfills = Backfills(assembly, self.jobs, self.claimed)
        self.building: set[Generation] = set()
        self.stale: set[Generation] = set()
        """Fed, but not every document is what its query gives: swept before a
        rollback."""
        self.estimates: dict[Generation, int] = {}
        """About how many documents a build will have."""
        self._promoting = asyncio.Lock()

    async def start(self) -> None:
        """Feed what is there and go on with all that was begun."""
        rows = await patiently(self._assembly.store.generations.all)
        known = [self._assembly.generation(row.key) for row in rows if _there(row)]
        out_of_place = displaced([g for g in known if g], self._assembly.sinks)
        for row in rows:
            await self._take_up(row, out_of_place)
        self._retire_in_time(rows)
        await self._assembly.letters.load()
        for backfill in await patiently(self._assembly.store.backfills.open):
            if backfill.kind is not BackfillKind.BUILD:
                self.backfills.run(backfill)

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

    async def _take_up(
        self, row: GenerationRow, out_of_place: Collection[Generation]
    ) -> None:
        generation = self._assembly.generation(row.key)
        if generation is None:
            return
        if row.state is GenerationState.DROPPED:
            self._assembly.spawn(self._drop(generation), f"drop {generation}")
            return
        self.states[generation] = row.state
        former = self._assembly.former
        name = former.names.get(row.key, row.view)
        plan = self._assembly.plans.get(name)
        if plan is None or generation in out_of_place or row.key in former.refused:
            await self._leave(generation, row, former.refused.get(row.key))
            return
        if row.halted:
            await patiently(
                partial(self._assembly.store.generations.halt, row.key, None)
            )
        if row.view_fingerprint != plan.fingerprint:
            self.stale.add(generation)
        self._feed(generation, row.state, name)
        if row.state is GenerationState.BUILDING:
            self.building.add(generation)
            self._assembly.spawn(self._build(generation), f"build {generation}")

    async def _leave(
        self, generation: Generation, row: GenerationRow, why: str | None
    ) -> None:
        """Feed it no more. From here on it misses changes, and will be built anew."""
        store, target = self._assembly.store.generations, generation.target
        if row.view_fingerprint != MISSED and row.state in _READABLE:
            await patiently(partial(store.set_view_fingerprint, row.key, MISSED))
        if why is None:
            return
        reason = f"g{row.key.number} is not fed any more: {why}"
        _log.error("generation is stale", target=str(target), reason=reason)
        await patiently(partial(store.halt, row.key, reason))
        if row.state is GenerationState.LIVE:
            self._assembly.stale[target.sink, target.name] = reason

    def _feed(
        self, generation: Generation, state: GenerationState, plan: str = ""
    ) -> None:
        self.states[generation] = state
        lane = self._assembly.lanes[generation.target.sink]
        self._assembly.pipeline.fan_out.add(lane, generation, plan)

    def _feed_no_more(self, generation: Generation) -> None:
        self.states.pop(generation, None)
        self.stale.discard(generation)
        self._assembly.pipeline.fan_out.remove(generation)

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
            plan = self._plan(generation)
            log = StoredLog(assembly.store, backfill.id)
            documents = await self.jobs.sweep(generation, plan, log)
        await patiently(
            partial(assembly.store.backfills.finish, backfill.id, WorkState.DONE)
        )
        _log.info("built", target=str(generation.target), documents=documents)

    async def _build_of(self, generation: Generation) -> BackfillRow:
        """The build that was begun for a generation, or a new one."""
        store, key = self._assembly.store.backfills, generation_key(generation)
        target, plan = generation.target, self._plan(generation)
        async with self._assembly.pipeline.source.read(scanning=True) as reader:
            estimate = await reader.estimate(plan)
        self.estimates[generation] = estimate
        backfill = await store.create(key, view=target.view, kind=BackfillKind.BUILD)
        await store.start(backfill, estimate=estimate)
        row = await store.read(backfill)
        assert row is not None
        return row

    # — switching —

    async def promote(self, generation: Generation, *, force: bool = False) -> None:
        """Let readers see a generation that is complete, once it is level."""
        lane = self._assembly.lanes[generation.target.sink]
        live = self.live(generation.target.sink, generation.target.name)
        feed = lane.feeds.get(generation)
        if feed is None:
            raise Halt(
                f"{generation} is not kept up to date, so readers must not see it",
                hint=f"`pgbridge backfill {generation.target.view} --rebuild` builds "
                "another one",
            )
        if generation in self.stale and self.states[generation] in _READABLE:
            await self._freshen(generation)
        known = lane.feeds[live].dead if live in lane.feeds else set()
        if live is not None and not force and (fresh := feed.dead - known):
            raise Halt(
                f"{generation} has {len(fresh)} dead letters that {live} has not",
                hint=f"see `pgbridge dead-letters list {generation.target.view}`; "
                f"`pgbridge promote {generation.target.view} --force` does it anyway",
            )
        await self._level(generation)
        async with self._promoting, AsyncExitStack() as stack:
            if live is not None:
                # What readers have seen of it by now, the other must have too.
                await stack.enter_async_context(lane.frozen(live))
                await self._level(generation)
            await self._switch(generation)

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
        """With the live one at rest: refresh, switch, record."""
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
        known = {g.number: g for g in self.states if g.target == generation.target}
        for number, state in changed.items():
            other = known.get(number, Generation(generation.target, number))
            if state is GenerationState.DROPPED:
                self._feed_no_more(other)
                assembly.spawn(self._drop(other), f"drop {other}")
            elif other in self.states:
                self.states[other] = state
                if state is GenerationState.PREVIOUS and not self._is_fed(other):
                    await self._retire(other)
        identity = (generation.target.sink, generation.target.name)
        assembly.halted.pop(identity, None)
        assembly.stale.pop(identity, None)
        if (keep_s := assembly.config.daemon.keep_previous_s) is not None and (
            previous := self.previous(*identity)
        ) is not None:
            assembly.spawn(self._retire_after(previous, keep_s), f"retire {previous}")
        _log.info("live", target=str(generation.target), generation=generation.number)

    def _is_fed(self, generation: Generation) -> bool:
        return self._assembly.pipeline.fan_out.plan(generation) is not None

    def _plan(self, generation: Generation) -> ViewPlan:
        plan = self._assembly.plan(generation)
        assert plan is not None, generation
        return plan

    async def _freshen(self, generation: Generation) -> None:
        """Make every document what the generation's own query gives now."""
        plan = self._plan(generation)
        await self.jobs.sweep(generation, plan)
        key = generation_key(generation)
        store = self._assembly.store.generations
        await patiently(partial(store.set_view_fingerprint, key, plan.fingerprint))
        self.stale.discard(generation)

    # — retention —

    def _retire_in_time(self, rows: Iterable[GenerationRow]) -> None:
        """Previous generations are kept for a while after the next was published."""
        keep_s = self._assembly.config.daemon.keep_previous_s
        if keep_s is None:
            return
        for row in rows:
            live = self._assembly.generation(row.key)
            if live is None or row.state is not GenerationState.LIVE:
                continue
            previous = self.previous(live.target.sink, live.target.name)
            if previous is None or row.published_at is None:
                continue
            age_s = (datetime.now(UTC) - row.published_at).total_seconds()
            left_s = max(0.0, keep_s - age_s)
            self._assembly.spawn(
                self._retire_after(previous, left_s), f"retire {previous}"
            )

    async def _retire_after(self, generation: Generation, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with self._promoting:
            if self.states.get(generation) is GenerationState.PREVIOUS:
                await self._retire(generation)

    async def _retire(self, generation: Generation) -> None:
        """Keep it no longer for a rollback."""
        self._feed_no_more(generation)
        key = generation_key(generation)
        await patiently(partial(self._assembly.store.generations.drop, key))
        self._assembly.spawn(self._drop(generation), f"drop {generation}")

    async def resume(self, sink: str) -> None:
        """Try again what has halted for targets of this sink."""
        halted = self._assembly.halted
        for identity in [each for each in halted if each[0] == sink]:
            if not any(self._is_fed(g) for g in self._of(*identity)):
                continue  # its view cannot be kept: another life may
            del halted[identity]
            for generation in self._of(*identity):
                key = generation_key(generation)
                store = self._assembly.store.generations
                await patiently(partial(store.halt, key, None))
                building = self.states[generation] is GenerationState.BUILDING
                if building and generation not in self.building:
                    self.building.add(generation)
                    self._assembly.spawn(self._build(generation), f"build {generation}")

    def _of(self, sink: str, name: str) -> list[Generation]:
        return [
            g for g in self.states if (g.target.sink, g.target.name) == (sink, name)
        ]

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

    # — rebuilds and losses —

    async def rebuild(self, target: Target) -> int:
        """Build a target anew and let readers see it; the number that is live then.

        Beside the live generation where the sink can, else in place.
        """
        store = self._assembly.store.generations
        live = self.live(target.sink, target.name)
        plan = self._assembly.plans.get(target.view)
        if plan is None:
            why = self._assembly.halted.get((target.sink, target.name), "")
            raise Halt(f"{target} cannot be built: {why}")
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
                definition=self._built_from(target, plan),
            )
        )
        generation = Generation(target, key.number)
        if generation not in self.building:
            await self.build_beside(generation)
        reason = self._assembly.halted.get((target.sink, target.name))
        if reason is not None:
            raise Halt(f"the rebuild of {target} halted: {reason}")
        return key.number

    def _built_from(self, target: Target, plan: ViewPlan) -> dict[str, Any]:
        return built_from(
            plan, self._assembly.config.views[target.view], target.options
        )

    async def mend(self, loss: Loss) -> None:
        """The sink no longer holds what it had kept: derive it again."""
        assembly, generation = self._assembly, loss.generation
        sink = assembly.sinks[generation.target.sink]
        plan = assembly.plan(generation)
        if plan is None:
            return  # fed no more
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
        sink, name = lost.target.sink, lost.target.name
        was_live = self.states.get(lost) is GenerationState.LIVE
        self._feed_no_more(lost)
        await store.drop(generation_key(lost))
        assembly.spawn(self._drop(lost), f"drop {lost}")
        if not was_live or any(g.target == lost.target for g in self.building):
            return  # nobody reads it, or the next one is being built already
        target = assembly.targets[sink, name]
        plan = assembly.plans[target.view]
        key = await store.create(
            sink,
            name,
            fingerprint=assembly.sinks[sink].fingerprint(target),
            view_fingerprint=plan.fingerprint,
            definition=self._built_from(target, plan),
        )
        generation = Generation(target, key.number)
        if generation not in self.building:
            assembly.spawn(self.build_beside(generation), f"build {generation}")


def _there(row: GenerationRow) -> bool:
    return row.state is not GenerationState.DROPPED
