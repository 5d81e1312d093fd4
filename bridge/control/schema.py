"""Watching the source's tables: what changes under the views, and what follows.

    nothing     columns that no view reads, grants, indexes, new empty partitions
    derive      rows that came or went without an event; a publication that was changed
    plan        whatever may make another plan: another life then begins

The one thing to know: what was found is written down only after everything has been
derived again for it, so that a crash on the way finds the same difference once more.
And the slot does not move beyond the last look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.patience import patiently
from bridge.control.facts import Facts, Look, added, difference, fresh, look
from bridge.control.session import Session, session
from bridge.control.survey import Survey, survey
from bridge.errors import Halt, Refusal, Transient, first_of
from bridge.observe.logs import logger
from bridge.sink import Generation

_log = logger("bridge.schema")
_LOOK_S = 1.0
_TRY_AGAIN_S = 5.0


class SchemaWatch:
    """Looks every second. `again` is called when another life is to begin."""

    def __init__(
        self,
        assembly: Assembly,
        life: Life,
        looked: Survey,
        again: Callable[[str], None],
        *,
        passing: bool,
    ) -> None:
        """`passing`: a view waits until the log that it stumbled over is passed."""
        self._assembly = assembly
        self._life = life
        self._looked = looked
        self._again = again
        self._passing = passing
        self._plans = [*assembly.plans.values(), *looked.planned.plans.values()]
        self._stored: Facts = {}
        self._before: Look | None = None
        self._end_at_start = 0
        self._tried_s = 0.0
        self._deriving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Before anything streams: nothing is acknowledged until the first look."""
        self._stored = await patiently(self._assembly.store.read_facts)
        self._assembly.pipeline.proven = 0

    async def run(self) -> None:
        """Look until cancelled, or until another life is asked for."""
        while True:
            try:
                async with session(self._assembly.config.source.dsn) as connection:
                    while await self._look(connection):  # noqa: ASYNC110
                        await asyncio.sleep(_LOOK_S)
                    return
            except Transient:
                await asyncio.sleep(_LOOK_S)

    async def _look(self, connection: Session) -> bool:
        """One look; False when this life is to end."""
        source = self._assembly.config.source
        now = await look(
            connection, source.publication, self._plans, self._looked.planned.catalog
        )
        before = self._before
        partitions = added(self._stored, now.facts)
        empty = await fresh(connection, partitions) if partitions else set()
        found = difference(self._stored, now.facts, empty)
        if reason := await self._ends_life(before, now):
            self._again(reason)
            return False
        self._before = now
        self._assembly.pipeline.proven = now.proven_lsn
        if found.derive and self._stored:
            self._derive(found.derive, now.facts)
        elif self._stored != now.facts and self._deriving is None:
            await self._save(now.facts)
        return True

    async def _ends_life(self, before: Look | None, now: Look) -> str:
        """Why everything is to be planned again; empty: it is not."""
        loop_s = asyncio.get_running_loop().time()
        waiting = bool(self._looked.planned.refused) and (
            loop_s - self._tried_s >= _TRY_AGAIN_S
        )
        if before is None:
            # It may have changed between planning and this first look.
            self._end_at_start = now.proven_lsn
            if self._passing:
                self._assembly.pipeline.want(now.proven_lsn)
            suspected = True
        else:
            step = difference(before.facts, now.facts)
            if step.publication:
                return "the publication was changed"
            suspected = bool(step.plan) or before.hint != now.hint or waiting
        if suspected:
            self._tried_s = loop_s
            if await self._plans_differ():
                return "the tables of the views were changed"
        passed = self._assembly.pipeline.acknowledged >= self._end_at_start
        if self._passing and passed:
            return "the log that a view stumbled over is passed"
        return ""

    async def _plans_differ(self) -> bool:
        try:
            async with survey(
                self._assembly.config, sinks=self._assembly.sinks, partial=True
            ) as now:
                return _differs(self._looked, now)
        except (Halt, Refusal) as error:
            _log.warning("the views cannot be planned", reason=error.message)
            return False

    # — deriving again —

    def _derive(self, tables: Collection[str], facts: Facts) -> None:
        if self._deriving is not None:
            return  # what has come since is found again when it is done
        oids = {int(table) for table in tables}
        names = {
            name
            for name, plan in self._assembly.plans.items()
            if any(use.table.oid in oids for use in plan.tables)
        }
        self._deriving = self._assembly.spawn(self._sweep(names, facts), "schema sweep")

    async def _sweep(self, names: Collection[str], facts: Facts) -> None:
        """Every document of these plans anew; then the facts are what is known."""
        fan_out = self._assembly.pipeline.fan_out
        generations = [o.generation for name in names for o in fan_out.of(name)]
        try:
            await self._assembly.pipeline.ready()
            for generation in generations:
                _log.warning(
                    "rows came or went without an event; every document is derived "
                    "again",
                    target=str(generation.target),
                    generation=generation.number,
                )
                await self._sweep_one(generation)
            await self._save(facts)
        finally:
            self._deriving = None

    async def _sweep_one(self, generation: Generation) -> None:
        plan = self._assembly.plan(generation)
        if plan is None:
            return
        await self._life.claimed[generation.target.sink].wait()
        try:
            await self._life.jobs.sweep(generation, plan)
        except* Halt as errors:
            await self._life.halt(generation, first_of(errors))

    async def _save(self, facts: Facts) -> None:
        await patiently(partial(self._assembly.store.save_facts, facts))
        self._stored = facts


def _differs(before: Survey, now: Survey) -> bool:
    """Whether another life would feed anything otherwise."""
    if before.planned.refused.keys() != now.planned.refused.keys():
        return True
    if before.lacking.keys() != now.lacking.keys():
        return True
    fingerprints = [
        {name: plan.fingerprint for name, plan in looked.planned.plans.items()}
        for looked in (before, now)
    ]
    if fingerprints[0] != fingerprints[1]:
        return True
    return bool(now.former.refused.keys() - before.former.refused.keys())
