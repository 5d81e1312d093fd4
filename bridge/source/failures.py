"""What an error of Postgres means for what happens next, decided by its SQLSTATE.

The one thing to know: only the class of an error and texts that cannot quote a value
are shown; DETAIL, CONTEXT and data exceptions' messages hold values of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bridge.errors import BridgeError, Halt, Transient
from bridge.refusals import is_away, of_connection
from bridge.source import QueryFailed, StatementRefused

_OF_A_ROW = ("22", "P0", "23", "21", "54")
"""Classes of errors that some row of a query causes: data, raised, cardinality."""
_REFUSED = ("28", "3D")
_OF_THE_STATEMENT = ("42", "3F", "55")
_DOUBTFUL = ("42601", "42602")
"""Of these the text that a function was given may be the cause as well, and is quoted
then: a search that is no `tsquery`, for instance."""


@contextmanager
def wrapped() -> Iterator[None]:
    """psycopg's errors become Transient, Halt, or QueryFailed for one of a row."""
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error) from error


def meaning(error: psycopg.Error) -> BridgeError | QueryFailed:
    """What to do about an error of psycopg.

    Of an error that is not known to be of the statement it is not said that it is: a
    function may raise any for the row that it is given.
    """
    state = error.sqlstate
    if state is None:
        return of_connection(str(error))
    if is_away(state):
        return Transient(f"the source is not available ({state})")
    if state.startswith(_OF_A_ROW):
        return QueryFailed(f"the query fails: {type(error).__name__} ({state})")
    message = error.diag.message_primary or type(error).__name__
    if state == "42501":
        return StatementRefused(
            f"the source refuses: {message}",
            hint="`pgbridge check` prints the grants that the role needs",
        )
    if state.startswith(_REFUSED):
        return Halt(
            f"the source refuses the connection: {message}",
            hint="put user, password and database right in source.dsn",
        )
    if state in _DOUBTFUL or not state.startswith(_OF_THE_STATEMENT):
        return QueryFailed(
            f"the query fails: {type(error).__name__} ({state})", doubtful=True
        )
    return StatementRefused(
        f"the source answers {state}: {message}",
        hint="`pgbridge plan` shows what of the schema has changed",
    )
