"""What is looked after beside the flow: sinks told whose they are, losses, owed keys,
truncated tables, counts, the log that is held back, and whether all is right.

The one thing to know: each look is small and made again later; what it finds is mended
by the same derivation that makes every document.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice

from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.mending import Mending
from bridge.backfill.patience import patiently
from bridge.backfill.receipt import arrived
from bridge.batch import Outlet
from bridge.capture.failures import HistoryChanged
from bridge.capture.slot import describe_slot, take_barrier
from bridge.control.history import log_is_missing
from bridge.control.session import session
from bridge.control.survey import MISSED
from bridge.deliver import Lane
from bridge.derive.view import ViewPlan
from bridge.errors import Halt, Transient, sentence
from bridge.keys import Parts
from bridge.lanes import LaneState
from bridge.ledger import Entry, Sweep
from bridge.observe.logs import logger
from bridge.observe.status import SourceStatus
from bridge.parking import Parking
from bridge.position import parse_lsn
from bridge.shown import Shown
from bridge.sink import Generation, Loss
from bridge.source import refusals_of
from bridge.store.rows import (
    GenerationRow,
    GenerationState,
    ProgressRow,
    SinkState,
)
from bridge.verify.audit import Audit

_log = logger("bridge.watch")
_CLAIM_S = 1.0
_LOOK_S = 1.0
_COUNT_S = 2.0
_TELL_S = 0.5
_SEEN_S = 61.0
"""As seldom as the store writes that the daemon is there."""
_OWED_KEYS = 20_000


class Watch:
    """The loops beside the pipeline."""

    def __init__(self, assembly: Assembly, life: Life, known: SourceStatus) -> None:
        self._assembly = assembly
        self._life = life
        self._known = known
        self._progress: dict[Generation, ProgressRow] = {}
        self._mending: set[Generation] = set()
        self._losses = Mending(assembly, life, self._owe_all)
        self._shown = Shown(assembly, life)
        self._truncated: dict[Generation, list[Entry]] = {}
        self._sweeping: set[Generation] = set()
        self._parkings = {
            name: Parking(assembly, life.jobs, lane, life.claimed[name])
            for name, lane in assembly.lanes.items()
        }

    async def start(self, *, crashed: bool = False) -> Mapping[Generation, ProgressRow]:
        """Before anything streams: nothing is sent to a sink that is not claimed.

        `crashed`: the server has been since an earlier life read from it. Gives what
        was written down in this epoch.
        """
        assembly = self._assembly
        rows = await patiently(assembly.store.positions.load)
        for key, row in rows.items():
            generation = assembly.generation(key)
            if generation is not None and row.position.epoch == assembly.epoch:
                self._progress[generation] = row
        sinks = await patiently(assembly.store.sinks)
        paused = {sink.name for sink in sinks if sink.paused}
        for name, lane in assembly.lanes.items():
            lane.hold()
            if name in paused:
                lane.set_state(LaneState.PAUSED)
        parked = {s.name for s in sinks if s.state is SinkState.PARKED}
        await self._look_back(parked, crashed=crashed)
        await self._restore(parked)
        return self._progress

    async def _look_back(self, parked: Collection[str], *, crashed: bool) -> None:
        """What was passed over, or may be lost, since the positions were written down:
        generations that need every key derived again owe it, durably."""
        assembly, store = self._assembly, self._assembly.store
        confirmed = await patiently(self._confirmed)
        assembly.pipeline.progress.expect(confirmed)
        rows = [r for r in await patiently(store.generations.all) if _goes_on(r)]
        passed = await patiently(store.passed)
        keys = {row.key for row in rows}
        known = {g: at for g, at in self._progress.items() if at.key in keys}
        moved = any(
            confirmed > row.position.lsn
            and not (generation.target.sink in parked and confirmed <= passed)
            for generation, row in known.items()
        )
        if moved:
            _log.warning("the slot was moved past what was kept: all is derived again")
        for row in rows:
            plan = assembly.plans.get(row.view)
            lost = crashed and plan is not None and plan.finds_keys
            if (moved or lost) and not row.sweep:
                await patiently(
                    partial(store.generations.set_sweep, row.key, sweep=True)
                )
        if moved:
            await patiently(partial(store.save_passed, confirmed))
        untold = bool(self._progress) and not known
        if moved or untold or any(row.sweep for row in rows):
            # What it was moved past may be invisible still, and comes in no stream;
            # where nothing goes on, nobody can tell whether it was.
            assembly.pipeline.gate.raise_barrier(await patiently(self._barrier))

    async def _barrier(self) -> int:
        async with session(self._assembly.config.source.dsn) as connection:
            return await take_barrier(connection)

    async def _restore(self, parked: set[str]) -> None:
        """Sinks to which an earlier run has left debts."""
        store = self._assembly.store
        rows = [r for r in await patiently(store.generations.all) if _goes_on(r)]
        owed = (await patiently(store.owed.count)).keys() & {row.key for row in rows}
        sweeps = [row.key for row in rows if row.sweep]
        for name in parked | {key.sink for key in [*owed, *sweeps]}:
            if name not in self._parkings:
                continue  # no longer in the file
            standing = {
                generation: row.position.lsn
                for generation, row in self._progress.items()
                if generation.target.sink == name
            }
            whole = [self._assembly.generation(key) for key in sweeps]
            self._parkings[name].restore(standing, [g for g in whole if g])

    async def run(self) -> None:
        """Look after things until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self._assembly.lanes.values():
                group.create_task(self._sink(lane))
            group.create_task(self._slot())
            group.create_task(self._count())
            group.create_task(self._tell())
            if (rate := self._assembly.config.daemon.audit) is not None:
                dice = random.Random()  # noqa: S311 - where to begin, not secrets
                audit = Audit(self._assembly, self._life, rate, dice)
                group.create_task(audit.run())

    # — sinks —

    async def _sink(self, lane: Lane) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._remember(lane))
            group.create_task(self._parkings[lane.name].run())
            await self._claim(lane)
            lane.unhold()
            self._life.claimed[lane.name].set()
            group.create_task(self._audit(lane))
            group.create_task(self._catch_up(lane))

    async def _claim(self, lane: Lane) -> None:
        """Say whose the sink is, and see that it holds what it held."""
        assembly = self._assembly
        while True:
            try:
                await lane.sink.claim(assembly.owner, assembly.epoch)
                await self._life.switches.settle(lane.name)
                await self._audited(lane)
                for generation in self._fed(lane):
                    await self._look_at(lane, generation)
            except Transient as error:
                if lane.state is LaneState.OK:
                    lane.found(LaneState.DOWN, sentence(error))
            except HistoryChanged:
                raise
            except Halt as error:
                if lane.state is not LaneState.HALTED:
                    _log.error("sink halted", sink=lane.name, reason=error.message)
                lane.found(LaneState.HALTED, sentence(error))
                await lane.resumed()
                continue
            else:
                if lane.state is LaneState.DOWN:
                    lane.found(LaneState.OK)
                return
            await asyncio.sleep(_CLAIM_S)

    async def _audited(self, lane: Lane) -> None:
        """What the sink itself knows to have lost, before anything covers that."""
        there = [
            generation
            for generation in self._fed(lane)
            if self._life.states[generation] is not GenerationState.BUILDING
            or await lane.sink.exists(generation)
        ]
        for loss in await lane.sink.audit(there):
            state = self._life.states[loss.generation]
            if state is not GenerationState.BUILDING or loss.keys is not None:
                self._mend(loss)
            elif not loss.serves:
                await self._life.builds.lose(loss)

    async def _look_at(self, lane: Lane, generation: Generation) -> None:
        """Whether a generation holds all that the slot has moved past."""
        confirmed = await self._confirmed()
        saved = self._progress.get(generation)
        recorded = await lane.sink.recorded(generation)
        if recorded is not None and recorded.epoch == self._assembly.epoch:
            await self._is_known(recorded.lsn)
        reason = ""
        if not await lane.sink.exists(generation):
            reason = "its place is gone"
        elif saved is not None and saved.content_lsn > 0:
            held = recorded.lsn if recorded and recorded.epoch == saved[1].epoch else 0
            if held < min(saved.content_lsn, confirmed):
                reason = "it is older than what it had kept"
        loss = Loss(generation, None, reason)
        if reason and self._life.states[generation] is GenerationState.BUILDING:
            await self._life.builds.lose(loss)
        elif reason:
            self._mend(loss)

    async def _is_known(self, told_lsn: int) -> None:
        """HistoryChanged, noted for the next life, where a sink was told of more log
        than this database knows of."""
        known = (await self._assembly.store.log()).noted_lsn
        if known is not None and told_lsn > known:
            reason = log_is_missing(told_lsn, known)
            await self._assembly.store.doubt(reason)
            raise HistoryChanged(reason, hint="the next look at it says what goes on")

    async def _confirmed(self) -> int:
        source = self._assembly.config.source
        async with session(source.dsn) as connection:
            slot = await describe_slot(connection, source.slot)
        return slot.confirmed_lsn or 0 if slot is not None else 0

    def _fed(self, lane: Lane) -> list[Generation]:
        return [g for g in lane.feeds if g in self._life.states]

    async def _audit(self, lane: Lane) -> None:
        interval_s = self._assembly.config.limits.audit_interval_s
        while True:
            await asyncio.sleep(interval_s)
            fed = self._life.builds.held(lane.name)
            try:
                losses = await lane.sink.audit(fed)
            except Transient as error:
                if not lane.in_debt:  # else parking looks, and says so
                    lane.looked_at(sentence(error))
                continue
            except Halt as error:
                lane.found(LaneState.HALTED, sentence(error))
                await lane.resumed()
                continue
            if not lane.in_debt:
                lane.looked_at()
            for loss in losses:
                self._mend(loss)
            lost = {loss.generation for loss in losses} | self._mending
            await self._shown.look([one for one in fed if one not in lost])

    async def _owe_all(self, generation: Generation, reason: str) -> None:
        parking = self._parkings[generation.target.sink]
        await parking.owe_all(generation, reason)
        parking.ask(reason)

    def _mend(self, loss: Loss) -> None:
        if loss.generation in self._mending:
            return
        self._mending.add(loss.generation)

        async def mend() -> None:
            try:
                await self._life.claimed[loss.generation.target.sink].wait()
                await self._assembly.pipeline.ready()
                await self._losses.mend(loss)
            finally:
                self._mending.discard(loss.generation)

        self._assembly.spawn(mend(), f"mend {loss.generation}")

    async def _catch_up(self, lane: Lane) -> None:
        """Derive what is owed as soon as the sink takes documents again."""
        while True:
            await asyncio.sleep(0.2)
            recorded = self._parkings[lane.name].recording
            if lane.full or recorded or lane.state is not LaneState.OK:
                continue  # what is recorded is paid from the records
            for generation, feed in list(lane.feeds.items()):
                owed = [debt.parts for debt in islice(feed.owed.values(), _OWED_KEYS)]
                plan = self._assembly.plan(generation)
                if owed and plan is not None:
                    await self._life.jobs.keys(generation, plan, owed)

    async def _remember(self, lane: Lane) -> None:
        """Write down what the sink does, when it changes; and of one that is away that
        something is written for it, since its position does not move then."""
        told: tuple[LaneState, str] | None = None
        behind = False
        while True:
            await asyncio.sleep(_TELL_S)
            with suppress(Transient):
                behind = await self._tell_behind(lane, before=behind)
            now = (lane.shown, lane.reason)
            if now == told:
                continue
            if told is not None or lane.shown is not LaneState.OK:
                log = _log.info if lane.shown is LaneState.OK else _log.warning
                log(f"sink is {lane.shown.value}", sink=lane.name, reason=lane.reason)
            try:
                async with lane.telling:
                    # That it is paused is written apart.
                    state = LaneState.PARKED if lane.in_debt else lane.state
                    await self._assembly.store.set_sink_state(
                        lane.name, SinkState(state.value), lane.reason
                    )
            except Transient:
                continue
            told = now

    async def _tell_behind(self, lane: Lane, *, before: bool) -> bool:
        """Whether a sink that is away has not kept something; written down when that
        is not as `before`. Transient."""
        pipeline = self._assembly.pipeline
        if lane.state is LaneState.OK or not pipeline.streaming:
            return before
        fed = self._fed(lane)
        behind = any(pipeline.ledger.behind_since_s(one) for one in fed)
        if behind != before:
            reached = pipeline.progress.reached
            await pipeline.progress.save({one: reached(one) for one in fed})
        return behind

    # — truncated tables —

    def truncated(self, view: str, _lsn: int, entry: Entry) -> None:
        """A table of the view was emptied: sweep each generation of it. It has not kept
        the entry before that is done."""
        pipeline = self._assembly.pipeline
        for outlet in pipeline.fan_out.of(view):
            generation = outlet.generation
            pipeline.ledger.hold(entry, Sweep(generation), 1)
            self._truncated.setdefault(generation, []).append(entry)
            if generation not in self._sweeping:
                self._sweeping.add(generation)
                self._assembly.spawn(self._sweep(outlet), f"sweep {generation}")

    async def _sweep(self, outlet: Outlet) -> None:
        lane, generation = outlet
        ledger = self._assembly.pipeline.ledger
        try:
            while entries := self._truncated.pop(generation, []):
                plan = self._assembly.plan(generation)
                if plan is None:
                    return  # fed no more
                await self.sweep(outlet, plan)
                if generation not in lane.feeds:
                    return  # nothing is held for it any more
                for entry in entries:
                    ledger.release(entry, Sweep(generation), 1)
        finally:
            self._sweeping.discard(generation)

    async def sweep(self, outlet: Outlet, plan: ViewPlan) -> None:
        """Sweep a generation, or record durably that it is to be swept.

        ViewHalt when the source refuses the view's statements.
        """
        lane, generation = outlet

        async def sweep() -> None:
            await self._life.claimed[lane.name].wait()
            with refusals_of(plan.name):
                await self._life.jobs.sweep(generation, plan)
            await arrived(self._assembly.pipeline, generation)

        if not await lane.unless_parked(sweep()):
            await self._parkings[lane.name].owe_all(generation)

    async def rederive(self, view: str, keys: list[Parts]) -> None:
        """Derive these keys again for every generation, or record that it is owed."""
        assembly = self._assembly
        async with asyncio.TaskGroup() as group:
            for outlet in list(assembly.pipeline.fan_out.of(view)):
                group.create_task(
                    self._rederive_one(outlet, assembly.plans[view], keys)
                )

    async def _rederive_one(
        self, outlet: Outlet, plan: ViewPlan, keys: list[Parts]
    ) -> None:
        lane, generation = outlet

        async def derive() -> None:
            await self._life.claimed[lane.name].wait()
            await self._life.jobs.keys(generation, plan, keys)

        if not await lane.unless_parked(derive()):
            await self._parkings[lane.name].owe(generation, keys)

    # — what is shown —

    async def _slot(self) -> None:
        """The log that the slot holds back, and how far the server is."""
        source, store = self._assembly.config.source, self._assembly.store
        progress = self._assembly.pipeline.progress
        while True:
            try:
                async with session(source.dsn) as connection:
                    while True:
                        slot = await describe_slot(connection, source.slot)
                        cursor = await connection.execute(
                            "select pg_current_wal_flush_lsn()::text as lsn"
                        )
                        row = await cursor.fetchone()
                        assert row is not None
                        self._known.server_lsn = parse_lsn(row["lsn"])
                        await progress.look(self._known.server_lsn)
                        wanted = await store.positions.wanted(self._known.server_lsn)
                        progress.want(wanted)
                        self._known.retained_bytes = (
                            (slot.retained_bytes or 0) if slot is not None else 0
                        )
                        for parking in self._parkings.values():
                            parking.consider(
                                self._known.server_lsn, self._known.retained_bytes
                            )
                        await asyncio.sleep(_LOOK_S)
            except Transient:
                await asyncio.sleep(_LOOK_S)

    async def _tell(self) -> None:
        """Write down what the daemon does, when it changes, and that it is there."""
        told, told_s = ("", "", ""), 0.0
        while True:
            now = (self._known.state, self._known.reason, self._known.refused)
            if now != told or time.monotonic() - told_s > _SEEN_S:
                with suppress(Transient):
                    await self._assembly.store.heartbeat(*now)
                    told, told_s = now, time.monotonic()
            await asyncio.sleep(_TELL_S)

    async def _count(self) -> None:
        """How many documents each generation has, and which dead letters."""
        while True:
            outlets = list(self._assembly.pipeline.fan_out.outlets())
            await self._life.count([outlet.generation for outlet in outlets])
            with suppress(Transient):
                await self._assembly.letters.forget_dropped()
            await asyncio.sleep(_COUNT_S)


def _goes_on(row: GenerationRow) -> bool:
    """Whether it is to hold all that the stream has brought. One that was not fed for
    a while is known to miss changes: it stays behind, and is owed nothing but to be
    built anew, or swept before readers go back to it."""
    missed = row.view_fingerprint == MISSED
    return row.state is not GenerationState.DROPPED and not missed
