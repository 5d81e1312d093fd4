"""One session with the source, for commands that look and arrange.

The one thing to know: this is where psycopg's exceptions become the bridge's own, for
`control` and the commands; whatever text of the server's could quote a row is cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from bridge.conninfo import LIVELY, parameters, where
from bridge.errors import BridgeError, Halt, Transient
from bridge.refusals import is_away, of_connection
from bridge.source.postgres import pinned

Session: TypeAlias = AsyncConnection[DictRow]
CONNECT_TIMEOUT_S = 10


def sql(name: str) -> str:
    """The text of the statement `name` of this package."""
    return files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")


@asynccontextmanager
async def session(
    dsn: str, *, read_only: bool = True, key: str = "source.dsn"
) -> AsyncIterator[Session]:
    """A connection in autocommit mode with settings pinned, closed at the end.

    `key` is what the configuration calls the connection string. Transient when the
    server cannot be reached, Halt when it refuses, Refusal for a string that libpq
    does not take. Errors of statements inside the block are wrapped as well.
    """
    given = LIVELY | parameters(dsn, key)
    given.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    given.setdefault("application_name", "pgbridge")
    given["client_encoding"] = "UTF8"
    settings = {"search_path": "pg_catalog"}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    with wrapped(where(given)):
        connection: Session = await AsyncConnection.connect(
            make_conninfo("", **given), autocommit=True, row_factory=dict_row
        )
        async with connection:
            await connection.execute(pinned(settings))
            yield connection


async def try_replication(dsn: str) -> None:
    """Open a connection for logical replication, and close it. Transient or Halt."""
    given = parameters(dsn)
    given.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    with wrapped(where(given)):
        connection = await AsyncConnection.connect(
            make_conninfo("", **given, replication="database"), autocommit=True
        )
        await connection.close()


def address(dsn: str) -> str:
    """`postgresql://USER@HOST:PORT/DATABASE` without the password, for showing."""
    given = parameters(dsn)
    user = f"{given['user']}@" if given.get("user") else ""
    if not (given.get("host") or given.get("hostaddr")):
        return f"{user}{where(given)}"
    return f"postgresql://{user}{where(given)}"


@contextmanager
def wrapped(place: str = "") -> Iterator[None]:
    """Errors of psycopg inside the block become the bridge's; `place` is where."""
    try:
        yield
    except psycopg.Error as error:
        raise of_postgres(error, place) from error


def of_postgres(error: psycopg.Error, place: str) -> BridgeError:
    """What a psycopg error means for what happens next."""
    state = error.sqlstate
    if state is None:
        return of_connection(str(error), place=place)
    source = f"the source at {place}" if place else "the source"
    # The primary message only: DETAIL, CONTEXT and parameters hold values.
    message = error.diag.message_primary or type(error).__name__
    if is_away(state):
        return Transient(
            f"{source} is not available: {message}",
            hint="try again when it takes connections; the daemon does so by itself",
        )
    if state == "42501":
        return Halt(
            f"{source} refuses: {message}",
            hint="`pgbridge check` prints the grants that the role needs",
        )
    if state in ("3F000", "42P01", "42883") and "bridge" in message:
        return Halt(
            "the schema bridge is not installed" + (f" at {place}" if place else ""),
            hint="`pgbridge apply` installs it, and `pgbridge run` too",
        )
    if state.startswith("22"):  # data exception: the message quotes the value
        message = f"a value does not fit ({type(error).__name__})"
    return Halt(f"{source} answers {state}: {message}")
