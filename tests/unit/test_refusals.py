"""What a refused connection means, and that nothing private is quoted."""

from __future__ import annotations

import pytest

from bridge.errors import Halt, Refusal, Transient
from bridge.refusals import first_line, of_connection


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
        ('connection is bad: invalid sslmode value: "bogus"', Refusal),
        ("", Transient),
    ],
)
def test_a_refused_connection_is_classed(message: str, kind: type[Exception]) -> None:
    error = of_connection(message)
    assert type(error) is kind


def test_of_several_addresses_the_last_one_is_quoted() -> None:
    error = of_connection(
        'connection to server at "::1" failed: Connection refused\n'
        'connection to server at "127.0.0.1" failed: FATAL:  role "b" does not exist\n',
    )
    assert error.message == (
        'the source refuses the connection: role "b" does not exist'
    )


def test_a_password_that_was_not_given_halts() -> None:
    error = of_connection("fe_sendauth: no password", needs_password=True)
    assert type(error) is Halt


def test_only_the_first_line_is_quoted() -> None:
    message = "ERROR:  it failed\nDETAIL:  Key (id)=(secret) exists.\n"
    assert first_line(message) == "it failed"
    assert len(first_line("x" * 5_000)) == 200
