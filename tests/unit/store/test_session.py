"""Errors of psycopg become the bridge's: what happens next, and nothing of a row."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from bridge.errors import BridgeError, Halt, Refusal, Transient
from bridge.store.session import connect, wrapped


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.AdminShutdown("gone"), Transient),
        (errors.ConnectionException("gone"), Transient),
        (errors.DeadlockDetected("again"), Transient),
        (errors.LockNotAvailable("later"), Transient),
        (errors.ReadOnlySqlTransaction("a standby"), Transient),
        (errors.DiskFull("full"), Transient),
        (errors.InsufficientPrivilege("no"), Halt),
        (errors.UndefinedTable("no"), Halt),
        (errors.UniqueViolation("key (id)=(secret)"), Halt),
        (psycopg.OperationalError("server closed the connection"), Transient),
        (psycopg.OperationalError('x\nFATAL:  role "a" does not exist'), Halt),
        (
            psycopg.OperationalError("FATAL:  password authentication failed for x"),
            Halt,
        ),
    ],
)
def test_errors_are_sorted_by_what_happens_next(
    error: psycopg.Error, kind: type[BridgeError]
) -> None:
    assert type(wrapped(error)) is kind


def test_a_violation_does_not_quote_the_value() -> None:
    assert "secret" not in str(wrapped(errors.UniqueViolation("key (id)=(secret)")))


async def test_a_dsn_that_libpq_does_not_take_is_refused_without_quoting_it() -> None:
    with pytest.raises(Refusal) as refused:
        await connect("postgresql://u:secret@[", application_name="x")
    assert "secret" not in refused.value.message


async def test_a_server_that_is_not_there_is_waited_for() -> None:
    with pytest.raises(Transient):
        await connect("postgresql://u@127.0.0.1:1/x", application_name="x")
