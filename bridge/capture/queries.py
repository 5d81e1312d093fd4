"""Plain statements about slot and publication: their errors, their rows.

The one thing to know: callers bring connections with the row factory they like, so
that rows are taken apart here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from bridge.capture.failures import refusal
from bridge.errors import BridgeError


@contextmanager
def wrapped(doing: str, *, missing: type[BridgeError] | None = None) -> Iterator[None]:
    """psycopg's errors become the bridge's; `missing` for an undefined object."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error)
        if error.sqlstate == "42704" and missing is not None:
            raise missing(f"{doing}: {message}") from error
        raise refusal(error.sqlstate, message, doing=doing) from error


def values(row: Any) -> tuple[Any, ...]:
    """A row's values in order, whatever the row factory made."""
    return tuple(row.values()) if isinstance(row, dict) else tuple(row)


def only(row: Any) -> Any:
    """The value of a row of one column."""
    (value,) = values(row)
    return value
