"""The backfills of one generation: a build, a sweep, given keys, a condition.

The one thing to know: each is recorded in the store before it begins and survives the
daemon; what was not known to be kept is simply derived again.
"""

from __future__ import annotations

from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.patience import patiently
from bridge.backfill.ranges import Range, RangeBackfill, RangeLimits, RangeLog
from bridge.backfill.rederive import ghosts, rederive
from bridge.derive.view import ViewPlan
from bridge.errors import Halt
from bridge.keys import Parts, parse_key
from bridge.position import Position
from bridge.sink import Generation, Sink
from bridge.store import Store
from bridge.store.rows import BackfillKind, BackfillRow, Bounds


class StoredLog:
    """`RangeLog` in the bridge's tables."""

    def __init__(self, store: Store, backfill: int) -> None:
        self._store = store.backfills
        self._id = backfill

    async def ranges(self) -> tuple[list[Range], Range | None]:
        """Ranges begun and not done, and the one with the highest number."""
        rows = await patiently(partial(self._store.ranges, self._id))
        ranges = [Range(row.seq, *row.bounds) for row in rows]
        left = [span for span, row in zip(ranges, rows, strict=True) if not row.done]
        return left, ranges[-1] if ranges else None

    async def begun(self, span: Range) -> None:
        """A range is about to be derived."""
        bounds = Bounds(span.lower, span.upper)
        await patiently(
            lambda: self._store.add_ranges(self._id, [(span.number, bounds)])
        )

    async def done(self, span: Range, documents: int) -> None:
        """A range was kept everywhere."""
        await patiently(
            lambda: self._store.finish_ranges(
                self._id, [span.number], documents=documents
            )
        )


class ForgetfulLog:
    """`RangeLog` of work that begins again when the daemon does."""

    async def ranges(self) -> tuple[list[Range], Range | None]:
        """Nothing was begun."""
        return [], None

    async def begun(self, span: Range) -> None:
        """Not noted."""

    async def done(self, span: Range, documents: int) -> None:
        """Not noted."""


class Jobs:
    """Carries backfills out."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.running: dict[Generation, RangeBackfill] = {}
        """For `status`: what is being read now."""

    async def run(self, row: BackfillRow) -> int:
        """Carry out one backfill; how many documents were derived.

        Everything is kept when it returns. Halt when it cannot be done.
        """
        generation = self._assembly.generation(row.key)
        plan = None if generation is None else self._assembly.plan(generation)
        if generation is None or plan is None:
            raise Halt(f"target {row.key} is no longer in the file")
        log = StoredLog(self._assembly.store, row.id)
        match row.kind:
            case BackfillKind.BUILD:
                return await self.ranges(generation, plan, log)
            case BackfillKind.SWEEP:
                return await self.sweep(generation, plan, log)
            case BackfillKind.KEYS:
                keys = [self._key(text, plan) for text in row.keys or ()]
                return await self.keys(generation, plan, keys)
            case BackfillKind.WHERE:
                return await self._where(generation, plan, row.condition or "true")

    async def sweep(
        self, generation: Generation, plan: ViewPlan, log: RangeLog | None = None
    ) -> int:
        """Derive every key of the source, then those that only the sink has."""
        pipeline, sink = self._assembly.pipeline, self._sink(generation)
        lsn = await patiently(pipeline.markers.next)
        before = Position(pipeline.epoch, lsn).version
        count = await self.ranges(generation, plan, log or ForgetfulLog())
        async for keys in ghosts(pipeline, sink, generation, before):
            count += await self.keys(generation, plan, keys)
        return count

    async def keys(
        self, generation: Generation, plan: ViewPlan, keys: list[Parts]
    ) -> int:
        """Derive these keys again; those without a row are removed."""
        return await rederive(
            self._assembly.pipeline,
            plan,
            [generation],
            keys,
            reject=self._assembly.letters.of_generations,
            pace=self._assembly.pace,
        )

    async def ranges(
        self, generation: Generation, plan: ViewPlan, log: RangeLog
    ) -> int:
        """Derive every key that the source has."""
        limits = self._assembly.config.limits
        backfill = RangeBackfill(
            self._assembly.pipeline,
            plan,
            [generation],
            log,
            pace=self._assembly.pace,
            limits=RangeLimits(limits.chunk_rows, limits.chunks_concurrent + 1),
            reject=self._assembly.letters.of_generations,
        )
        self.running[generation] = backfill
        try:
            await backfill.run()
        finally:
            self.running.pop(generation, None)  # two may be under way
        return backfill.documents

    async def _where(
        self, generation: Generation, plan: ViewPlan, condition: str
    ) -> int:
        async with self._assembly.pipeline.source.read(scanning=True) as reader:
            keys = await reader.matching(plan, condition)
        return await self.keys(generation, plan, keys)

    def _key(self, text: str, plan: ViewPlan) -> Parts:
        try:
            return parse_key(text, len(plan.shape.key))
        except ValueError as error:
            raise Halt(
                str(error), hint="write keys as in Elasticsearch's _id"
            ) from None

    def _sink(self, generation: Generation) -> Sink:
        return self._assembly.sinks[generation.target.sink]
