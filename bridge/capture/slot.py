"""The replication slot: make it, look at it, drop it.

The one thing to know: making one waits for every transaction that was running, and
what committed just before it may still be invisible when it is made. So whoever makes
one is given a barrier: nothing may be read until all transactions older than that one
have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from psycopg import AsyncConnection

from bridge.capture.connection import check_name
from bridge.capture.failures import SlotLost, SlotMissing
from bridge.capture.queries import only, values, wrapped
from bridge.errors import Halt
from bridge.position import parse_lsn

Connection: TypeAlias = AsyncConnection[Any]

_HERE: Final = Path(__file__).parent
SLOT_SQL: Final = (_HERE / "slot.sql").read_text()
BLOCKERS_SQL: Final = (_HERE / "blockers.sql").read_text()
FREE_SQL: Final = (_HERE / "free.sql").read_text()
FAILOVER_SINCE: Final = 170000


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot that was just made."""

    name: str
    consistent_lsn: int
    """What commits behind this is streamed."""
    barrier_xid: int
    """A full transaction id: read nothing before a snapshot's xmin has reached it."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot as `pg_replication_slots` shows it; None where the server has no word."""

    name: str
    plugin: str
    ours: bool
    """It is one for pgoutput, of the database that was asked."""
    active_pid: int | None
    wal_status: str
    """reserved, extended, unreserved or lost."""
    confirmed_lsn: int | None
    restart_lsn: int | None
    retained_bytes: int | None
    """Log that the server keeps for it."""
    invalidation_reason: str | None
    failover: bool | None

    @property
    def lost(self) -> bool:
        """It can never be read again."""
        return self.wal_status == "lost" or self.invalidation_reason is not None

    def require_usable(self) -> None:
        """Halt when it is not one of ours; SlotLost when it is lost."""
        if not self.ours:
            raise _others(self.name)
        if self.lost:
            raise SlotLost(
                f"the replication slot {self.name} was invalidated"
                f" ({self.invalidation_reason or self.wal_status})",
                hint="its changes are gone: a new slot and a rebuild are needed",
            )


def _others(name: str) -> Halt:
    return Halt(
        f"the replication slot {name} is another's: not for pgoutput, or not of this "
        "database",
        hint="choose another source.slot; it is left as it is",
    )


@dataclass(frozen=True, slots=True)
class Blocker:
    """A transaction that has to end before the slot can be made."""

    pid: int
    """0: a prepared transaction, named by `application`."""
    application: str
    state: str
    age_s: float

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid else "a prepared transaction"
        name = f" ({self.application})" if self.application else ""
        return f"{who}{name}, open for {self.age_s:.0f} s"


async def create_slot(
    connection: Connection,
    watch: Connection,
    name: str,
    *,
    failover: bool = False,
    waiting: Callable[[Sequence[Blocker]], None] = lambda _: None,
    poll_s: float = 1.0,
) -> NewSlot:
    """Make a slot for pgoutput; both connections are in autocommit mode.

    As long as running transactions hold it up, `watch` looks every `poll_s` for whom
    it waits, and `waiting` is told. Cancelling ends the statement, and no slot is
    left. `failover` is heeded from Postgres 17 on. Halt when the name is taken.
    """
    check_name(name)
    async with _finished(
        asyncio.create_task(_create(connection, name, failover=failover)), connection
    ) as creation:
        while True:
            done, _ = await asyncio.wait({creation}, timeout=poll_s)
            if done:
                break
            if blockers := await blocking(watch, connection.info.backend_pid):
                waiting(blockers)
        consistent_lsn = creation.result()
    return NewSlot(name, consistent_lsn, await take_barrier(connection))


async def _create(connection: Connection, name: str, *, failover: bool) -> int:
    sql = "select lsn::text from pg_catalog.pg_create_logical_replication_slot(%s, %s"
    if failover and connection.info.server_version >= FAILOVER_SINCE:
        sql += ", failover => true"
    with wrapped(f"cannot make the replication slot {name}"):
        await connection.execute("set statement_timeout = 0; set lock_timeout = 0")
        cursor = await connection.execute(sql.encode() + b")", [name, "pgoutput"])
        return parse_lsn(only(await cursor.fetchone()))


@asynccontextmanager
async def _finished(
    statement: asyncio.Task[int], connection: Connection
) -> AsyncIterator[asyncio.Task[int]]:
    """However the block ends, the server has ended the statement too."""
    try:
        yield statement
    finally:
        if not statement.done():
            # The server's own cancellation, so that it cleans up before we go on.
            await connection.cancel_safe(timeout=10)
            with suppress(Exception):
                await statement


async def blocking(watch: Connection, pid: int) -> list[Blocker]:
    """The transactions for which the backend `pid` waits at this moment."""
    with wrapped("cannot see who holds up the slot"):
        cursor = await watch.execute(BLOCKERS_SQL.encode(), {"pid": pid})
        return [Blocker(*values(row)) for row in await cursor.fetchall()]


async def take_barrier(connection: Connection) -> int:
    """A full transaction id of one's own, rolled back.

    Once a snapshot's xmin has reached it, every transaction that was running when
    this was called has ended. The connection is in autocommit mode.
    """
    sql = "select pg_catalog.pg_current_xact_id()::text as xid"
    with wrapped("cannot take a transaction id"):
        async with connection.transaction(force_rollback=True):
            cursor = await connection.execute(sql)
            return int(only(await cursor.fetchone()))


async def describe_slot(connection: Connection, name: str) -> SlotState | None:
    """The slot of that name, or None."""
    with wrapped("cannot look at the replication slot"):
        cursor = await connection.execute(SLOT_SQL.encode(), [name])
        if (row := await cursor.fetchone()) is None:
            return None
    slot = only(row)
    return SlotState(
        name=slot["slot_name"],
        plugin=slot["plugin"] or "",
        ours=bool(slot["ours"]),
        active_pid=slot["active_pid"],
        wal_status=slot["wal_status"] or "lost",
        confirmed_lsn=_lsn(slot["confirmed_flush_lsn"]),
        restart_lsn=_lsn(slot["restart_lsn"]),
        retained_bytes=slot["retained_bytes"],
        invalidation_reason=slot.get("invalidation_reason"),
        failover=slot.get("failover"),
    )


async def free_slot(connection: Connection, name: str) -> bool:
    """End the stream that reads from the slot, where it is one of this role's bridge.

    For whoever holds the lease: another reader has lost it. False: there is none.
    """
    with wrapped(f"cannot free the replication slot {name}"):
        cursor = await connection.execute(FREE_SQL.encode(), [name])
        return await cursor.fetchone() is not None


async def drop_slot(connection: Connection, name: str) -> bool:
    """Drop it; False when there is none. SlotActive while somebody streams.

    Halt when the slot of that name is another's: names are the server's.
    """
    found = await describe_slot(connection, name)
    if found is not None and not found.ours:
        raise _others(name)
    try:
        with wrapped(f"cannot drop the replication slot {name}", missing=SlotMissing):
            await connection.execute(
                "select pg_catalog.pg_drop_replication_slot(%s)", [name]
            )
    except SlotMissing:
        return False
    return True


def _lsn(text: str | None) -> int | None:
    return None if text is None else parse_lsn(text)
