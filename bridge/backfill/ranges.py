"""Deriving a whole view again, range by range, while changes stream.

    watch ─▶ marker p ─▶ gated snapshot at p ─▶ rows ─▶ minus overtaken keys ─▶ lanes

A range is watched before its position *p* is taken; keys that the stream puts into the
lanes from then on, for a later position than *p*, are left out, because what it brings
is newer. Everything else is written with version *p*, above all versions issued before.

The one thing to know: a range counts as done only when every sink has kept all of it.
A range that was not done when the daemon died is simply read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol, cast

from bridge import probes
from bridge.backfill.pace import Pace
from bridge.backfill.patience import patiently
from bridge.backfill.receipt import Receipt, durable
from bridge.backfill.rederive import RejectFor
from bridge.batch import Overtaken
from bridge.derive.documents import NOT_UNIQUE, derive
from bridge.derive.view import ViewPlan
from bridge.errors import Transient
from bridge.keys import Parts, key_text
from bridge.ledger import Ticket
from bridge.operations import Operation, Rejection
from bridge.pipeline import Pipeline
from bridge.position import Position
from bridge.sink import Generation
from bridge.source import QueryFailed, Row, SnapshotReader
from bridge.source.given import keys_of_range, range_end

_CAREFUL_KEYS = 500


class Range(NamedTuple):
    """Keys with lower < key <= upper; None is unbounded. `number` counts from 0."""

    number: int
    lower: Parts | None
    upper: Parts | None


class RangeLog(Protocol):
    """Where the progress of one backfill is written down."""

    async def ranges(self) -> tuple[list[Range], Range | None]:
        """Ranges begun and not done, and the one with the highest number."""

    async def begun(self, span: Range) -> None:
        """A range is about to be derived."""

    async def done(self, span: Range, documents: int) -> None:
        """A range was kept everywhere."""


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """How much is read at once."""

    rows: int = 5000
    concurrent: int = 4
    """Ranges that are read, or wait for the sink."""


class _Derivation(NamedTuple):
    """A range being read: in which snapshot, at which version, what overtakes it."""

    version: int
    reader: SnapshotReader
    overtaken: Overtaken
    ticket: Ticket
    durable: asyncio.Task[None]
    """Done when what the snapshot shows can no more be lost in a crash."""


class RangeBackfill:
    """One backfill of all ranges of a view into some of its generations."""

    def __init__(
        self,
        pipeline: Pipeline,
        plan: ViewPlan,
        generations: Collection[Generation],
        log: RangeLog,
        *,
        pace: Pace,
        limits: RangeLimits,
        reject: RejectFor,
        done: int = 0,
        ending: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`done` documents were kept in an earlier life. `ending` is called once the
        last range is known, while it and a few before it are still being derived."""
        self.documents = done
        """Documents kept so far."""
        self._pipeline = pipeline
        self._plan = plan
        self._generations = generations
        self._log = log
        self._pace = pace
        self._limits = limits
        self._reject = reject
        self._ending = ending

    async def run(self) -> None:
        """Derive every range that is not done. Halt when it cannot go on."""
        queue: asyncio.Queue[Range | None] = asyncio.Queue(self._limits.concurrent)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._split(queue))
            for _ in range(self._limits.concurrent):
                group.create_task(self._work(queue))

    async def _split(self, queue: asyncio.Queue[Range | None]) -> None:
        """Cut the keys into ranges. Any cut is right, so no gate is needed here."""
        left, last = await self._log.ranges()
        for span in left:
            await queue.put(span)
        while last is None or last.upper is not None:
            lower = last.upper if last else None
            cut = partial(range_end, self._pipeline.source, self._plan)
            upper = await patiently(partial(cut, lower, self._limits.rows))
            last = Range(last.number + 1 if last else 0, lower, upper)
            await self._log.begun(last)
            await queue.put(last)
        if self._ending is not None:
            await self._ending()
        for _ in range(self._limits.concurrent):
            await queue.put(None)

    async def _work(self, queue: asyncio.Queue[Range | None]) -> None:
        while (span := await queue.get()) is not None:
            documents = await self._derive(span)
            self.documents += documents
            await probes.reach("backfill.kept")
            await self._log.done(span, documents)

    async def _derive(self, span: Range) -> int:
        """One range, kept everywhere when it returns; how many documents it has."""
        try:
            return await patiently(lambda: self._read(span))
        except QueryFailed:
            return await patiently(lambda: self._divide(span))

    async def _divide(self, span: Range) -> int:
        """Some document of the range cannot be made: find which; make the others."""
        documents = 0
        async with self._derivation() as derivation:
            version, reader = derivation.version, derivation.reader
            keys = await keys_of_range(reader, self._plan, span.lower, span.upper)
            for at in range(0, len(keys), _CAREFUL_KEYS):
                part = keys[at : at + _CAREFUL_KEYS]
                derived = await derive(reader, self._plan, part, version, careful=True)
                await self._refuse(derived.rejections, derivation)
                await self._put(derived.operations, derivation)
                documents += len(derived.operations)
        return documents

    async def _read(self, span: Range) -> int:
        documents = 0
        async with self._derivation() as derivation:
            version = derivation.version
            twice: set[Parts] = set()
            async with aclosing(_scan(derivation.reader, self._plan, span)) as pages:
                async for rows in _unique(pages, twice):
                    operations = [
                        Operation(key_text(parts), parts, version, document)
                        for parts, document in rows
                    ]
                    documents += len(operations)
                    await probes.reach("backfill.chunk")
                    await self._put(operations, derivation)
            rejected = [(p, Rejection(key_text(p), NOT_UNIQUE)) for p in twice]
            await self._refuse(rejected, derivation)
        return documents

    async def _refuse(
        self, rejected: list[tuple[Parts, Rejection]], derivation: _Derivation
    ) -> None:
        """Dead letters; of what the stream has brought since there is a document."""
        version, overtaken = derivation.version, derivation.overtaken
        left = [each for each in rejected if not overtaken.has(each[1].key, version)]
        if left:
            await self._reject(self._generations, left, version)

    @asynccontextmanager
    async def _derivation(self) -> AsyncIterator[_Derivation]:
        """Watch, take a position, open a gated snapshot; at the end wait for kept."""
        await self._pace.wait()
        pipeline = self._pipeline
        for generation in self._generations:
            if (outlet := pipeline.fan_out.outlet(generation)) is not None:
                await outlet.lane.room()
        receipt = Receipt(pipeline, self._generations)
        with pipeline.fan_out.watch(self._plan.name) as overtaken:
            lsn = await pipeline.markers.next()
            version = Position(pipeline.epoch, lsn).version
            take = partial(pipeline.source.read, scanning=True)
            async with pipeline.gate.open(take, lsn) as reader:
                seen, era = reader.insert_lsn, pipeline.ledger.era
                kept = asyncio.create_task(durable(pipeline, seen, era))
                try:
                    yield _Derivation(version, reader, overtaken, receipt.ticket, kept)
                    await kept
                finally:
                    kept.cancel()
                    await asyncio.gather(kept, return_exceptions=True)
        await receipt.kept()

    async def _put(self, operations: list[Operation], derivation: _Derivation) -> None:
        step = self._pace.burst or max(len(operations), 1)
        for at in range(0, len(operations), step):
            await self._put_some(operations[at : at + step], derivation)

    async def _put_some(
        self, operations: list[Operation], derivation: _Derivation
    ) -> None:
        fan_out, overtaken = self._pipeline.fan_out, derivation.overtaken
        await self._pace.spend(len(operations))
        # What may still be lost in a crash would stay behind in the sinks: unlike a
        # change of the stream, nobody would bring the key again.
        await derivation.durable
        for generation in self._generations:
            outlet = fan_out.outlet(generation)
            # With a snapshot open, nobody waits for a sink that is parked.
            if outlet and not await outlet.lane.unless_parked(outlet.lane.room()):
                raise Transient(f"sink {outlet.lane.name} is parked")
        # No waiting from here: nothing can overtake between the test and the lane.
        if overtaken.everything:
            raise Transient("a table was emptied meanwhile: it is read again")
        left = overtaken.left(operations)
        fan_out.put_job(self._generations, left, derivation.ticket)


def _scan(
    reader: SnapshotReader, plan: ViewPlan, span: Range
) -> AsyncGenerator[list[Row], None]:
    return cast(
        AsyncGenerator[list[Row], None], reader.scan(plan, span.lower, span.upper)
    )


async def _unique(
    pages: AsyncIterator[list[Row]], twice: set[Parts]
) -> AsyncIterator[list[Row]]:
    """The rows of keys that have one alone, in the same order; the other keys go into
    `twice`. The last row of a page waits for the next, which may have one more."""
    last: list[Row] = []
    async for page in pages:
        rows = [*last, *page]
        for (before, _), (parts, _) in pairwise(rows):
            if before == parts:
                twice.add(parts)
        last = rows[-1:]
        if len(rows) > 1:
            del rows[-1]
            yield [row for row in rows if row.parts not in twice] if twice else rows
    if last and last[0].parts not in twice:
        yield last
