"""The backfills under way: each a task, begun once, followed by many, or cancelled.

The one thing to know: a backfill that is left is open in the store and goes on in the
next life; one that is cancelled is closed there before its task is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from bridge.assembly import Assembly
from bridge.backfill.gates import caught_up
from bridge.backfill.jobs import Jobs
from bridge.backfill.patience import ended, patiently
from bridge.backfill.receipt import arrived
from bridge.errors import BridgeError, Halt, Transient, first_problem, sentence
from bridge.observe.logs import logger
from bridge.store.rows import BackfillRow, WorkState

_log = logger("bridge.backfill")


class Cancelled(Halt):
    """It was cancelled while it was followed."""


class Backfills:
    """Carries out what was asked for, whatever the number of those who ask."""

    def __init__(
        self, assembly: Assembly, jobs: Jobs, claimed: Mapping[str, asyncio.Event]
    ) -> None:
        """`claimed` says of each sink whether it was told whose it is."""
        self._assembly = assembly
        self._jobs = jobs
        self._claimed = claimed
        self._tasks: dict[int, asyncio.Task[int]] = {}
        self._cancelled: set[int] = set()

    def run(self, row: BackfillRow) -> asyncio.Task[int]:
        """Carry out a backfill beside everything else; one that runs is joined."""
        task = self._tasks.get(row.id)
        if task is None:
            task = asyncio.create_task(self._run(row), name=f"backfill {row.id}")
            self._tasks[row.id] = task
            task.add_done_callback(partial(self._ended, row.id))
        return task

    def _ended(self, backfill: int, task: asyncio.Task[int]) -> None:
        self._tasks.pop(backfill, None)
        if not task.cancelled():
            task.exception()  # it is in the store, whether somebody follows or not

    async def follow(self, row: BackfillRow) -> int:
        """Carry out a backfill and wait for it; how many documents.

        Cancelled; Halt or Refusal when it failed."""
        try:
            return await asyncio.shield(self.run(row))
        except asyncio.CancelledError:
            if self._tasks.get(row.id) is not None or row.id not in self._cancelled:
                raise  # this life ends, and the next one goes on
            raise Cancelled("the backfill was cancelled") from None

    async def cancel(self, row: BackfillRow) -> None:
        """Stop a backfill, for good."""
        self._cancelled.add(row.id)
        store = self._assembly.store.backfills
        await patiently(partial(store.finish, row.id, WorkState.CANCELLED))
        if (task := self._tasks.get(row.id)) is not None:
            await ended(task)

    async def stop(self) -> None:
        """Leave every backfill as it is; the next life goes on with it."""
        await asyncio.gather(*map(ended, self._tasks.values()))

    async def _run(self, row: BackfillRow) -> int:
        store = self._assembly.store.backfills
        try:
            await self._claimed[row.key.sink].wait()
            await self._assembly.pipeline.ready()
            if not await patiently(partial(store.start, row.id)):
                return await self._ended_as(row)
            era = self._assembly.pipeline.ledger.era
            documents = await self._jobs.run(row)
            await self._arrives(row, era)
        except Exception as raised:  # noqa: BLE001 - it fails, the others go on
            error = declared(raised)
            if not isinstance(error, Transient):
                await patiently(
                    partial(store.finish, row.id, WorkState.FAILED, sentence(error))
                )
            raise error from None
        if not await patiently(partial(store.finish, row.id, WorkState.DONE)):
            return await self._ended_as(row)
        return documents

    async def _arrives(self, row: BackfillRow, era: int) -> None:
        """Wait for what was left to the stream, since it had brought something newer:
        who asked for a key finds it when he is told that it is done.

        `era` is that of the stream when the backfill began.
        """
        assembly, pipeline = self._assembly, self._assembly.pipeline
        if (generation := assembly.generation(row.key)) is None:
            return
        await arrived(pipeline, generation)
        if pipeline.ledger.era != era:  # it is brought once more
            await caught_up(assembly, generation, lambda g: bool(assembly.plan(g)))

    async def _ended_as(self, row: BackfillRow) -> int:
        """What has come of a backfill that has ended already: how many documents.

        Cancelled, also where its generation was dropped meanwhile; Halt."""
        found = await patiently(partial(self._assembly.store.backfills.read, row.id))
        if found is None:
            raise Cancelled(f"{row.key} was dropped meanwhile")
        match found.state:
            case WorkState.CANCELLED:
                raise Cancelled(found.message or "the backfill was cancelled")
            case WorkState.FAILED:
                raise Halt(found.message)
            case _:
                return found.documents


def declared(raised: Exception) -> BridgeError:
    """What to tell of an exception: an error that is not one of ours halts the part
    in which it was raised, and nothing else."""
    found = first_problem(raised)
    if found is None:
        _log.error("unexpected", exc_info=raised)
        return Halt(
            f"an unexpected {type(raised).__name__}",
            hint="this is a defect of pgbridge; `run --debug` logs where it is",
        )
    return found
