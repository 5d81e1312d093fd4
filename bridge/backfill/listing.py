"""Listing what a sink holds, for jobs that have all the time to do it again.

The one thing to know: no sink keeps the place in a listing for ever. One that was away,
or has lost the place while a page was worked on (a sink that is paused takes hours), is
listed from the start; what it does not grant halts it, as in a write, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bridge.backfill.patience import growing
from bridge.errors import Halt, Transient, sentence
from bridge.lanes import LaneState
from bridge.pipeline import Pipeline
from bridge.sink import Generation, Sink, Stored


async def listed(
    pipeline: Pipeline, sink: Sink, generation: Generation, *, documents: bool
) -> AsyncIterator[list[Stored]]:
    """Every document in pages, as `Sink.scan` gives them, however long it takes; those
    before a new start come again, as far as they are there still. No more once the
    generation is not fed: nobody will see what it has."""
    delays = growing()
    while (outlet := pipeline.fan_out.outlet(generation)) is not None:
        try:
            async for page in sink.scan(generation, documents=documents):
                yield page
                delays = growing()
        except Transient:
            await asyncio.sleep(next(delays))
        except Halt as error:
            outlet.lane.found(LaneState.HALTED, sentence(error))
            await outlet.lane.resumed()
        else:
            return
