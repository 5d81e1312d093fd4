"""Snapshots of a real Postgres: pinned sessions, read-only, checked for identity.

The one thing to know: every connection that reads is checked against the server that
the stream comes from. A pooler or a failover that answers with another server, another
timeline or a standby would show a past that the stream has left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.conninfo import make_conninfo

from bridge.conninfo import LIVELY, parameters
from bridge.errors import Halt, Transient
from bridge.gate import Snapshot
from bridge.position import parse_lsn
from bridge.source.failures import wrapped
from bridge.source.reader import PostgresReader

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]
MESSAGE_PREFIX = "pgbridge"
PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmloption": "content",
    "xmlbinary": "base64",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "timezone_abbreviations": "Default",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "synchronous_commit": "local",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "cursor_tuple_fraction": "1.0",
    "jit": "off",
}
"""What values and their texts depend on, and what would end a patient reader."""
_PINNED_WHERE_KNOWN = {"transaction_timeout": "0"}
"""The same of settings that older servers lack: 17 brought this one."""
_IDENTITY = """
    select (select system_identifier::text from pg_control_system()),
           pg_is_in_recovery(),
           case when pg_is_in_recovery() then 0
                else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
                     ::bit(32)::int end
"""
_BEGIN = """
    begin isolation level repeatable read, read only;
    set local plan_cache_mode = {};
    select pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text
"""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Which history a server is in."""

    system_identifier: str
    timeline: int


def pinned(settings: dict[str, str]) -> sql.Composed:
    """One statement that sets all these for a session, and what always is pinned."""
    own = sql.SQL("pg_catalog.set_config({}, {}, false)")
    known = sql.SQL(
        "(select pg_catalog.set_config(name, {1}, false)"
        " from pg_catalog.pg_settings where name = {0})"
    )
    every = [own.format(*each) for each in (PINNED | settings).items()]
    every += [known.format(*each) for each in _PINNED_WHERE_KNOWN.items()]
    return sql.SQL("select {}").format(sql.SQL(", ").join(every))


async def connect(
    dsn: str, *, search_path: tuple[str, ...] = (), name: str = "pgbridge"
) -> Connection:
    """An autocommit connection with every setting pinned. Transient or Halt."""
    path = ", ".join(sql.Identifier(s).as_string(None) for s in search_path)
    settings = {"search_path": f"pg_catalog, {path}" if path else "pg_catalog"}
    given = {**LIVELY, "connect_timeout": "10", **parameters(dsn)}
    given |= {"client_encoding": "UTF8", "application_name": name}
    with wrapped():
        connection = await AsyncConnection.connect(
            make_conninfo("", **given), autocommit=True, cursor_factory=AsyncRawCursor
        )
        await connection.execute(pinned(settings), prepare=False)
    return connection


async def identify(connection: Connection) -> ServerIdentity:
    """Whose history this connection reads. Transient on a standby."""
    with wrapped():
        cursor = await connection.execute(_IDENTITY)
        row = await cursor.fetchone()
    assert row is not None
    if row[1]:
        raise Transient(
            "the source is a standby: it can show a past that the stream has left",
            hint="let source.dsn name the primary",
        )
    return ServerIdentity(row[0], row[2])


class PostgresSource:
    """A few connections for the stream's reads, a few for backfills."""

    def __init__(
        self,
        dsn: str,
        search_path: tuple[str, ...],
        identity: ServerIdentity,
        *,
        readers: int = 2,
        scanners: int = 4,
    ) -> None:
        self._dsn = dsn
        self._search_path = search_path
        self._identity = identity
        self._page_rows: dict[str, int] = {}
        self._pools: dict[bool, asyncio.Queue[Connection | None]] = {}
        for scanning, count in ((False, readers), (True, scanners)):
            self._pools[scanning] = asyncio.LifoQueue()
            for _ in range(count):
                self._pools[scanning].put_nowait(None)

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        for pool in self._pools.values():
            while not pool.empty():
                connection = pool.get_nowait()
                if connection is not None:
                    await connection.close()

    @asynccontextmanager
    async def read(self, *, scanning: bool = False) -> AsyncIterator[PostgresReader]:
        """A fresh snapshot; see `Source.read`."""
        async with self._connection(scanning=scanning) as connection:
            mode = "force_custom_plan" if scanning else "force_generic_plan"
            with wrapped():
                cursor = await connection.execute(_BEGIN.format(mode).encode())
                while cursor.nextset():
                    pass
                row = await cursor.fetchone()
            assert row is not None
            snapshot, insert_lsn = Snapshot.parse(row[0]), parse_lsn(row[1])
            yield PostgresReader(connection, snapshot, insert_lsn, self._page_rows)

    async def emit(self, content: str) -> None:
        """Put a transactional message into the log; durable here, not on standbys."""
        async with self._connection(scanning=False) as connection:
            with wrapped():
                await connection.execute(
                    "select pg_logical_emit_message(true, $1::text, $2::text)",
                    [MESSAGE_PREFIX, content],
                )

    @asynccontextmanager
    async def _connection(self, *, scanning: bool) -> AsyncIterator[Connection]:
        pool = self._pools[scanning]
        connection = await pool.get()
        try:
            if connection is None or connection.closed:
                connection = None
                connection = await self._open()
            yield connection
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with wrapped():
                    await connection.rollback()
        except BaseException:
            # Whatever went wrong, nobody reads in a snapshot left open by it.
            if connection is not None:
                await connection.close()
            raise
        finally:
            broken = connection is None or connection.closed
            pool.put_nowait(None if broken else connection)

    async def _open(self) -> Connection:
        connection = await connect(
            self._dsn, search_path=self._search_path, name="pgbridge reader"
        )
        try:
            found = await identify(connection)
        except BaseException:
            await connection.close()
            raise
        if found != self._identity:
            await connection.close()
            raise Halt(
                "a connection to the source reached another server or timeline than "
                "the stream comes from",
                hint="let source.dsn always name the one primary, and restart",
            )
        return connection
