"""The store's connection: made when it is needed, made again when it was lost.

The one thing to know: nothing is repeated here. A statement whose connection broke
raises `Transient`, and the caller makes the same call again; every statement of the
store may be made twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from bridge.conninfo import parameters, where
from bridge.errors import BridgeError, Halt, Refusal, Transient
from bridge.refusals import is_away, of_connection
from bridge.store.queries import QUERIES

_SETTINGS = {
    "search_path": "",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "0",
    # Durable here: a standby that is away must not stop the bridge beside it.
    "synchronous_commit": "local",
    # The server gives a silent client up, and its locks free, after 8 s.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
}
# The client gives a silent server up after 5 s: sooner than that frees its locks.
_CONNECTION = {
    "client_encoding": "UTF8",
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}


def wrapped(error: psycopg.Error, place: str = "") -> BridgeError:
    """What an error of psycopg means for what happens next; `place` is where.

    Only the primary message of the server is quoted; DETAIL and CONTEXT hold values.
    """
    state = error.sqlstate
    if state is None:
        return of_connection(str(error), place=place)
    message = error.diag.message_primary or type(error).__name__
    if error.diag.source_function == "exec_stmt_raise":
        # Said by one of our own functions, which quote names alone.
        return Refusal(message, hint=error.diag.message_hint or "")
    if is_away(state):
        return Transient(f"the bridge's tables are not available: {message}")
    match state:
        case "42501":
            return Halt(
                f"the bridge's tables are refused: {message}",
                hint="grant create on database NAME to the daemon's role; the schema"
                " bridge belongs to that role",
            )
        case "3F000" | "42P01" | "42703" | "42883":
            return Halt(
                "the schema bridge is not in this database yet, or is an older one",
                hint="`pgbridge apply` installs it, and so does `pgbridge run`",
            )
        case _:
            return Halt(f"the bridge's tables answer {state}: {type(error).__name__}")


async def connect(dsn: str, *, application_name: str) -> AsyncConnection[DictRow]:
    """A connection in autocommit mode with settings pinned.

    A peer that is gone without a word is noticed within 5 s here and 8 s there.
    Transient, Halt or Refusal as for statements.
    """
    given = parameters(dsn)
    given.setdefault("connect_timeout", "10")
    place = where(given)
    given |= _CONNECTION | {"application_name": application_name}
    try:
        connection = await AsyncConnection.connect(
            **given, autocommit=True, row_factory=dict_row
        )
        try:
            await connection.execute(
                QUERIES["pin_settings"],
                {"names": list(_SETTINGS), "values": list(_SETTINGS.values())},
            )
        except BaseException:
            await connection.close()
            raise
    except psycopg.Error as error:
        raise wrapped(error, place) from error
    return connection


class Session:
    """One connection, used by one statement at a time."""

    def __init__(self, dsn: str, application_name: str) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: AsyncConnection[DictRow] | None = None
        self._turn = asyncio.Lock()

    @classmethod
    def over(cls, connection: AsyncConnection[DictRow]) -> Session:
        """One over a connection that its caller has opened, and closes."""
        made = cls("", "")
        made._connection = connection
        return made

    async def rows(self, name: str, /, **values: object) -> list[DictRow]:
        """Run the statement `name`, and give what it returns.

        Each statement is a transaction. Transient or Halt.
        """
        return (await self._run(name, values))[0]

    async def row(self, name: str, /, **values: object) -> DictRow | None:
        """The same for a statement that returns one row at most."""
        found = await self.rows(name, **values)
        assert len(found) <= 1, name
        return found[0] if found else None

    async def run(self, name: str, /, **values: object) -> int:
        """Run the statement `name`; how many rows it touched."""
        return (await self._run(name, values))[1]

    async def _run(
        self, name: str, values: Mapping[str, Any]
    ) -> tuple[list[DictRow], int]:
        async with self._turn:
            connection = await self._open()
            try:
                cursor = await connection.execute(QUERIES[name], values)
                found = await cursor.fetchall() if cursor.description else []
                return found, cursor.rowcount
            except psycopg.Error as error:
                if connection.broken:
                    self._connection = None
                raise wrapped(error) from error

    async def _open(self) -> AsyncConnection[DictRow]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(
                self._dsn, application_name=self._application_name
            )
        return self._connection

    async def close(self) -> None:
        """Close the connection; the next statement makes another."""
        async with self._turn:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


def superseded() -> Halt:
    """A statement found that the daemon's token is not the newest any more."""
    return Halt(
        "another daemon has taken over this source",
        hint="stop one of the two; one daemon serves a database",
    )
