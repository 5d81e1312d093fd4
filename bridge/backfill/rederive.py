"""Deriving given keys again, and finding the keys that no longer exist.

The one thing to know: nobody decides here that a document is to be deleted. A key that
may be a ghost is derived like any other, and a key without a row is a delete.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from functools import partial
from itertools import islice
from typing import TypeAlias

from bridge.backfill.listing import listed
from bridge.backfill.pace import Pace
from bridge.backfill.patience import patiently
from bridge.backfill.receipt import Receipt, durable
from bridge.derive.documents import derive
from bridge.derive.view import ViewPlan
from bridge.errors import Transient
from bridge.keys import DIGEST_PREFIX, Parts, named_key
from bridge.operations import Rejection, key_of
from bridge.pipeline import Pipeline
from bridge.position import Position, is_issued
from bridge.sink import Generation, Sink
from bridge.source import QueryFailed
from bridge.store.rows import OwedKey

RejectFor: TypeAlias = Callable[
    [Collection[Generation], list[tuple[Parts, Rejection]], int], Awaitable[None]
]
"""Where keys of these generations go whose document cannot be made, at a version."""
_KEYS_AT_ONCE = 1000
_LOOK_S = 0.05


async def rederive(
    pipeline: Pipeline,
    plan: ViewPlan,
    generations: Collection[Generation],
    keys: Iterable[Parts],
    *,
    reject: RejectFor,
    pace: Pace,
) -> int:
    """Make these keys be what the source says now; returns how many were derived.

    Each is written at a marker's position, above every version issued before, and is
    kept when this returns.
    """
    count = 0
    iterator = iter(keys)
    while part := list(islice(iterator, pace.chunk(_KEYS_AT_ONCE))):
        await pace.wait()
        await pace.spend(len(part))
        await patiently(partial(_some, pipeline, plan, generations, part, reject))
        count += len(part)
    return count


async def pay(
    pipeline: Pipeline,
    plan: ViewPlan,
    generation: Generation,
    owed: Collection[OwedKey],
    *,
    reject: RejectFor,
) -> list[tuple[str, Position]]:
    """Derive what is recorded as owed; which debts are paid, up to which position."""
    keys = [one.parts for one in owed]
    lsn = await patiently(partial(_some, pipeline, plan, [generation], keys, reject))
    # What the stream has overtaken was not written. Its debt is paid all the same: that
    # change is held open, or recorded as a debt of a higher position, which stays.
    return [(one.key, Position(pipeline.epoch, lsn)) for one in owed]


async def _some(
    pipeline: Pipeline,
    plan: ViewPlan,
    generations: Collection[Generation],
    keys: list[Parts],
    reject: RejectFor,
) -> int:
    try:
        return await _once(pipeline, plan, generations, keys, reject, careful=False)
    except QueryFailed:
        return await _once(pipeline, plan, generations, keys, reject, careful=True)


async def _once(
    pipeline: Pipeline,
    plan: ViewPlan,
    generations: Collection[Generation],
    keys: list[Parts],
    reject: RejectFor,
    *,
    careful: bool,
) -> int:
    receipt, ledger = Receipt(pipeline, generations), pipeline.ledger
    with pipeline.fan_out.watch(plan.name) as overtaken:
        lsn = await pipeline.markers.next()
        version = Position(pipeline.epoch, lsn).version
        take = partial(pipeline.source.read, scanning=True)
        async with pipeline.gate.open(take, lsn) as reader:
            era = ledger.era
            derived = await derive(reader, plan, keys, version, careful=careful)
        # Written before it is durable, it would stay in the sinks after a crash.
        await durable(pipeline, reader.insert_lsn, era)
        # What the stream has brought since is a document, and needs no letter.
        refused = [
            (parts, rejection)
            for parts, rejection in derived.rejections
            if not overtaken.has(rejection.key, version)
        ]
        if refused:
            await reject(generations, refused, version)
            texts = [rejection.key for _, rejection in refused]
            pipeline.fan_out.settle(generations, texts, version)
        for generation in generations:
            if (outlet := pipeline.fan_out.outlet(generation)) is not None:
                await outlet.lane.room()
        # No waiting from here: a lane that is full would owe these keys once more.
        if overtaken.everything:
            raise Transient("a table was emptied meanwhile: it is read again")
        left = overtaken.left(derived.operations)
        pipeline.fan_out.put_job(generations, left, receipt.ticket)
    await receipt.kept()
    return lsn


async def ghosts(
    pipeline: Pipeline, plan: ViewPlan, sink: Sink, generation: Generation, before: int
) -> AsyncIterator[list[Parts]]:
    """Keys in the sink whose version is below `before`: nobody has written them since.

    After every key of the source was derived above `before`, these are the keys that
    the source does not have any more, and perhaps some that the stream has written.
    However often the sink loses the listing: what was derived of it is above `before`,
    or gone.
    What no key can be called is somebody else's: `verify` shows it.
    """
    outlet = pipeline.fan_out.outlet(generation)
    if outlet is not None:
        # What is still being read for earlier changes, or waits in the lane, would come
        # after the look.
        feed, ledger = outlet.lane.feeds[generation], pipeline.ledger
        lsn = Position.of_version(before).lsn
        while feed.has_older(before) or not ledger.derived_to(lsn):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
    shape = generation.target.shape
    parts_of = partial(named_key, columns=len(shape.key), nullable=shape.key_nullable)
    digests: set[str] = set()
    async for page in listed(pipeline, sink, generation, documents=False):
        stale = [stored for stored in page if stored.version < before]
        digests.update(s.key for s in stale if s.key.startswith(DIGEST_PREFIX))
        named = {parts_of(s.key): s.version for s in stale if s.key not in digests}
        yield await _own(pipeline, plan, named)
    if digests:
        # These texts cannot be taken apart, but the columns are in the documents.
        async for page in listed(pipeline, sink, generation, documents=True):
            named = {
                key_of(stored.document, shape.key): stored.version
                for stored in page
                if stored.document is not None
                and stored.key in digests
                and stored.version < before
            }
            yield await _own(pipeline, plan, named)


async def _own(
    pipeline: Pipeline, plan: ViewPlan, named: Mapping[Parts | None, int]
) -> list[Parts]:
    """Of keys and the versions stored under them, those that are or were the view's: a
    key that no type of it allows now was one if the bridge has written it."""
    keys = [parts for parts in named if parts is not None]
    others = [parts for parts in keys if not is_issued(named[parts])]
    if not others:
        return keys

    async def look() -> set[Parts]:
        async with pipeline.source.read(scanning=True) as reader:
            return await reader.unfit(plan.cast_sql, others)

    unfit = await patiently(look)
    return [parts for parts in keys if parts not in unfit]
