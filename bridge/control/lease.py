"""One daemon a database: who holds the lease runs, the others stand by.

The lease is an advisory lock of a session that does nothing else. The server frees it
when the session ends: at once when the process dies, within 8 s when its machine is
cut off, and by then the old holder has known for 3 s.

The one thing to know: a lease that was lost is never taken again silently. `watch`
raises, and its owner stops everything that writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Never, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from bridge.errors import Transient
from bridge.store.locks import LEASE, LOCK_CLASS
from bridge.store.queries import QUERIES
from bridge.store.session import connect, wrapped

_LOCK = {"lock_class": LOCK_CLASS, "lock_object": LEASE}


class Lease:
    """The right to run, held from `acquire` until `release`, or until it is lost."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        """`acquire` is the way in."""
        self._connection = connection

    @classmethod
    async def acquire(
        cls,
        dsn: str,
        *,
        interval_s: float = 1.0,
        standing_by: Callable[[str], None] = lambda _reason: None,
    ) -> Lease:
        """Wait until nobody else holds the lease, then hold it.

        Looks every `interval_s` seconds, as long as it takes, and calls `standing_by`
        with the reason whenever that changes: another daemon runs, or the source is
        away. Polls, since a session that waits for a lock keeps vacuum from its work.
        Halt or Refusal when the source refuses. May be cancelled.
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
                        connection = None
                        return lease
                    reason = "another daemon runs; standing by"
                except Transient as away:
                    if connection is not None:
                        await connection.close()
                        connection = None
                    reason = away.message
                if reason != told:
                    standing_by(reason)
                    told = reason
                await asyncio.sleep(interval_s)
        finally:
            if connection is not None:
                await connection.close()

    @property
    def held(self) -> bool:
        """Whether nothing is known that would have ended it."""
        return not self._connection.closed

    async def watch(self) -> Never:
        """Wait until the lease is lost, and raise `Transient` at once.

        One caller at a time; cancelling it leaves the lease as it is.
        """
        try:
            # The generator ends only with the connection.
            async for _ in self._connection.notifies():
                pass
        except psycopg.Error:
            pass
        finally:
            if self._connection.broken:
                await self._connection.close()
        raise Transient(
            "the lease on the source was lost with its connection",
            hint="the daemon stops writing, and takes its turn again",
        )

    async def release(self) -> None:
        """Give it up: another daemon takes over within its interval. Repeatable."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


async def _try(connection: AsyncConnection[DictRow]) -> bool:
    try:
        cursor = await connection.execute(QUERIES["try_lock"], _LOCK)
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise wrapped(error) from error
    assert row is not None
    return bool(row["held"])
