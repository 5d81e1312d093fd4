"""The backfills of one generation: a build, a sweep, given keys, a condition.

The one thing to know: each is recorded in the store before it begins and survives the
daemon; what was not known to be kept is simply derived again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import assert_never

from bridge.assembly import Assembly
from bridge.backfill.listing import listed
from bridge.backfill.patience import patiently
from bridge.backfill.ranges import Range, RangeBackfill, RangeLimits, RangeLog
from bridge.backfill.rederive import ghosts, rederive
from bridge.control.letters import generation_key
from bridge.derive.parse import check_condition
from bridge.derive.view import ViewPlan
from bridge.errors import Halt, QueryRefusal, Refusal, Transient
from bridge.keys import Parts, key_text
from bridge.operations import key_of
from bridge.position import Position, is_issued
from bridge.sink import Generation, Sink
from bridge.source import QueryFailed
from bridge.source.given import given_keys
from bridge.store import Store
from bridge.store.rows import BackfillKind, BackfillRow, Bounds

_KEYS_COUNTED = 5000
"""Derived between two notes of how far it is."""


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

        Everything is kept when it returns. Halt when it cannot be done, Refusal when
        keys or condition are not of the view.
        """
        generation = self._assembly.generation(row.key)
        if generation is None:
            raise Halt(f"{row.key} is of a target that is no longer in the file")
        plan = self._assembly.plan(generation)
        if plan is None:
            raise Halt(
                f"{row.key} is not kept up to date any more",
                hint="`pgbridge status` shows why, and what comes in its stead",
            )
        match row.kind:
            case BackfillKind.BUILD:
                log = StoredLog(self._assembly.store, row.id)
                await self._expect(row, await self._estimate(plan))
                ending = partial(self._refresh, generation)
                return await self.ranges(
                    generation, plan, log, row.documents, ending=ending
                )
            case BackfillKind.SWEEP:
                return await self.resweep(row, generation, plan)
            case BackfillKind.KEYS:
                keys = await self._keys(row.keys or (), generation, plan)
                await self._must_be_keys(keys, generation, plan)
                return await self._given(row, generation, plan, keys)
            case BackfillKind.WHERE:
                keys = await self._matching(plan, row.condition or "true")
                return await self._given(row, generation, plan, keys)
            case _:
                assert_never(row.kind)

    async def sweep(self, generation: Generation, plan: ViewPlan) -> int:
        """Derive every key of the source, then those that only the sink has."""
        pipeline = self._assembly.pipeline
        before = Position(pipeline.epoch, await patiently(pipeline.markers.next))
        count = await self.ranges(generation, plan, ForgetfulLog())
        return count + await self._ghosts(generation, plan, before)

    async def resweep(
        self, row: BackfillRow, generation: Generation, plan: ViewPlan
    ) -> int:
        """The same, going on where an earlier life of the daemon has left it."""
        pipeline, store = self._assembly.pipeline, self._assembly.store.backfills
        before = row.marker
        if before is None or before.epoch != pipeline.epoch:
            # What was derived in another history counts for nothing in this one.
            await patiently(partial(store.restart, row.id))
            row = replace(row, documents=0)
            before = Position(pipeline.epoch, await patiently(pipeline.markers.next))
            await patiently(partial(store.start, row.id, marker=before))
        held = await patiently(partial(self._sink(generation).count, generation))
        await self._expect(row, held or await self._estimate(plan))
        log = StoredLog(self._assembly.store, row.id)
        count = await self.ranges(generation, plan, log, row.documents)
        return count + await self._ghosts(generation, plan, before)

    async def _ghosts(
        self, generation: Generation, plan: ViewPlan, before: Position
    ) -> int:
        """Derive what nobody has written since `before`: what the sink has, and what
        has a letter, since there may never have been a document of that."""
        sink, count = self._sink(generation), 0
        pipeline = self._assembly.pipeline
        async for keys in ghosts(pipeline, plan, sink, generation, before.version):
            count += await self.keys(generation, plan, keys)
        view, key = generation.target.view, generation_key(generation)
        async for letters in self._assembly.letters.pages(view):
            refused = [
                letter.parts
                for letter in letters
                if letter.generation == key and letter.version < before.version
            ]
            count += await self.keys(generation, plan, refused)
        return count

    async def keys(
        self, generation: Generation, plan: ViewPlan, keys: Iterable[Parts]
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
        self,
        generation: Generation,
        plan: ViewPlan,
        log: RangeLog,
        done: int = 0,
        *,
        ending: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Derive every key that the source has; `ending` as in `RangeBackfill`."""
        limits = self._assembly.config.limits
        # Beside those that are read, the sink has some in its hands.
        concurrent = limits.chunks_concurrent + self._sink(generation).concurrency
        rows = self._assembly.pace.chunk(limits.chunk_rows)
        if rows < limits.chunk_rows:
            concurrent = 1  # several would wait for the rate, each with a snapshot
        backfill = RangeBackfill(
            self._assembly.pipeline,
            plan,
            [generation],
            log,
            pace=self._assembly.pace,
            limits=RangeLimits(rows, concurrent),
            reject=self._assembly.letters.of_generations,
            done=done,
            ending=ending,
        )
        self.running[generation] = backfill
        try:
            await backfill.run()
        finally:
            self.running.pop(generation, None)  # two may be under way
            of = generation.target
            counter = self._assembly.metrics.backfill_documents
            counter.labels(of.view, of.sink, of.name).inc(backfill.documents - done)
        return backfill.documents

    async def _refresh(self, generation: Generation) -> None:
        """Make most of a build searchable while the rest of it is written: what is
        left of that at its end is waited for, and keeps one core busy."""
        with suppress(Transient, Halt):
            await self._sink(generation).refresh(generation)

    async def _estimate(self, plan: ViewPlan) -> int:
        async def look() -> int:
            async with self._assembly.pipeline.source.read(scanning=True) as reader:
                return await reader.estimate(plan)

        return await patiently(look)

    async def _expect(self, row: BackfillRow, documents: int) -> None:
        """Note about how many documents it will be, for those who follow it."""
        store = self._assembly.store.backfills
        await patiently(partial(store.start, row.id, estimate=documents))

    async def _given(
        self,
        row: BackfillRow,
        generation: Generation,
        plan: ViewPlan,
        keys: Sequence[Parts],
    ) -> int:
        """Derive keys that are known, counting them as they are kept."""
        await self._expect(row, len(keys))
        store, count = self._assembly.store.backfills, 0
        step = self._assembly.pace.chunk(_KEYS_COUNTED)
        for at in range(0, len(keys), step):
            part = keys[at : at + step]
            count += await self.keys(generation, plan, part)
            await patiently(partial(store.set_documents, row.id, count))
        return count

    async def _matching(self, plan: ViewPlan, condition: str) -> list[Parts]:
        async def look() -> list[Parts]:
            async with self._assembly.pipeline.source.read(scanning=True) as reader:
                return await reader.matching(plan, condition)

        try:
            check_condition(condition)
            return await patiently(look)
        except (QueryFailed, QueryRefusal, Halt) as error:
            # Its text is the operator's own: no row of the source is in it.
            reason = str(error) if isinstance(error, QueryFailed) else error.message
            raise Refusal(
                f"the condition cannot be used: {reason}",
                hint=f"it is SQL on the columns of view {plan.name}: "
                + ", ".join(column.name for column in plan.shape.columns),
            ) from None

    async def _must_be_keys(
        self, keys: Sequence[Parts], generation: Generation, plan: ViewPlan
    ) -> None:
        """Refusal for a text that no key of the view can have, unless it was one: then
        there is a document of it that the bridge has written."""
        source, sink = self._assembly.pipeline.source, self._sink(generation)

        async def bad() -> Parts | None:
            async with source.read(scanning=True) as reader:
                unfit = list(await reader.unfit(plan.cast_sql, keys))
            held = await sink.read(generation, unfit) if unfit else {}
            was = {text for text, stored in held.items() if is_issued(stored.version)}
            return next((p for p in unfit if key_text(p) not in was), None)

        parts = await patiently(bad)
        if parts is not None:
            raise Refusal(
                f"{key_text(parts)!r} cannot be a key of view {plan.name}",
                hint=f"its key is {', '.join(plan.shape.key)}; write keys as in "
                "Elasticsearch's _id",
            )

    async def _keys(
        self, texts: Sequence[str], generation: Generation, plan: ViewPlan
    ) -> list[Parts]:
        """The keys of these texts; a digest that is nowhere is none."""

        async def look() -> dict[str, Parts | None]:
            async with self._assembly.pipeline.source.read(scanning=True) as reader:
                return await given_keys(reader, plan, texts)

        try:
            found = await patiently(look)
        except ValueError as error:
            raise Refusal(
                str(error), hint="write keys as in Elasticsearch's _id"
            ) from None
        if None in found.values():
            # Its row may be gone, and its document not: that has the columns.
            pipeline, sink = self._assembly.pipeline, self._sink(generation)
            async for page in listed(pipeline, sink, generation, documents=True):
                for stored in page:
                    if stored.key in found and stored.document is not None:
                        found[stored.key] = key_of(stored.document, plan.shape.key)
        return [parts for parts in found.values() if parts is not None]

    def _sink(self, generation: Generation) -> Sink:
        return self._assembly.sinks[generation.target.sink]
