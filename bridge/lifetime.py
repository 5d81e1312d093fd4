"""One life of the daemon: everything made for one configuration and one history.

The one thing to know: parts are started from the sinks towards the source, so that
nothing is taken that has nowhere to go, and stopped in the opposite order.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import NamedTuple

from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.pace import Pace
from bridge.backfill.patience import patiently
from bridge.config import Config, OnSlotLoss
from bridge.control.apply import Applied, apply
from bridge.control.commands import command_id
from bridge.control.installing import Permission
from bridge.control.letters import Letters
from bridge.control.operator import Operator
from bridge.control.planning import sink_target, unplanned
from bridge.control.schema import SchemaWatch
from bridge.control.survey import Survey, survey
from bridge.deliver import Lane
from bridge.derive.deriver import DeriveLimits
from bridge.derive.digest import Batch
from bridge.derive.shapes import digest_types
from bridge.errors import Exit, Transient, ViewHalt, sentence
from bridge.gate import Gate
from bridge.keys import Parts
from bridge.lanes import LaneLimits, LaneState, Outcomes
from bridge.ledger import Entry, Ledger
from bridge.live_digest import LiveDigest
from bridge.observe.logs import logger
from bridge.observe.metrics import DeriveCost, Metrics
from bridge.observe.status import SourceStatus, Status
from bridge.operations import Rejection
from bridge.pipeline import Pipeline
from bridge.sink import Generation, Sink
from bridge.source.postgres import MESSAGE_PREFIX, PostgresSource, ServerIdentity
from bridge.standing import Standing
from bridge.store import Store
from bridge.streams import Streams
from bridge.surroundings import Capture, Hooks, PipelineLimits
from bridge.watch import Watch

_log = logger("bridge.daemon")
_STUMBLES_MAX = 2
_STUMBLES_S = 600.0
_LAST_COUNT_S = 1.0


class _Ended(Exception):
    """Ends the task group in order."""


class Stumbled(NamedTuple):
    """A plan that could not be gone on with, and why; another plan may."""

    fingerprint: str
    problem: ViewHalt
    times: int
    """How often in a row: the first times everything is planned again and tried."""
    at_s: float
    """By `time.monotonic`, the last time."""

    @property
    def for_good(self) -> bool:
        """Whether it is tried no more, for as long as it is the same plan."""
        return self.times > _STUMBLES_MAX


class Lifetime:
    """Made for one configuration; `run` it once."""

    def __init__(
        self,
        config: Config,
        sinks: Mapping[str, Sink],
        known: SourceStatus,
        metrics: Metrics,
        *,
        once: bool,
        leased: Callable[[], bool],
        stumbled: Mapping[str, Stumbled] = MappingProxyType({}),
    ) -> None:
        """`leased` tells whether this is the one daemon that may write; `stumbled` are
        plans, by name, that could not be gone on with of late."""
        self.again = asyncio.Event()
        """Set when another life is to begin, with the same configuration."""
        self.configured = asyncio.Event()
        """Set when the log has come to where an edit of the file was noted."""
        self._stumbled = stumbled
        self._leased = leased
        self.exit = Exit.DONE
        self.status: Status | None = None
        self._config = config
        self._sinks = sinks
        self._known = known
        self._metrics = metrics
        self._once = once
        self._assembly: Assembly | None = None
        self._life: Life | None = None
        self._operator: Operator | None = None
        self._watch: Watch | None = None
        self._schema: SchemaWatch | None = None
        self._standing: Standing
        self._streams: Streams

    async def run(self) -> None:
        """Serve until drained or cancelled. Refusal, Halt or Transient end it."""
        config = self._config
        async with AsyncExitStack() as stack:
            looked, applied = await self._arrange()
            store = await stack.enter_async_context(await Store.open(config.source.dsn))
            await store.take_over(
                host=socket.gethostname(),
                pid=os.getpid(),
                version=version("pgbridge"),
                http=str(config.daemon.http or ""),
                state="starting",
            )
            source = PostgresSource(
                config.source.dsn,
                config.source.search_path,
                ServerIdentity(looked.system_identifier, looked.timeline),
                readers=config.limits.derive_connections + 1,
                scanners=config.limits.chunks_concurrent + 3,
            )
            stack.push_async_callback(source.close)
            try:
                await self._serve(looked, applied, store, source)
            finally:
                self.status = None

    async def drain(self) -> None:
        """Take nothing more, and wait for what was taken, for a while."""
        if self._assembly is None:
            return
        pipeline = self._assembly.pipeline
        pipeline.stop_taking()
        if self._life is not None:
            await self._life.backfills.stop()
        with suppress(TimeoutError, Transient):
            async with asyncio.timeout(self._config.limits.drain_timeout_s):
                await pipeline.drain()
                if self._life is not None:
                    async with asyncio.timeout(_LAST_COUNT_S):
                        await self._life.count(list(self._life.states))

    async def _arrange(self) -> tuple[Survey, Applied]:
        """Look, and carry out what is to be done before anything streams."""
        rebuild = self._config.daemon.on_slot_loss is OnSlotLoss.REBUILD
        permission = Permission(rebuild_lost=rebuild, partial=True)
        async with survey(self._config, sinks=self._sinks, partial=True) as looked:
            stumbled = {
                name: known.problem
                for name, known in self._stumbled.items()
                if known.for_good and known.fingerprint == _fingerprint(looked, name)
            }
            lacking = {**looked.lacking, **stumbled}
            former = looked.former.without(stumbled)
            applied = await apply(
                replace(looked, lacking=lacking), permission, _log.info
            )
        halted = {**looked.planned.refused, **applied.left_out}
        for view, error in halted.items():
            _log.error("view halted", view=view, reason=error.message, hint=error.hint)
        return replace(looked, former=former.altered(applied.altered)), applied

    async def _serve(
        self, looked: Survey, applied: Applied, store: Store, source: PostgresSource
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                assembly = self._assemble(looked, applied, store, source, group)
                await self._start(assembly, looked)
                group.create_task(self._ends(assembly))
        except* _Ended:
            pass

    # long: every part of a life is made here, once, and handed to the next
    def _assemble(
        self,
        looked: Survey,
        applied: Applied,
        store: Store,
        source: PostgresSource,
        group: asyncio.TaskGroup,
    ) -> Assembly:
        config, limits = self._config, self._config.limits
        epoch = applied.source.epoch
        gate = Gate(applied.source.barrier or 0, self._metrics.gate_wait_seconds.set)
        ledger = Ledger(gate.invisible_from)
        self._standing = standing = Standing(store, self._sinks, epoch, ledger)
        self._streams = Streams(config, applied.source, store, standing, self._leased)
        plans = {
            name: plan
            for name, plan in looked.planned.plans.items()
            if name not in applied.left_out
        }
        plans |= looked.former.plans
        types = {**looked.former.types, **looked.planned.catalog.types}
        digest = LiveDigest(plans.values(), digest_types(types), epoch, looked.lsn)
        lanes: dict[str, Lane] = {}
        pipeline = Pipeline(
            epoch=epoch,
            source=source,
            connect=partial(self._connect, digest),
            lanes=lanes,
            plans=plans,
            ledger=ledger,
            gate=gate,
            hooks=self._hooks(standing),
            limits=PipelineLimits(
                progress_s=limits.progress_interval_s,
                derive=DeriveLimits(limits.derive_keys_max, limits.fan_out_keys_max),
            ),
        )
        letters = Letters(
            store,
            pipeline.fan_out,
            count_max=config.daemon.dead_letters_max,
            too_many=self._too_many_letters,
        )
        for name, sink in self._sinks.items():
            lanes[name] = self._lane(name, sink, ledger, letters)
        self._assembly = Assembly(
            config=config,
            owner=looked.owner,
            epoch=epoch,
            store=store,
            sinks=self._sinks,
            lanes=lanes,
            plans=plans,
            pipeline=pipeline,
            letters=letters,
            pace=Pace(
                lag_s=self._stream_lag_s,
                lag_s_max=limits.backfill_lag_s_max,
                rate=config.daemon.backfill_rate,
            ),
            metrics=self._metrics,
            group=group,
            targets={
                (target.sink, target.name): sink_target(target, plans[target.view])
                if target.view in plans
                else unplanned(target)
                for target in config.targets()
            },
            former=looked.former,
            halted={
                (target.sink, target.name): why
                for target in config.targets()
                if (why := _cannot_be_kept(target.view, looked, applied))
            },
        )
        return self._assembly

    def _lane(self, name: str, sink: Sink, ledger: Ledger, letters: Letters) -> Lane:
        limits = self._config.limits
        return Lane(
            name,
            sink,
            ledger,
            limits=LaneLimits(
                bytes_max=limits.lane_bytes_max,
                retry_first_s=limits.retry_delay_first_s,
                retry_max_s=limits.retry_delay_max_s,
            ),
            dice=random.Random(),  # noqa: S311 - jitter, not secrets
            letters=partial(self._of_write, letters),
            kept=self._kept,
            retried=self._metrics.retries.labels(name).inc,
            leased=self._leased,
        )

    async def _of_write(self, letters: Letters, outcomes: Outcomes) -> None:
        # A letter is the last to know of a key that is written beside the stream.
        await patiently(partial(self._standing.answered_by, [outcomes.generation]))
        await letters.of_write(outcomes)

    async def _start(self, assembly: Assembly, looked: Survey) -> None:
        self._life = life = Life(assembly)
        self._watch = Watch(assembly, life, self._known)
        self._operator = Operator(assembly, life, configure=self.configured.set)
        crashed = await self._streams.look_back(assembly.pipeline)
        rows = await self._watch.start(crashed=crashed)
        await patiently(partial(self._standing.start, rows))
        self._schema = schema = SchemaWatch(
            assembly, looked, sweep=self._watch.sweep, again=self._begin_again
        )
        await schema.start()
        await life.start()
        since = await patiently(assembly.store.positions.since)
        self.status = Status(assembly, life, self._known, since)
        for lane in assembly.lanes.values():
            assembly.spawn(lane.run(), f"lane {lane.name}")
        assembly.spawn(assembly.pipeline.run(), "pipeline")
        assembly.spawn(self._operator.run(), "operator")
        assembly.spawn(self._watch.run(), "watch")
        assembly.spawn(schema.run(), "schema")

    def _begin_again(self, reason: str) -> None:
        _log.info("everything is planned again", reason=reason)
        self.again.set()

    def stumbled(self, problem: ViewHalt) -> Stumbled:
        """What is to be remembered of a view that this life cannot go on with."""
        found = self._assembly.plans.get(problem.view) if self._assembly else None
        fingerprint, now_s = found.fingerprint if found else "", time.monotonic()
        before = self._stumbled.get(problem.view)
        in_a_row = (
            before is not None
            and before.fingerprint == fingerprint
            and now_s - before.at_s < _STUMBLES_S
        )
        times = before.times + 1 if before is not None and in_a_row else 1
        return Stumbled(fingerprint, problem, times, now_s)

    async def _ends(self, assembly: Assembly) -> None:
        """With `--once`: end when all that was committed before is everywhere."""
        if not self._once:
            return
        await assembly.pipeline.ready()
        lsn = await patiently(assembly.pipeline.markers.next)
        assert self._life is not None
        while not (self._life.complete or self._halts(assembly)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # many things move it
        if self._halts(assembly):
            self.exit = Exit.HALTED
        else:
            for outlet in list(assembly.pipeline.fan_out.outlets()):
                await assembly.pipeline.level(outlet.generation, lsn)
        await self.drain()
        raise _Ended

    def _halts(self, assembly: Assembly) -> bool:
        return bool(assembly.halted) or any(
            lane.state is LaneState.HALTED for lane in assembly.lanes.values()
        )

    async def _connect(self, digest: LiveDigest) -> tuple[Capture, int]:
        assert self._assembly is not None
        opened = await self._streams.open(digest, self._assembly.pipeline)
        self._known.capture = opened[0]
        return opened

    def _hooks(self, standing: Standing) -> Hooks:
        async def passes(lsn: int) -> None:
            assert self._assembly is not None
            # What a sink with debts has kept meanwhile, no position of it tells.
            await standing.answered()
            await self._assembly.store.save_passed(lsn)

        async def record(generation: Generation, lsn: int) -> None:
            assert self._life is not None
            sink = generation.target.sink
            if not self._life.claimed[sink].is_set():
                raise Transient(f"sink {sink} is not reached yet")
            await standing.record(generation, lsn)

        async def reject(
            view: str, refused: Sequence[tuple[Parts, Rejection]], at: int
        ) -> None:
            assert self._assembly is not None
            await self._assembly.letters.of_view(view, refused, at)

        async def rederive(view: str, keys: list[Parts]) -> None:
            assert self._watch is not None
            await self._watch.rederive(view, keys)

        return Hooks(
            reject=reject,
            rederive=rederive,
            truncated=self._truncated,
            message=self._message,
            progress=standing.save,
            passes=passes,
            record=record,
            answered=standing.answered_by,
            altered=self._altered,
            settled=self._streams.settled,
            batch=self._batch,
            state=self._state,
            cost=DeriveCost(self._metrics),
        )

    def _truncated(self, view: str, lsn: int, entry: Entry) -> None:
        assert self._watch is not None
        self._watch.truncated(view, lsn, entry)

    def _message(self, content: str, lsn: int) -> None:
        command = command_id(MESSAGE_PREFIX, content.encode())
        if command is not None and self._operator is not None:
            self._operator.announce(command, lsn)

    async def _altered(self) -> None:
        if self._schema is not None:
            await self._schema.noticed()

    def _batch(self, batch: Batch) -> None:
        self._metrics.changes.inc(batch.changes)
        self._metrics.transactions.inc(batch.transactions)
        self._metrics.spilled_transactions.inc(batch.spilled)

    def _state(self, state: str, reason: str) -> None:
        if state == "streaming" or reason:
            log = _log.info if state == "streaming" else _log.warning
            log(state, reason=reason)
        self._known.state, self._known.reason = state, reason

    def _kept(self, outcomes: Outcomes) -> None:
        target, report = outcomes.generation.target, outcomes.report
        labels = (target.view, target.sink, target.name)
        documents = self._metrics.documents
        for name, count in (
            ("kept", report.kept),
            ("superseded", report.superseded),
            ("foreign", len(report.foreign)),
            ("rejected", len(report.rejections)),
        ):
            if count:
                documents.labels(*labels, name).inc(count)
        now = time.time()
        histogram = self._metrics.commit_to_kept_seconds.labels(*labels)
        for committed_s in {claim.commit_time_s for claim in outcomes.claims}:
            if committed_s:
                histogram.observe(max(0.0, now - committed_s))

    def _stream_lag_s(self) -> float:
        if self.status is None or self._assembly is None:
            return 0.0
        fed = self._assembly.pipeline.fan_out.current()
        late_s = (self.status.lag_s(o.generation, sweeps=False) for o in fed)
        return max(late_s, default=0.0)

    def _too_many_letters(self, generation: Generation, count: int) -> None:
        assert self._assembly is not None
        target = generation.target
        self._assembly.halted[target.sink, target.name] = (
            f"{count:,} dead letters; see `pgbridge dead-letters list {target.view}`"
        )


def _cannot_be_kept(view: str, looked: Survey, applied: Applied) -> str:
    """Why a view of the file cannot be kept for the moment; empty: it can."""
    error = applied.left_out.get(view) or looked.planned.refused.get(view)
    return "" if error is None else sentence(error)


def _fingerprint(looked: Survey, name: str) -> str:
    plans = {**looked.former.plans, **looked.planned.plans}
    return plans[name].fingerprint if name in plans else ""
