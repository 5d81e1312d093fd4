"""What an error of Postgres means for what happens next, decided by its SQLSTATE.

The one thing to know: only the class of an error and texts that cannot quote a value
are shown; DETAIL, CONTEXT and data exceptions' messages hold values of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bridge.errors import BridgeError, Halt, Transient
from bridge.source import QueryFailed

_AWAY = ("08", "53", "57", "40", "55P03")
"""Classes: connection, resources, operator intervention, rollback, lock."""
_OF_A_ROW = ("22", "P0", "23", "21", "54")
"""Classes of errors that some row of a query causes: data, raised, cardinality."""
_REFUSED = ("28", "3D")


@contextmanager
def wrapped() -> Iterator[None]:
    """psycopg's errors become Transient, Halt, or QueryFailed for one of a row."""
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error) from error


def meaning(error: psycopg.Error) -> BridgeError | QueryFailed:
    """What to do about an error of psycopg."""
    state = error.sqlstate
    if state is None:
        text = str(error).strip().splitlines()
        last = text[-1] if text else type(error).__name__
        if "FATAL" in last and not any(
            words in last for words in ("starting up", "shutting down", "recovery")
        ):
            return Halt(
                f"the source refuses the connection: {last.rpartition('FATAL:')[2]}",
                hint="put user, password and database right in source.dsn",
            )
        return Transient(f"the source cannot be reached: {last.rpartition(':')[2]}")
    if state.startswith(_AWAY):
        return Transient(f"the source is not available ({state})")
    if state.startswith(_OF_A_ROW):
        return QueryFailed(f"the query fails: {type(error).__name__} ({state})")
    message = error.diag.message_primary or type(error).__name__
    if state == "42501":
        return Halt(
            f"the source refuses: {message}",
            hint="`pgbridge check` prints the grants that the role needs",
        )
    if state.startswith(_REFUSED):
        return Halt(
            f"the source refuses the connection: {message}",
            hint="put user, password and database right in source.dsn",
        )
    return Halt(
        f"the source answers {state}: {message}",
        hint="`pgbridge plan` shows what of the schema has changed",
    )
