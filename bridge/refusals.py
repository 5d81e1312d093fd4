"""What a refusal of Postgres means, for all who talk to it: wait for it, or stop.

The one thing to know: messages of the server are quoted only where they cannot hold
values of rows: a connection's, a command's first line, never DETAIL or CONTEXT.
"""

from __future__ import annotations

import re
from typing import Final

from bridge.errors import BridgeError, Halt, Refusal, Transient

_AWAY: Final = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57", "58")
"""SQLSTATEs, or their classes, of a server that is away, became a standby, lacks
resources or is in trouble, ended a transaction that took too long, or of a statement
that may simply be made again."""

_CORRECT = "put user, password and database right in source.dsn"
_ALLOW = "allow the role in pg_hba.conf, for a replication connection too"
_REFUSED: Final = (
    (r"password authentication failed|no password supplied", _CORRECT),
    (r"no pg_hba\.conf entry|authentication failed", _ALLOW),
    (r'(role|user|database) ".*" does not exist', _CORRECT),
    (r"not permitted to log in", "alter role NAME login"),
    (r"not currently accepting connections", "alter database NAME allow_connections"),
    (
        r"permission denied|must be superuser or",
        "`pgbridge check` prints the grants that the role needs",
    ),
    (
        r"certificate|does not support SSL|SSL is not enabled",
        "see sslmode and sslrootcert in source.dsn, and ssl of the server",
    ),
)
_NO_CONNECTION_STRING: Final = r"invalid (connection option|\w+ value|port number)"
"""libpq gives no SQLSTATE for these, so the words decide."""
_LINE_MAX: Final = 200


def is_away(sqlstate: str) -> bool:
    """Whether the same may work later, without anybody doing anything."""
    return sqlstate.startswith(_AWAY)


def of_connection(
    message: str, *, place: str = "", needs_password: bool = False
) -> BridgeError:
    """The error for a connection that was not made, or that broke: Halt or Transient,
    Refusal where the connection string can be no one's.

    What is not known to be for good may be tried again. Of several addresses the last
    one tried is quoted; `place` is where, without user and password.
    """
    source = f"the source at {place}" if place else "the source"
    if needs_password:
        return Halt(f"{source} wants a password", hint=_CORRECT)
    reason = _last_reason(message)
    if re.search(_NO_CONNECTION_STRING, message):
        return Refusal(
            f"the connection string of {source} is wrong: {reason}",
            hint="put that right in source.dsn; libpq's manual has what each may be",
        )
    for words, hint in _REFUSED:
        if re.search(words, message):
            return Halt(f"{source} refuses the connection: {reason}", hint=hint)
    if "FATAL:" in message:
        return Transient(
            f"{source} is not available: {reason}",
            hint="try again when it takes connections; the daemon does so by itself",
        )
    return Transient(
        f"{source} cannot be reached: {reason}",
        hint="see that the server runs and that source.dsn names its host and port",
    )


def first_line(message: str) -> str:
    """The first line of a server's message without its severity, cut to 200."""
    line = message.strip().partition("\n")[0]
    for severity in ("ERROR:", "FATAL:", "PANIC:"):
        _, found, rest = line.partition(severity)
        if found:
            line = rest
            break
    return line.strip()[:_LINE_MAX]


def _last_reason(message: str) -> str:
    """What libpq says of the last address, without repeating the address."""
    lines = [line for line in message.strip().splitlines() if line[:1].strip()]
    reason = lines[-1] if lines else "the connection was lost"
    for prefix in ("FATAL:", "failed:", "error:"):
        reason = reason.rpartition(prefix)[2].strip()
    return reason[:_LINE_MAX]
