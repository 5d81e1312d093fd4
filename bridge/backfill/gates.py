"""What must be true of a generation before readers see it.

It is level with the stream; it has as many documents as the source, less the dead
letters; and documents of it, taken by chance, are what the source says. That its
shards are active and all of it is visible, its sink sees to.

The one thing to know: the stream goes on meanwhile, so that counts may differ by as
many documents as were written while they were taken, and by no more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from bridge.assembly import Assembly
from bridge.deliver import Lane
from bridge.derive.view import ViewPlan
from bridge.errors import Halt, Transient
from bridge.keys import key_text
from bridge.sink import Generation
from bridge.source import QueryFailed
from bridge.verify.compare import Comparer, keeps_documents

_LOOK_S = 0.01
_SAMPLE_DOCUMENTS = 200
_COUNTS = 3
"""How often they are counted: a sink may count what was written a moment later."""


class NotAsTheSource(Halt):
    """What was built is not what the source says."""


async def caught_up(
    assembly: Assembly, generation: Generation, fed: Callable[[Generation], bool]
) -> None:
    """Wait until all that is committed by now is visible, and in the generation.

    Transient when it is `fed` no more, or the source cannot be reached.
    """
    pipeline = assembly.pipeline
    while True:
        marker = await pipeline.markers.next()
        era = pipeline.ledger.era
        while pipeline.progress.reached(generation) < marker:
            if not fed(generation):
                raise Transient(f"{generation} is fed no more")
            if era != pipeline.ledger.era:
                break
            pipeline.progress.ask()
            await asyncio.sleep(_LOOK_S)
        else:
            return


async def ready_to_be_seen(assembly: Assembly, generation: Generation) -> None:
    """Whether count and sample say that the generation is what the source is.

    NotAsTheSource when they do not; Transient when source or sink are away.
    """
    target = generation.target
    if not keeps_documents(assembly.config, target.sink, target.options):
        return
    if (plan := assembly.plan(generation)) is None:
        raise Halt(f"{generation} is fed no more")
    gate = _Gate(assembly, generation, plan)
    # At once: the source counts while the sink is asked for its documents.
    both = await asyncio.gather(gate.counts(), gate.sample(), return_exceptions=True)
    for found in both:
        if found is not None:
            raise found


class _Gate:
    def __init__(
        self, assembly: Assembly, generation: Generation, plan: ViewPlan
    ) -> None:
        self._assembly = assembly
        self._generation = generation
        self._plan = plan
        self._sink = assembly.sinks[generation.target.sink]
        self._lane: Lane = assembly.lanes[generation.target.sink]
        self._caught_up = partial(caught_up, assembly, generation, self._fed)

    def _fed(self, generation: Generation) -> bool:
        if generation not in self._lane.feeds:
            raise Halt(f"{generation} is fed no more")
        return True

    def _dead(self) -> dict[str, int]:
        feed = self._lane.feeds.get(self._generation)
        return feed.dead if feed is not None else {}

    async def counts(self) -> None:
        """As many documents as the source has."""
        pipeline = self._assembly.pipeline
        for _ in range(_COUNTS):
            with pipeline.fan_out.watch(self._plan.name) as changed:
                await self._caught_up()
                try:
                    async with pipeline.source.read(scanning=True) as reader:
                        there = await reader.count(self._plan)
                except QueryFailed:
                    return  # some row fails before it has a key: only the sample tells
                await self._caught_up()
                held = await self._sink.count(self._generation)
                least = there - len(self._dead()) - len(changed)
                if least <= held <= there + len(changed) or changed.everything:
                    return
        raise NotAsTheSource(
            f"{self._generation} holds {held:,} documents and the source has {there:,}",
            hint=self._way_out(),
        )

    async def sample(self) -> None:
        """Documents taken by chance are the source's."""
        comparer = Comparer(
            self._assembly.pipeline.source,
            self._sink,
            self._generation,
            self._plan,
            lambda _lsn: self._caught_up(),
        )
        dice = random.Random()  # noqa: S311 - a sample, not a secret
        found = await comparer.sample(_SAMPLE_DOCUMENTS, dice)
        dead = self._dead()
        wrong = [parts for parts in found.wrong if key_text(parts) not in dead]
        if wrong:
            raise NotAsTheSource(
                f"of {found.checked:,} documents of {self._generation} that were"
                f" compared with the source, {len(wrong):,} differ",
                hint=self._way_out(),
            )

    def _way_out(self) -> str:
        view = self._generation.target.view
        return (
            f"`pgbridge backfill {view} --rebuild` builds it once more; "
            f"`pgbridge promote {view} --force` shows this one as it is"
        )
