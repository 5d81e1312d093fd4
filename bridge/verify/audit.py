"""Comparing all the time, a little at once: `[daemon] audit = "1% per hour"`.

Of each live generation the documents are compared in the order of the source's keys,
as many as the rate gives, and beside it part after part of what the sink has, so that
what the source does not have any more is found too. Both go round without end.

The one thing to know: it mends nothing and stops nothing. What is wrong is counted,
logged without its key, and stands in `bridge.difference` until it is found right.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.gates import caught_up
from bridge.backfill.life import Life
from bridge.config import AuditRate
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient
from bridge.keys import Parts, key_text
from bridge.lanes import LaneState
from bridge.observe.logs import logger
from bridge.sink import Generation, Part
from bridge.source import StatementRefused
from bridge.store.differences import WrongDocument
from bridge.verify.compare import Comparer, Comparison, keeps_documents

_log = logger("bridge.verify")
_KEYS_AT_ONCE = 1000
_TICKS = 20
"""Of one round, or more of a long one."""
_TICK_MAX_S = 60.0
_PART_S = 30.0
_PARTS_MAX = 100


@dataclass(slots=True)
class _Walk:
    """How far the comparison of one generation is."""

    generation: Generation
    comparer: Comparer
    part: int
    """Of what the sink has, the next to be looked at."""
    at: Parts | None = None
    """The source's documents are compared above this key."""
    due: float = 0.0
    """Documents that the rate gives and that were not compared yet."""
    part_due: float = 1.0
    """The same of parts: one is looked at in the beginning."""


class Audit:
    """The continuous comparison of one life of the daemon."""

    def __init__(
        self, assembly: Assembly, life: Life, rate: AuditRate, dice: random.Random
    ) -> None:
        """`dice` choose where it begins, since nothing tells where it was."""
        self._assembly = assembly
        self._life = life
        self._dice = dice
        self._round_s = rate.period_s / rate.fraction
        self._tick_s = min(self._round_s / _TICKS, _TICK_MAX_S)
        self._parts = int(max(1, min(self._round_s / _PART_S, _PARTS_MAX)))

    async def run(self) -> None:
        """Compare until cancelled."""
        async with asyncio.TaskGroup() as group:
            config = self._assembly.config
            for target in config.targets():
                if keeps_documents(config, target.sink, target.options):
                    group.create_task(self._target(target.sink, target.name))

    async def _target(self, sink: str, name: str) -> None:
        walk: _Walk | None = None
        halted = ""
        await self._life.claimed[sink].wait()
        await self._assembly.pipeline.ready()
        while True:
            await asyncio.sleep(self._tick_s)
            live = self._life.live(sink, name)
            lane = self._assembly.lanes[sink]
            if live is None or lane.in_debt or lane.state is not LaneState.OK:
                continue
            if walk is None or walk.generation != live:
                walk = self._begin(live)
            if walk is None:
                continue
            try:
                await lane.unless_parked(self._step(walk))
            except Transient:
                continue
            except (Halt, StatementRefused) as error:
                if error.message != halted:
                    _log.warning("not compared", target=str(live), why=error.message)
                halted = error.message

    def _begin(self, generation: Generation) -> _Walk | None:
        assembly = self._assembly
        plan = assembly.plan(generation)
        target = generation.target
        kept = keeps_documents(assembly.config, target.sink, target.options)
        if plan is None or not kept:
            return None
        comparer = Comparer(
            assembly.pipeline.source,
            assembly.sinks[generation.target.sink],
            generation,
            plan,
            partial(self._applied, generation),
        )
        return _Walk(generation, comparer, self._dice.randrange(self._parts))

    async def _applied(self, generation: Generation, _lsn: int) -> None:
        states = self._life.states
        await caught_up(self._assembly, generation, lambda one: one in states)

    async def _step(self, walk: _Walk) -> None:
        """What the time since the last step allows."""
        documents = max(1, self._life.documents.get(walk.generation, 0))
        share = self._tick_s / self._round_s
        walk.due = min(walk.due + share * documents, documents)
        walk.part_due = min(walk.part_due + share * self._parts, self._parts)
        await self._look_again(walk)
        while walk.part_due >= 1:
            walk.part_due -= 1
            await self._stored(walk)
        while walk.due >= 1:
            count = min(int(walk.due), _KEYS_AT_ONCE)
            await self._assembly.pace.wait()
            found, walk.at = await walk.comparer.span(walk.at, count)
            walk.due -= count
            await self._tell(walk.generation, found)

    async def _stored(self, walk: _Walk) -> None:
        """Compare the documents of one part of what the sink has. Transient: it is the
        next once more, since the sink cannot go on with what it has lost."""
        part = Part(walk.part, self._parts)
        walk.part = (walk.part + 1) % self._parts
        keys: list[Parts] = []
        try:
            async with aclosing(walk.comparer.stored(part)) as pages:
                async for keys in _in_pieces(pages):
                    await self._assembly.pace.wait()
                    await self._tell(walk.generation, await walk.comparer.keys(keys))
        except Transient:
            walk.part = part.number
            raise
        if walk.at is None and keys:  # somewhere, by chance
            chosen = await walk.comparer.possible([self._dice.choice(keys)])
            walk.at = next(iter(chosen), None)

    async def _look_again(self, walk: _Walk) -> None:
        """Take back what is right by now."""
        store, key = self._assembly.store.differences, generation_key(walk.generation)
        known = await store.of(key)
        if known:
            found = await walk.comparer.keys(known.values())
            wrong = {key_text(parts) for parts in [*found.wrong, *found.unsettled]}
            await store.clear(key, [text for text in known if text not in wrong])
            known = await store.of(key)
        self._life.differing[walk.generation] = len(known)

    async def _tell(self, generation: Generation, found: Comparison) -> None:
        target, metrics = generation.target, self._assembly.metrics
        labels = (target.view, target.sink, target.name)
        metrics.verified_documents.labels(*labels).inc(found.checked)
        if not found.wrong:
            return
        counts = {
            "missing": len(found.missing),
            "different": len(found.different),
            "extra": len(found.extra),
        }
        for kind, count in counts.items():
            metrics.verify_differences.labels(*labels, kind).inc(count)
        await self._assembly.store.differences.save(
            generation_key(generation), _wrong(found)
        )
        self._life.differing[generation] = len(
            await self._assembly.store.differences.of(generation_key(generation))
        )
        _log.warning(
            "documents differ from the source",
            target=str(target),
            generation=generation.number,
            hint=f"`pgbridge verify {target.view} --repair` writes them again",
            **counts,
        )


def _wrong(found: Comparison) -> list[WrongDocument]:
    return [
        *(WrongDocument(key_text(p), p, "missing") for p in found.missing),
        *(
            WrongDocument(one.key, parts, "different", one.fields)
            for parts, one in found.different.items()
        ),
        *(WrongDocument(key_text(p), p, "extra") for p in found.extra),
    ]


async def _in_pieces(
    pages: AsyncIterator[list[Parts]],
) -> AsyncIterator[list[Parts]]:
    """The same in pages that are not too large."""
    async for page in pages:
        for at in range(0, len(page), _KEYS_AT_ONCE):
            yield page[at : at + _KEYS_AT_ONCE]
