"""Readers that look every few milliseconds while something is being switched.

The one thing to know: a writer raises one row's `n` all the time; whoever has seen a
value of it must never be shown a smaller one, nothing, or a half-filled index.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import psycopg
import redis.asyncio

from tests.fixtures.waiting import eventually
from tests.scenario.world import Bridge

KEY = 0
"""Other traffic leaves it alone."""
EVERY_S = 0.005
LOOKS_MIN = 20


class Readers:
    """What was seen; empty `wrong` at the end is the promise."""

    def __init__(self, *, first: bool = False) -> None:
        """`first`: nothing is there yet, and nothing seen is wrong until it is."""
        self._first = first
        self.stopping = asyncio.Event()
        self.wrong: list[str] = []
        self.looks = 0
        self.shapes: set[tuple[str, ...]] = set()
        """Column names of the documents that were seen."""
        self._seen: dict[str, int] = {}

    def saw(self, who: str, document: dict[str, Any] | None) -> None:
        """A reader found this; None: nothing."""
        self.looks += 1
        if document is None:
            if self.awaits(who):
                return
            self.wrong.append(f"{who}: no document")
            return
        self.shapes.add(tuple(document))
        n, before = int(document["n"]), self._seen.get(who, 0)
        if n < before:
            self.wrong.append(f"{who}: {n} after {before}")
        self._seen[who] = n

    async def have_looked(self) -> None:
        """Wait until enough was seen, or something wrong."""
        await eventually(lambda: self.wrong or self.looks > LOOKS_MIN)

    def must_be_right(self) -> None:
        """Something was seen, and nothing of it was wrong."""
        assert not self.wrong, self.wrong[:5]
        assert self.looks > LOOKS_MIN

    def last(self, who: str) -> int:
        """What a reader has seen at last; 0: nothing."""
        return self._seen.get(who, 0)

    def awaits(self, who: str) -> bool:
        """Whether a reader has seen nothing yet, and need not have."""
        return self._first and who not in self._seen


@asynccontextmanager
async def reading(
    bridge: Bridge,
    view: str,
    count_min: int,
    *,
    template: str = "",
    first: bool = False,
) -> AsyncIterator[Readers]:
    """Writers and readers run for the block; it fails if a reader saw a wrong thing.

    `template` is the Redis key of the view's target, with `{generation}` in it or not;
    `first`: they look from before anything was built.
    """
    readers = Readers(first=first)
    stopping = asyncio.Event()
    tasks = [
        asyncio.create_task(_write(bridge.dsn, stopping)),
        asyncio.create_task(_search(bridge, view, count_min, readers, stopping)),
    ]
    if template:
        tasks.append(
            asyncio.create_task(_cache(bridge, view, template, readers, stopping))
        )
    try:
        yield readers
        await readers.have_looked()
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
    readers.must_be_right()


@asynccontextmanager
async def reading_keys(
    bridge: Bridge, view: str, template: str
) -> AsyncIterator[Readers]:
    """The same of one more reader, by another Redis key, from before it was there; for
    the block, or until it is told to stop."""
    readers = Readers(first=True)
    looking = _cache(bridge, view, template, readers, readers.stopping)
    task = asyncio.create_task(looking)
    try:
        yield readers
        if not readers.stopping.is_set():
            await readers.have_looked()
    finally:
        readers.stopping.set()
        await task
    readers.must_be_right()


async def _write(dsn: str, stopping: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own:
        while not stopping.is_set():
            await own.execute("update item set n = n + 2 where id = %s", [KEY])
            await asyncio.sleep(EVERY_S)


async def _repeat(look: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await look()
        await asyncio.sleep(EVERY_S)


async def _search(
    bridge: Bridge, view: str, count_min: int, readers: Readers, stopping: asyncio.Event
) -> None:
    alias = f"{bridge.prefix}{view}"
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:

        async def look() -> None:
            found = await client.get(f"/{alias}/_doc/{KEY}")
            source = found.json().get("_source")
            readers.saw("search", source)
            counted = (await client.get(f"/{alias}/_count")).json().get("count", -1)
            if counted < count_min and not readers.awaits("search"):
                readers.wrong.append(f"search: {counted} documents")

        await _repeat(look, stopping)


async def _cache(
    bridge: Bridge, view: str, template: str, readers: Readers, stopping: asyncio.Event
) -> None:
    named = f"pgbridge:{bridge.prefix}{view}:live"
    async with contextlib.aclosing(redis.asyncio.from_url(bridge.redis)) as client:

        async def look() -> None:
            while True:
                number = await client.get(named) or b""
                key = template.replace("{generation}", number.decode())
                found = await client.get(key.replace("{id}", str(KEY)))
                # Of a number that is not shown any more, it may be of the past.
                if (await client.get(named) or b"") == number:
                    break
            readers.saw("cache", None if found is None else orjson.loads(found))

        await _repeat(look, stopping)
