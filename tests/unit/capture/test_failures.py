"""The SQLSTATE decides what happens next, and nothing private is quoted."""

from __future__ import annotations

import pytest

from bridge.capture.failures import (
    SlotActive,
    SlotLost,
    connection_refusal,
    first_line,
    refusal,
)
from bridge.errors import Halt, Transient


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        (None, Transient),
        ("08006", Transient),
        ("53300", Transient),
        ("55006", SlotActive),
        ("57P01", Transient),
        ("57P03", Transient),
        ("58P01", SlotLost),
        ("58030", Transient),
        ("28P01", Halt),
        ("28000", Halt),
        ("3D000", Halt),
        ("42501", Halt),
        ("42704", Halt),
        ("55000", Halt),
        ("XX000", Halt),
    ],
)
def test_each_state_is_classed(sqlstate: str | None, kind: type[Exception]) -> None:
    error = refusal(sqlstate, "ERROR:  no", doing="cannot start")
    assert type(error) is kind
    assert error.hint
    assert error.message.startswith("cannot start: no")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('FATAL:  password authentication failed for user "b"', Halt),
        ("FATAL:  no pg_hba.conf entry for replication connection", Halt),
        ('FATAL:  role "b" does not exist', Halt),
        ('FATAL:  database "b" does not exist', Halt),
        ("FATAL:  permission denied to start WAL sender", Halt),
        ("FATAL:  must be superuser or replication role to start walsender", Halt),
        ("FATAL:  the database system is starting up", Transient),
        ("FATAL:  sorry, too many clients already", Transient),
        ("could not connect: Connection refused", Transient),
        ('could not translate host name "db" to address: Try again', Transient),
        ("SSL error: certificate verify failed", Halt),
        ("SSL SYSCALL error: EOF detected", Transient),
        ("SSL connection has been closed unexpectedly", Transient),
        ("", Transient),
    ],
)
def test_a_refused_connection_is_classed(message: str, kind: type[Exception]) -> None:
    error = connection_refusal(message, needs_password=False)
    assert type(error) is kind


def test_of_several_addresses_the_last_one_is_quoted() -> None:
    error = connection_refusal(
        'connection to server at "::1" failed: Connection refused\n'
        'connection to server at "127.0.0.1" failed: FATAL:  role "b" does not exist\n',
        needs_password=False,
    )
    assert error.message == (
        'cannot connect to the source: role "b" does not exist (28000)'
    )


def test_a_password_that_was_not_given_halts() -> None:
    error = connection_refusal("fe_sendauth: no password", needs_password=True)
    assert type(error) is Halt


def test_only_the_first_line_is_quoted() -> None:
    message = "ERROR:  it failed\nDETAIL:  Key (id)=(secret) exists.\n"
    assert first_line(message) == "it failed"
    assert len(first_line("x" * 5_000)) == 200
