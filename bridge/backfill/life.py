"""The life of a generation, from an empty place to one that is gone.

    building ──build──▶ level ──publish──▶ live ──next one is live──▶ previous
                                             ▲                            │
                                             └──────── roll back ─────────┘
                                                          previous ──▶ dropped

A generation is fed by the stream from before its first range is read, so that the two
overlap and nothing falls between them. What readers see is switched by `switches`.

The one thing to know: every step is written down, and each can be made again. A crash
between two is repeated and changes nothing; a build stays open until readers see it, so
that it is never begun a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.altering import alter
from bridge.backfill.builds import Builds
from bridge.backfill.jobs import Jobs
from bridge.backfill.patience import patiently
from bridge.backfill.running import Backfills
from bridge.backfill.switches import READABLE, Switches
from bridge.control.former import built_from, displaced
from bridge.control.letters import generation_key
from bridge.control.survey import MISSED
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, Halt, Transient, sentence
from bridge.observe.logs import logger
from bridge.sink import Generation, Loss, Target
from bridge.store.generations import Counts
from bridge.store.rows import (
    BackfillKind,
    BackfillRow,
    GenerationRow,
    GenerationState,
)

_log = logger("bridge.backfill")
_LOOK_S = 0.5


async def _nobody_asks(_generation: Generation) -> None:
    return


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
        self.builds = Builds(assembly, self)
        self._altering: dict[Generation | None, asyncio.Task[None]] = {}
        self.building: set[Generation] = set()
        self.stale: set[Generation] = set()
        """Fed, but not every document is what its query gives: swept before a
        rollback."""
        self.estimates: dict[Generation, int] = {}
        """About how many documents a build will have."""
        self.lost: dict[Generation, Loss] = {}
        """What the places of builds have lost since these were begun, or that they
        cannot be made yet: the builds begin again."""
        self.commands_first: Callable[[Generation], Awaitable[None]] = _nobody_asks
        """Waits for what was asked of a generation's target before now."""
        self.switches = Switches(assembly, self)
        self.documents: dict[Generation, int] = {}
        """How many there are, as last counted."""
        self.under_way: list[BackfillRow] = []
        """The open backfills, as last looked at."""
        self.differing: dict[Generation, int] = {}
        """How many of them are known not to be what the source says."""

    async def start(self) -> None:
        """Feed what is there and go on with all that was begun."""
        rows = await patiently(self._assembly.store.generations.all)
        known = [self._assembly.generation(row.key) for row in rows if _there(row)]
        out_of_place = displaced([g for g in known if g], self._assembly.sinks)
        for row in rows:
            await self._take_up(row, out_of_place)
        self.switches.retire_in_time(rows)
        await self._assembly.letters.load()
        for backfill in await patiently(self._assembly.store.backfills.open):
            altering = self._altering.get(self._assembly.generation(backfill.key))
            if backfill.kind is BackfillKind.BUILD:
                if self._state(backfill) in READABLE:  # a crash came before this note
                    await self.builds.note(backfill)
            elif altering is None:
                self.backfills.run(backfill)
            else:
                after = self._after(altering, backfill)
                self._assembly.spawn(after, f"backfill {backfill.id}")

    def _state(self, backfill: BackfillRow) -> GenerationState | None:
        generation = self._assembly.generation(backfill.key)
        return None if generation is None else self.states.get(generation)

    async def _alter(self, generation: Generation) -> None:
        await self.claimed[generation.target.sink].wait()
        states = self.states
        await alter(self._assembly, generation, lambda g: g in states, self.halt)

    async def _after(self, altering: asyncio.Task[None], backfill: BackfillRow) -> None:
        await asyncio.wait({altering})
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

    async def count(self, generations: Iterable[Generation]) -> None:
        """Count their documents and write down what has changed. Of a sink that is
        away the last count stands."""
        counts = []
        for generation in generations:
            sink = generation.target.sink
            if not self.claimed[sink].is_set():
                continue
            with suppress(Transient, Halt):
                running = self.jobs.running.get(generation)
                if running is not None and generation in self.building:
                    # To count makes the sink refresh, which costs a build a lot.
                    found = running.documents
                else:
                    found = await self._assembly.sinks[sink].count(generation)
                self.documents[generation] = found
                key, share = generation_key(generation), self.progress(generation)
                counts.append(Counts(key, found, share))
        store = self._assembly.store
        with suppress(Transient):
            await store.generations.save_counts(counts)
            self.under_way = await store.backfills.open()

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
            self._assembly.spawn(self.drop(generation), f"drop {generation}")
            return
        self.states[generation] = row.state
        self.documents[generation] = row.documents
        former = self._assembly.former
        name = former.names.get(row.key, row.view)
        plan = self._assembly.plans.get(name)
        if generation in out_of_place and row.state is GenerationState.PREVIOUS:
            await self.retire(generation)
            return
        if plan is None or generation in out_of_place or row.key in former.refused:
            await self._leave(generation, row, former.refused.get(row.key))
            return
        if row.halted:
            await patiently(
                partial(self._assembly.store.generations.halt, row.key, None)
            )
        if row.view_fingerprint != plan.fingerprint:
            self.stale.add(generation)
        self.feed(generation, row.state, name)
        if row.state is GenerationState.BUILDING:
            self.builds.begin(generation)
        elif row.prepared_at is None:
            work = self._assembly.spawn(self._alter(generation), f"alter {generation}")
            self._altering[generation] = work

    async def _leave(
        self, generation: Generation, row: GenerationRow, why: str | None
    ) -> None:
        """Feed it no more. From here on it misses changes, and will be built anew."""
        store, target = self._assembly.store.generations, generation.target
        if row.state is GenerationState.BUILDING:
            # What is built of it misses what comes now.
            self.states.pop(generation)
            await patiently(partial(store.drop, row.key))
            self._assembly.spawn(self.drop(generation), f"drop {generation}")
            return
        if row.view_fingerprint != MISSED and row.state in READABLE:
            await patiently(partial(store.set_view_fingerprint, row.key, MISSED))
        if why is None:
            return
        reason = f"g{row.key.number} is not fed any more: {why}"
        _log.error("generation is stale", target=str(target), reason=reason)
        await patiently(partial(store.halt, row.key, reason))
        if row.state is GenerationState.LIVE:
            self._assembly.stale[target.sink, target.name] = reason

    def feed(
        self, generation: Generation, state: GenerationState, plan: str = ""
    ) -> None:
        """From now on the stream feeds it, by the plan of that name."""
        self.states[generation] = state
        lane = self._assembly.lanes[generation.target.sink]
        self._assembly.pipeline.fan_out.add(lane, generation, plan)

    def feed_no_more(self, generation: Generation) -> None:
        """The stream leaves it as it is; it is nobody's any more."""
        self.states.pop(generation, None)
        self.documents.pop(generation, None)
        self.differing.pop(generation, None)
        self.stale.discard(generation)
        self._assembly.pipeline.fan_out.remove(generation)

    # — what readers see —

    def is_fed(self, generation: Generation) -> bool:
        """Whether the stream feeds it."""
        return self._assembly.pipeline.fan_out.plan(generation) is not None

    def plan(self, generation: Generation) -> ViewPlan:
        """The plan of one that is fed."""
        plan = self._assembly.plan(generation)
        assert plan is not None, generation
        return plan

    async def freshen(self, generation: Generation) -> None:
        """Make every document what the generation's own query gives now."""
        plan = self.plan(generation)
        await self.jobs.sweep(generation, plan)
        key = generation_key(generation)
        store = self._assembly.store.generations
        await patiently(partial(store.set_view_fingerprint, key, plan.fingerprint))
        self.stale.discard(generation)

    async def retire(self, generation: Generation) -> None:
        """Keep it no longer for a rollback."""
        self.feed_no_more(generation)
        key = generation_key(generation)
        await patiently(partial(self._assembly.store.generations.drop, key))
        self._assembly.spawn(self.drop(generation), f"drop {generation}")

    async def resume(self, sink: str) -> None:
        """Try again what has halted for targets of this sink."""
        halted, former = self._assembly.halted, self._assembly.former
        for identity in [each for each in halted if each[0] == sink]:
            for generation in self._of(*identity):
                name = former.names.get(
                    generation_key(generation), generation.target.view
                )
                if generation in self.lost and name in self._assembly.plans:
                    self.feed(generation, self.states[generation], name)
            if not any(self.is_fed(g) for g in self._of(*identity)):
                continue  # its view cannot be kept: another life may
            del halted[identity]
            for generation in self._of(*identity):
                key = generation_key(generation)
                store = self._assembly.store.generations
                await patiently(partial(store.halt, key, None))
                if self.states[generation] is GenerationState.BUILDING:
                    self.builds.begin(generation)

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

    async def drop(self, generation: Generation) -> None:
        """Remove it from its sink, and then from the store."""
        sink = self._assembly.sinks[generation.target.sink]
        await self.claimed[generation.target.sink].wait()
        try:
            await self._hide(generation)
            await patiently(partial(sink.drop, generation))
        except Halt as error:
            _log.error("cannot drop", generation=str(generation), reason=error.message)
            return
        await probes.reach("generation.dropped")
        key = generation_key(generation)
        await patiently(partial(self._assembly.store.generations.forget, key))

    async def _hide(self, generation: Generation) -> None:
        """Readers must not be left without: they are shown the live one before. Where
        there is none yet, what they see stays until there is."""
        target = generation.target
        sink = self._assembly.sinks[target.sink]
        while True:
            async with self.switches.lock(target):
                shown = await patiently(partial(sink.published, target))
                if shown != generation.number:
                    return
                live = self.live(target.sink, target.name)
                if live is not None:
                    await patiently(partial(self.switches.show, live))
                    return
            await asyncio.sleep(_LOOK_S)

    # — rebuilds and losses —

    async def create(self, target: Target, plan: ViewPlan) -> Generation:
        """A new generation, in the store and fed, or the same one that was begun."""
        key = await patiently(
            partial(
                self._assembly.store.generations.create,
                target.sink,
                target.name,
                fingerprint=self._assembly.sinks[target.sink].fingerprint(target),
                view_fingerprint=plan.fingerprint,
                definition=built_from(
                    plan, self._assembly.config.views[target.view], target.options
                ),
            )
        )
        generation = Generation(target, key.number)
        if generation not in self.states and self.claimed[target.sink].is_set():
            # Before it is fed, so that no write has to wait for it; who fills it makes
            # its place, and halts, where that cannot be now.
            with suppress(Transient, Halt):
                sink = self._assembly.sinks[target.sink]
                await sink.prepare(generation, self._assembly.owner)
        if generation not in self.states:
            # One from which readers were rolled back may have the very place of it.
            known = [generation, *self._of(target.sink, target.name)]
            for older in displaced(known, self._assembly.sinks):
                if self.states[older] is GenerationState.PREVIOUS:
                    await self.retire(older)
            self.feed(generation, GenerationState.BUILDING)
        return generation


def _there(row: GenerationRow) -> bool:
    return row.state is not GenerationState.DROPPED
