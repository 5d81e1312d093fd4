"""Parking: a slow or dead sink must not hold the source's log for ever.

    flowing ──log over budget──▶ parked ──sink answers──▶ paying ──no debts──▶ flowing
                                    ▲                        │
                                    └────log over budget─────┘

While a sink is parked or paying, what it is owed is recorded in the bridge's own
tables, and the slot moves on without it. Paying derives the recorded keys again, each
at a marker, while new changes flow through the lane as usual.

The one thing to know: a debt is released in the ledger only after it is durable in a
record that the stream itself has passed, and a record is removed only at a position
that is not below the last one that asked for its key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.jobs import Jobs
from bridge.backfill.patience import patiently
from bridge.backfill.rederive import pay
from bridge.control.letters import generation_key
from bridge.deliver import Lane
from bridge.derive.view import ViewPlan
from bridge.errors import (
    Halt,
    Transient,
    ViewHalt,
    first_problem,
    sentence,
)
from bridge.feed import Feed
from bridge.keys import Parts, key_text
from bridge.lanes import LaneState
from bridge.ledger import Aside
from bridge.observe.logs import logger
from bridge.position import EPOCH_MAX, LSN_MAX, Position
from bridge.sink import Generation
from bridge.source import refusals_of
from bridge.store.rows import OwedKey, SinkState

_log = logger("bridge.parking")
_RECORD_S = 0.3
_PROBE_S = 2.0
_LOOK_S = 0.05
_KEYS_AT_ONCE = 50_000
_PAGE_KEYS = 1000
_IN_MEMORY_MAX = 100_000
"""Owed keys in memory beyond which a sink is parked, whatever log it holds."""
_LOOKS = 3
"""A sink that takes what it is given may have a large transaction before it: so often
in a row it has to be found behind."""
_EVERYTHING = Position(EPOCH_MAX, LSN_MAX)
_RECORDED = "keys were recorded that are to be derived again"


class Parking:
    """Of one lane. `run` it beside the lane for as long as the lane lives."""

    def __init__(
        self, assembly: Assembly, jobs: Jobs, lane: Lane, claimed: asyncio.Event
    ) -> None:
        """`claimed` is set once the sink was told whose it is."""
        self._assembly = assembly
        self._pipeline = assembly.pipeline
        self._store = assembly.store
        self._jobs = jobs
        self._lane = lane
        self._claimed = claimed
        self._wanted = asyncio.Event()
        self._reason = ""
        self._over = 0
        self.recording = False
        """Whether what is owed goes into the tables, and is paid from there."""
        self._lock = asyncio.Lock()
        self._restored: dict[Generation, int] = {}
        self._sweeps: dict[Generation, int] = {}
        """Owed so much that every key is to be derived again, and how often that was
        asked for: a sweep answers for what was asked before it began."""

    # — when —

    def restore(
        self, positions: Mapping[Generation, int], sweeps: Collection[Generation]
    ) -> None:
        """An earlier life left debts: the lane starts parked, and its generations
        stand where they were."""
        self._restored = dict(positions)
        self._sweeps.update(dict.fromkeys(sweeps, 1))
        self._lane.aside = True
        self.ask("debts of an earlier run are not paid yet")

    def ask(self, reason: str) -> None:
        """Park the sink; nothing where it is parked already."""
        self._over = 0
        if not self._lane.parked:
            self._reason = reason
            self._lane.park()
            self._wanted.set()

    def consider(self, server_lsn: int, retained_bytes: int) -> None:
        """Park the sink when it is what holds the source's log back."""
        lane, ledger = self._lane, self._pipeline.ledger
        budget = self._assembly.config.source.wal_budget_bytes
        if lane.parked or not self._pipeline.streaming:
            return
        if lane.owed > _IN_MEMORY_MAX:
            self.ask("more keys are owed than are held in memory")
        away = lane.state is not LaneState.OK or not self._claimed.is_set()
        # After a crash of the server nothing is acknowledged until all that is doubtful
        # was derived again: one that takes what it is given holds nothing back.
        doubted = ledger.frozen and not (away or lane.slow)
        if retained_bytes <= budget or doubted:
            self._over = 0
            return
        held = [at for g in lane.feeds if (at := ledger.held_at(g)) is not None]
        end = server_lsn  # what is not taken yet waits for room in this lane
        if away:
            # Truncated tables and repairs wait for it too, in nobody's name.
            held.append(ledger.acknowledge())
        elif not lane.slow:
            end = ledger.end
        # Half of it: the log that is held besides is not of this sink's making.
        over = bool(held) and 2 * (end - min(held)) > budget
        self._over = self._over + 1 if over else 0
        if over and (away or lane.slow or self._over >= _LOOKS):
            self.ask("it held back more log than wal_budget")

    # — the loops —

    async def run(self) -> None:
        """Park and pay, again and again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_records())
            group.create_task(self._cycle())

    async def _cycle(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._close()
            while self._lane.in_debt:
                await self._answers()
                async with self._lock:
                    self._lane.unpark()
                _log.info("sink is back, and is owed", sink=self._lane.name)
                try:
                    await self._lane.unless_parked(self._pay_all())
                except* ViewHalt:
                    raise  # that view halts, and not the sink with all of its views
                except* (Transient, Halt) as errors:
                    self._failed(errors)
                if self._lane.paid():
                    _log.info("sink has caught up", sink=self._lane.name)
                    break
                self._wanted.clear()
                await self._close()

    def _failed(self, errors: BaseExceptionGroup[Transient | Halt]) -> None:
        """Paying came to nothing: the sink is parked again."""
        error = first_problem(errors)
        assert error is not None
        _log.warning("parked again", sink=self._lane.name, reason=str(error))
        halted = isinstance(error, Halt)
        self._lane.found(
            LaneState.HALTED if halted else LaneState.DOWN, sentence(error)
        )
        self._lane.park()

    async def _close(self) -> None:
        """Durable first; from then on the slot does not wait for the sink."""
        lane, pipeline = self._lane, self._pipeline
        await pipeline.ready()
        standing = {g: self._standing(g) for g in lane.feeds}
        reason = lane.reason or self._reason
        async with lane.telling:
            parked = SinkState.PARKED
            await patiently(
                partial(self._store.set_sink_state, lane.name, parked, reason)
            )
        if not lane.aside:
            applied = {generation: at.applied for generation, at in standing.items()}
            await patiently(partial(pipeline.progress.save, applied))
        await probes.reach("parking.parked")
        await patiently(pipeline.markers.next)
        for generation in lane.feeds.keys() & standing.keys():
            pipeline.ledger.set_aside(generation, *standing[generation])
        lane.aside = True
        self.recording = True
        _log.warning("sink parked", sink=lane.name, reason=reason)

    def _standing(self, generation: Generation) -> Aside:
        """Where a generation is and stays until its debts are paid."""
        ledger = self._pipeline.ledger
        if self._lane.aside:
            applied = self._restored.get(generation, 0)
            return ledger.aside(generation) or Aside(applied, time.time())
        since_s = ledger.behind_since_s(generation) or time.time()
        return Aside(self._pipeline.progress.reached(generation), since_s)

    async def _answers(self) -> None:
        """Wait until the sink takes what is its own again."""
        assembly, lane = self._assembly, self._lane
        await self._claimed.wait()
        while True:
            if lane.state in (LaneState.OK, LaneState.DOWN):
                try:
                    await lane.sink.claim(assembly.owner, assembly.epoch)
                except Transient as error:
                    lane.found(LaneState.DOWN, sentence(error))
                except Halt as error:
                    lane.found(LaneState.HALTED, sentence(error))
                else:
                    lane.found(LaneState.OK)
                    if lane.state is LaneState.OK:
                        return
            await asyncio.sleep(_PROBE_S)

    # — recording debts —

    async def _keep_records(self) -> None:
        while True:
            await asyncio.sleep(_RECORD_S)
            if not self.recording or not self._pipeline.streaming:
                continue
            with suppress(Transient):
                while await self._record():
                    pass

    async def _record(self) -> bool:
        """Make what is owed in memory durable, and forget it; whether there is more."""
        async with self._lock:
            if not self.recording:
                return False
            feeds = [f for f in self._lane.feeds.values() if f.owed or f.recording]
            for generation in self._lane.feeds:
                if self._pipeline.ledger.aside(generation) is None:
                    # Fed since: it stands nowhere yet.
                    self._pipeline.ledger.set_aside(generation, 0, time.time())
            for feed in feeds:
                await self._record_feed(feed)
            if feeds:
                await probes.reach("parking.recorded")
                # The stream has passed the records: what it does not bring any more
                # is in them, on this server and on the one that may take its place.
                await self._pipeline.markers.next()
                for feed in feeds:
                    feed.recorded()
            await self._bound()
            return any(feed.owed for feed in feeds)

    async def _record_feed(self, feed: Feed) -> None:
        debts = feed.record(_KEYS_AT_ONCE)
        if feed.generation in self._sweeps and self._lane.parked:
            return  # every key will be derived again, later than this
        await self._store.owed.add(
            generation_key(feed.generation),
            [
                OwedKey(key, debt.parts, Position.of_version(debt.version))
                for key, debt in debts.items()
            ],
        )
        self._lane.recorded_debts += len(debts)

    async def _bound(self) -> None:
        """More keys than can be kept: the whole of each generation is owed instead."""
        limit = self._assembly.config.limits.owed_keys_max
        if self._lane.recorded_debts <= limit:
            return
        counts = await self._counts()
        self._lane.recorded_debts = sum(counts.values())
        if self._lane.recorded_debts <= limit:
            return
        if not self._lane.parked:
            self.ask("more keys are owed than can be kept")
        for generation in counts:
            await self._owe_sweep(generation)
        await self._pipeline.markers.next()
        for generation in counts:
            await self._store.owed.remove_up_to(generation_key(generation), _EVERYTHING)
        self._lane.recorded_debts = 0

    async def _counts(self) -> dict[Generation, int]:
        counts = await self._store.owed.count()
        keys = {generation_key(g): g for g in self._lane.feeds}
        return {keys[key]: n for key, n in counts.items() if key in keys}

    async def owe_all(self, generation: Generation, reason: str = _RECORDED) -> None:
        """Every key of the generation is to be derived again; durable on return."""
        async with self._lock:
            await self._owe_sweep(generation)
            await patiently(self._pipeline.markers.next)
            self._is_owed(reason)

    async def owe(self, generation: Generation, keys: list[Parts]) -> None:
        """These keys are to be derived again; durable on return."""
        key = generation_key(generation)
        at = Position(self._pipeline.epoch, self._pipeline.ledger.end)
        owed = [OwedKey(key_text(parts), parts, at) for parts in keys]
        async with self._lock:
            await patiently(partial(self._store.owed.add, key, owed))
            self._lane.recorded_debts += len(owed)
            await patiently(self._pipeline.markers.next)
            self._is_owed(_RECORDED)

    async def _owe_sweep(self, generation: Generation) -> None:
        key = generation_key(generation)
        # Where its answer is lost it may be written, and is to be known here too.
        await patiently(partial(self._store.generations.set_sweep, key, sweep=True))
        self._sweeps[generation] = self._sweeps.get(generation, 0) + 1

    def _is_owed(self, reason: str) -> None:
        """Something was recorded: only a lane that is in debt pays from the records,
        and this one may have paid all others since whoever records it was told."""
        if not self.recording:
            self.ask(reason)

    # — paying —

    async def _pay_all(self) -> None:
        """Until nothing is owed that is not held by the stream, then flow again."""
        while True:
            for generation in list(self._lane.feeds):
                plan = self._assembly.plan(generation)
                if plan is None:
                    continue
                if generation in self._sweeps:
                    await self._sweep(generation, plan)
                await self._pay(generation, plan)
            async with self._lock:
                counts = await patiently(self._counts)
                self._lane.recorded_debts = sum(counts.values())
                settling = any(f.recording for f in self._lane.feeds.values())
                sweeps = self._sweeps.keys() & self._lane.feeds.keys()
                if not (counts or settling or sweeps):
                    self.recording = False
                    break
            await asyncio.sleep(_LOOK_S)
        await self._flow()

    async def _pay(self, generation: Generation, plan: ViewPlan) -> None:
        """Derive again what is recorded as owed, once through."""
        key, after = generation_key(generation), ""
        while True:
            page = await patiently(
                partial(self._store.owed.page, key, after=after, count=_PAGE_KEYS)
            )
            if not page or generation not in self._lane.feeds:
                return
            paid = await pay(
                self._pipeline,
                plan,
                generation,
                page,
                reject=self._assembly.letters.of_generations,
            )
            await probes.reach("parking.paid")
            await patiently(partial(self._store.owed.remove, key, paid))
            self._lane.recorded_debts = max(0, self._lane.recorded_debts - len(paid))
            after = page[-1].key

    async def _sweep(self, generation: Generation, plan: ViewPlan) -> None:
        """Derive every key. What is recorded before it begins is covered by it, what
        is recorded from then on is not. ViewHalt as `Watch.sweep`, in a group."""
        key, asked = generation_key(generation), self._sweeps[generation]
        await patiently(partial(self._store.owed.remove_up_to, key, _EVERYTHING))
        with refusals_of(plan.name):
            await self._jobs.sweep(generation, plan)
        async with self._lock:
            if self._sweeps[generation] != asked:
                return  # it is owed another one since
            # Before it is written: should that be cut off, debts are recorded all the
            # same, and one sweep too many after a crash does no harm.
            del self._sweeps[generation]
            await patiently(
                partial(self._store.generations.set_sweep, key, sweep=False)
            )

    async def _saved(self, generation: Generation, lsn: int) -> None:
        fed, saved = self._lane.feeds, self._pipeline.progress.saved
        while generation in fed and saved(generation) < lsn:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    async def _flow(self) -> None:
        """The generations take part again in what the slot waits for."""
        lane, pipeline = self._lane, self._pipeline
        for generation in lane.feeds:
            pipeline.ledger.take_back(generation)
        lane.aside = False
        marker = await patiently(pipeline.markers.next)
        pipeline.progress.want(marker)
        for generation in list(lane.feeds):
            await pipeline.level(generation, marker)
            # Written down first: a sink that is not parked must not be found behind
            # the slot after a crash.
            await self._saved(generation, marker)
        await patiently(partial(self._store.set_sink_state, lane.name, SinkState.OK))
