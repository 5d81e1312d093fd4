"""Watching the source's tables: what changes under the views, and what follows.

    look ──▶ difference ─┬─ plan ──▶ another plan? ──▶ another life begins
                         └─ derive ─▶ sweep of every generation ─▶ facts are saved

Each second; and, where event triggers could be installed, at the very place in the log
at which something was altered.

The one thing to know: what was found is written down only after everything has been
derived again for it, so that a crash on the way finds the same difference once more.
And the slot does not move beyond the last look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.patience import patiently
from bridge.batch import Outlet
from bridge.capture.slot import take_barrier
from bridge.control.check import one
from bridge.control.facts import (
    Difference,
    Facts,
    Look,
    difference,
    fresh,
    look,
    published_anew,
)
from bridge.control.letters import generation_key
from bridge.control.session import Session, session
from bridge.control.survey import Survey, survey
from bridge.derive.view import ViewPlan
from bridge.errors import Halt, Refusal, Transient
from bridge.observe.logs import logger
from bridge.store.rows import GenerationKey

_log = logger("bridge.schema")
_TRY_AGAIN_S = 5.0
_HELD_MAX_S, _FREE_SHARE = 5.0, 9.0
"""How long the stream waits for a look at most, and then not, as a multiple."""
_SEEN_S = 0.005


class Sweep(Protocol):
    """What derives every document of a generation again: `Watch.sweep`."""

    async def __call__(self, outlet: Outlet, plan: ViewPlan, /) -> None:
        """Done, or durably recorded as owed, when it returns."""


class SchemaWatch:
    """Looks every second. `again` is called when another life is to begin."""

    def __init__(
        self,
        assembly: Assembly,
        looked: Survey,
        *,
        sweep: Sweep,
        again: Callable[[str], None],
    ) -> None:
        self._assembly = assembly
        self._looked = looked
        self._interval_s = assembly.config.limits.fingerprint_interval_s
        self._sweep = sweep
        self._again = again
        self._plans = [*assembly.plans.values(), *looked.planned.plans.values()]
        self._stored: Facts = {}
        self._seen: Look
        self._suspect = True
        """It may have changed between planning and the first look."""
        self._suspected_s = 0.0
        self._missed = Difference()
        self._owing: set[Outlet] = set()
        self._paying: set[Outlet] = set()
        self._begun = self._done = 0
        """Looks, by number."""
        self._done_one = asyncio.Event()
        self._free_s = 0.0
        """Until then a notice is waited for no more."""
        self._told_lsn = 0
        self._proving = False
        """Whether a look that is not waited for comes as soon as it sees the rest."""

    async def start(self) -> None:
        """The first look, before anything streams or is built: what is built from now
        on follows from what it finds, or from later."""
        self._stored = await patiently(self._assembly.store.read_facts)
        await patiently(self._look_first)
        if published_anew(self._stored, self._seen.facts):
            await patiently(self._raise_barrier)

    async def run(self) -> None:
        """Look until cancelled, or until another life is asked for."""
        known = {
            row.key for row in self._looked.remembered.generations.values()
        }  # the others are built from what was found
        self._derive(self._missed, known)
        self._settle()
        while True:
            try:
                async with session(self._assembly.config.source.dsn) as connection:
                    while await self._look(connection):
                        await self._interval()
                    return
            except Transient:
                await asyncio.sleep(self._interval_s)

    async def noticed(self) -> None:
        """The log has come to where something was altered: a look now, and until it is
        done nothing that follows is taken.

        Anybody may put such a notice there: the stream waits for a tenth of the time at
        most, and a look that is not waited for comes a moment later all the same.
        """
        await probes.reach("schema.noticed")
        pipeline = self._assembly.pipeline
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._told_lsn = pipeline.ledger.end
        if began < self._free_s:
            if not self._proving:
                self._proving = True
                self._assembly.spawn(self._prove(), "look at what was altered")
            return
        try:
            async with asyncio.timeout(_HELD_MAX_S):
                await self._visible()
                wanted = self._begun + 1  # one under way may have looked before
                pipeline.progress.prove.set()
                while self._done < wanted:
                    self._done_one.clear()
                    await self._done_one.wait()
        except TimeoutError:
            pipeline.progress.prove.set()
        self._free_s = loop.time() + _FREE_SHARE * (loop.time() - began)

    async def _visible(self) -> None:
        """Until what notices have told of can be seen: it is in the log before."""
        gate = self._assembly.pipeline.gate

        def sees() -> bool:
            first = gate.invisible_from()
            return first is None or first >= self._told_lsn

        while not sees():  # noqa: ASYNC110 - a snapshot moves it
            await asyncio.sleep(_SEEN_S)

    async def _prove(self) -> None:
        """A look that the stream does not wait for."""
        await self._visible()
        self._proving = False
        self._assembly.pipeline.progress.prove.set()

    async def _interval(self) -> None:
        """Until the next look: less where the slot waits for it, to move once more."""
        prove = self._assembly.pipeline.progress.prove
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await prove.wait()
        prove.clear()

    # — looking —

    async def _look_first(self) -> None:
        async with session(self._assembly.config.source.dsn) as connection:
            self._seen = first = await self._take(connection, self._stored)
            if self._stored:
                came = await fresh(connection, self._stored, first.facts)
                self._missed = difference(self._stored, first.facts, came)
        self._assembly.pipeline.progress.proven = first.proven_lsn or 0

    async def _look(self, connection: Session) -> bool:
        """One look; False when this life is to end."""
        self._begun += 1
        number, before = self._begun, self._seen
        now = await self._take(connection, before.facts)
        came = await fresh(connection, before.facts, now.facts)
        found = difference(before.facts, now.facts, came)
        if found.plan or found.derive:
            await probes.reach("schema.looked")
        if reason := await self._ends_life(found, touched=before.hint != now.hint):
            self._again(reason)
            return False
        self._seen = now
        if now.proven_lsn is not None:
            self._assembly.pipeline.progress.proven = now.proven_lsn
        self._derive(found)
        self._settle()
        self._done = number
        self._done_one.set()
        return True

    async def _take(self, connection: Session, before: Facts) -> Look:
        name = self._assembly.config.source.publication
        catalog = self._looked.planned.catalog
        return await look(connection, name, self._plans, catalog, before)

    async def _ends_life(self, found: Difference, *, touched: bool) -> str:
        """Why everything is to be planned again; empty: it is not."""
        if found.publication:
            return "the publication was changed"
        self._suspect = self._suspect or touched or bool(found.plan)
        now_s = asyncio.get_running_loop().time()
        waits = bool(self._looked.planned.refused)
        if not self._suspect and (
            not waits or now_s - self._suspected_s < _TRY_AGAIN_S
        ):
            return ""
        self._suspected_s = now_s
        try:
            async with survey(
                self._assembly.config, sinks=self._assembly.sinks, partial=True
            ) as now:
                differs = _differs(self._looked, now)
        except (Halt, Refusal) as error:
            _log.warning("the views cannot be planned", reason=error.message)
            return ""
        self._suspect = False
        return "the tables of the views were changed" if differs else ""

    # — deriving again —

    def _derive(
        self, found: Difference, only: Collection[GenerationKey] | None = None
    ) -> None:
        """Have the views of these tables swept; `only` these generations of them."""
        oids = {int(table) for table in found.derive}
        for name, plan in self._assembly.plans.items():
            if not any(use.table.oid in oids for use in plan.tables):
                continue
            for outlet in self._assembly.pipeline.fan_out.of(name):
                key = generation_key(outlet.generation)
                if only is None or key in only:
                    self._owe(outlet, plan)

    def _owe(self, outlet: Outlet, plan: ViewPlan) -> None:
        self._owing.add(outlet)
        if outlet not in self._paying:
            self._paying.add(outlet)
            name = f"schema sweep {outlet.generation}"
            self._assembly.spawn(self._pay(outlet, plan), name)

    async def _pay(self, outlet: Outlet, plan: ViewPlan) -> None:
        """Every document of a generation anew, each by itself: one that waits for its
        sink keeps no other from it."""
        generation = outlet.generation
        await self._assembly.pipeline.ready()
        while outlet in self._owing:
            self._owing.discard(outlet)
            _log.warning(
                "rows came, went or changed without an event; every document is "
                "derived again",
                target=str(generation.target),
                generation=generation.number,
            )
            await self._sweep(outlet, plan)
        await probes.reach("schema.derived")
        self._paying.discard(outlet)
        self._settle()

    # — what was written before its table was published —

    async def _raise_barrier(self) -> None:
        """Read nothing before whoever writes now has ended: of what he had written to a
        table before it was published, nothing is in the log, nor in any snapshot yet.

        Whoever published it, and when: this is written down before it is that the
        publication was seen so.
        """
        assembly = self._assembly
        async with session(assembly.config.source.dsn, read_only=False) as connection:
            xid = await take_barrier(connection)
        known = await assembly.store.read_source()
        assert known is not None, "what streams has a slot"
        await assembly.store.save_source(
            replace(known, barrier=max(known.barrier or 0, xid))
        )
        assembly.pipeline.gate.raise_barrier(xid)
        assembly.spawn(patiently(lambda: self._tell_of_writers(xid)), "open writers")

    async def _tell_of_writers(self, xid: int) -> None:
        """Say for whom the first reading waits."""
        told: set[int] = set()
        async with session(self._assembly.config.source.dsn) as connection:
            while not (row := await one(connection, "older", xid=str(xid)))["ended"]:
                if fresh := set(row["pids"]) - told:
                    told.update(fresh)
                    _log.warning(
                        "waiting for transactions that were open while the "
                        "publication was changed",
                        pids=sorted(fresh),
                    )
                await asyncio.sleep(self._interval_s)

    def _settle(self) -> None:
        """Write down what is known, once all has been derived that follows from it."""
        if not self._paying and self._stored != self._seen.facts:
            self._stored = self._seen.facts
            self._assembly.spawn(self._save(), "save facts")

    async def _save(self) -> None:
        save = self._assembly.store.save_facts
        await patiently(lambda: save(self._stored))


def _differs(before: Survey, now: Survey) -> bool:
    """Whether another life would feed anything otherwise."""
    if before.planned.refused.keys() != now.planned.refused.keys():
        return True
    if before.lacking.keys() != now.lacking.keys():
        return True
    if _fingerprints(before) != _fingerprints(now):
        return True
    return bool(now.former.refused.keys() - before.former.refused.keys())


def _fingerprints(looked: Survey) -> Mapping[str, str]:
    return {name: plan.fingerprint for name, plan in looked.planned.plans.items()}
