"""Whether what a job has read is durable, and what it has put into the lanes kept.

The one thing to know: a stream that starts again drops what waits in the lanes. The
job learns it as `Transient`, and does that part again at a new position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from bridge.backfill.patience import patiently
from bridge.errors import Transient
from bridge.ledger import Ticket
from bridge.pipeline import Pipeline
from bridge.sink import Generation

_LOOK_S = 0.02


class Receipt:
    """A ticket for one part of a job, and the wait for it."""

    def __init__(self, pipeline: Pipeline, generations: Collection[Generation]) -> None:
        self._pipeline, self._generations = pipeline, generations
        self._outcome: asyncio.Future[bool]
        self._outcome = asyncio.get_running_loop().create_future()
        self.ticket = Ticket(self._kept, self._dropped)
        self.ticket.hold(1)

    async def kept(self) -> None:
        """Everything was put: wait until it is kept, and known to be: no position tells
        the next process of it. Transient: some was dropped."""
        self.ticket.release(1)
        if not await self._outcome:
            raise Transient("the stream began again, and took the place of a job")
        answered = partial(self._pipeline.progress.answered, self._generations)
        await patiently(answered)

    def _kept(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(True)

    def _dropped(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(False)


async def durable(pipeline: Pipeline, seen: int, era: int) -> None:
    """Wait until the log that a read of this era of the ledger has seen is durable.

    A marker makes it so, where nothing else has. Transient when the stream has begun
    again since: the server may have lost what was read.
    """
    if not pipeline.ledger.sent(seen):
        await pipeline.markers.next()
    if era != pipeline.ledger.era:
        raise Transient("the stream began again, and what was read may be lost")


async def arrived(pipeline: Pipeline, generation: Generation) -> None:
    """Wait until what the stream has on its way to a generation now is kept.

    A job's key that it has there already is left to it: the job is told that it is
    answered for, and readers see the old document until then.
    """
    ledger = pipeline.ledger
    era, entries = ledger.era, ledger.held_by(generation)
    # The sink's answers end it, or a stream that begins again and brings all.
    while era == ledger.era and any(  # noqa: ASYNC110
        generation in entry.holds for entry in entries
    ):
        await asyncio.sleep(_LOOK_S)
