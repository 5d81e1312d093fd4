"""One daemon a database: who holds the lease runs, the others stand by.

The lease is an advisory lock of a session that does nothing else but say, each two
seconds, that it is there. The server frees it when the session ends: at once when the
process dies, within 8 s when its machine is cut off or it is frozen. A holder that has
not been answered for 6 s takes it for lost, so that one that wakes up sends nothing.

The one thing to know: a lease that was lost is never taken again silently. `watch`
raises, and its owner stops everything that writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Never, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from bridge.errors import Halt, Transient
from bridge.store.locks import LEASE, LOCK_CLASS
from bridge.store.queries import QUERIES
from bridge.store.session import connect, wrapped

_LOCK = {"lock_class": LOCK_CLASS, "lock_object": LEASE}
_ALIVE_S = 2.0
_ANSWER_S = 4.0
_FRESH_S = 6.0
_IDLE_MS = "8000"
"""After so long without a word the server ends the session: later than the holder
takes its lease for lost."""
TURN_S = 10.0
"""Within this time one whose holder has died is free."""


def _clock() -> float:
    """Seconds that also pass while the process, or its machine, is stopped."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """The right to run, held from `acquire` until `release`, or until it is lost."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        """`acquire` is the way in."""
        self._connection = connection
        self._fresh_s = _clock()

    @classmethod
    async def acquire(
        cls,
        dsn: str,
        *,
        interval_s: float = 1.0,
        standing_by: Callable[[Transient | None], None] = lambda _away: None,
    ) -> Lease:
        """Wait until nobody else holds the lease, then hold it.

        Looks every `interval_s` seconds, as long as it takes, and calls `standing_by`
        whenever the reason changes: with why the source is away, or with None while
        another daemon runs. Polls, since a session that waits for a lock keeps vacuum
        from its work. Halt or Refusal when the source refuses. May be cancelled.
        """
        connection: AsyncConnection[DictRow] | None = None
        told = ""
        try:
            while True:
                try:
                    if connection is None:
                        connection = await connect(
                            dsn, application_name="pgbridge lease"
                        )
                    if await _try(connection):
                        lease = cls(connection)
                        await lease._say()
                        connection = None
                        return lease
                    why, reason = None, "another daemon runs"
                except Transient as away:
                    if connection is not None:
                        await connection.close()
                        connection = None
                    why, reason = away, away.message
                if reason != told:
                    standing_by(why)
                    told = reason
                await asyncio.sleep(interval_s)
        finally:
            if connection is not None:
                await connection.close()

    @property
    def held(self) -> bool:
        """Whether the server still keeps it for us, whatever has happened since it
        was asked."""
        return not self._connection.closed and _clock() - self._fresh_s < _FRESH_S

    async def watch(self) -> Never:
        """Wait until the lease is lost, and raise `Transient` at once.

        One caller at a time; cancelling it leaves the lease as it is.
        """
        try:
            while True:
                # Ends early only with the connection.
                async for _ in self._connection.notifies(timeout=_ALIVE_S):
                    pass
                async with asyncio.timeout(_ANSWER_S):
                    await self._say()
        except (Transient, TimeoutError, psycopg.Error):
            await self._connection.close()
        finally:
            if self._connection.broken:
                await self._connection.close()
        raise Transient(
            "the lease on the source was lost with its connection",
            hint="the daemon stops writing, and takes its turn again",
        )

    async def _say(self) -> None:
        """Say that the holder is there. Transient."""
        asked_s = _clock()
        try:
            await self._connection.execute(QUERIES["keep_lease"], {"idle": _IDLE_MS})
        except psycopg.Error as error:
            raise wrapped(error) from error
        self._fresh_s = asked_s

    async def release(self) -> None:
        """Give it up: another daemon takes over within its interval. Repeatable."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


@asynccontextmanager
async def no_daemon(dsn: str) -> AsyncIterator[None]:
    """Hold the lease inside, so that no daemon begins. Halt when one has it."""
    try:
        async with asyncio.timeout(TURN_S):
            lease = await Lease.acquire(dsn)
    except TimeoutError:
        raise Halt(
            "a daemon holds the lease on the source",
            hint="stop it first, with SIGTERM",
        ) from None
    async with lease:
        watching = asyncio.create_task(lease.watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})


async def _try(connection: AsyncConnection[DictRow]) -> bool:
    try:
        cursor = await connection.execute(QUERIES["try_lock"], _LOCK)
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise wrapped(error) from error
    assert row is not None
    return bool(row["held"])
