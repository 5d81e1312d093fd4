"""What the server refuses, sorted by what happens next; the SQLSTATE decides.

    Transient
    ├── SlotActive           another connection streams from the slot
    Halt
    ├── SlotMissing          no such slot
    ├── SlotLost             the slot was invalidated: its changes are gone for good
    ├── PublicationMissing   no such publication
    └── HistoryChanged       another cluster, another timeline, or a standby

The one thing to know: messages of the server are quoted only where they cannot hold
values of rows: a connection's, a replication command's and logical decoding's first
line, never its DETAIL or CONTEXT.
"""

from __future__ import annotations

import re
from typing import Final

from bridge.errors import BridgeError, Halt, Transient


class SlotActive(Transient):
    """Somebody else streams from the slot, perhaps our own last connection."""


class SlotMissing(Halt):
    """There is no slot of that name."""


class SlotLost(Halt):
    """The slot is there and can never be read again."""


class PublicationMissing(Halt):
    """There is no publication of that name."""


class HistoryChanged(Halt):
    """The server is not the one, or not in the history, that was expected."""


_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
"""Connection, serialization, resources, operator intervention, system error."""

_HINTS: Final = {
    "28000": "Allow the role in pg_hba.conf, for a replication connection too.",
    "28P01": "Correct the user or password in source.dsn.",
    "3D000": "Correct the database in source.dsn.",
    "42501": "Grant the role what `pgbridge check` prints.",
    "55000": "See `pgbridge check` for what the server lacks.",
}


def refusal(sqlstate: str | None, message: str, *, doing: str) -> BridgeError:
    """The error to raise for what the server answered while `doing` something.

    No SQLSTATE means that the connection broke.
    """
    text = f"{doing}: {first_line(message)}"
    match sqlstate:
        case None:
            return Transient(text, hint="Waiting for the server.")
        case "55006":
            return SlotActive(text, hint="Another daemon streams from this slot.")
        case "58P01":
            return SlotLost(text, hint="Log the slot needs was removed: rebuild.")
        case _ if sqlstate[:2] in _TRANSIENT_CLASSES:
            return Transient(text, hint="Waiting for the server.")
        case _:
            hint = _HINTS.get(sqlstate, "`pgbridge check` looks at the source.")
            return Halt(f"{text} ({sqlstate})", hint=hint)


_REFUSED_CONNECTION: Final = (
    (re.compile(r"password authentication failed|no password supplied"), "28P01"),
    (re.compile(r"no pg_hba\.conf entry|authentication failed"), "28000"),
    (re.compile(r'role ".*" does not exist|not permitted to log in'), "28000"),
    (re.compile(r'database ".*" does not exist'), "3D000"),
    (re.compile(r"permission denied|must be superuser or"), "42501"),
    (re.compile(r"certificate|does not support SSL|SSL is not enabled"), "28000"),
    (re.compile(r"invalid (connection option|\w+ value)|missing \"=\""), "28000"),
)


def connection_refusal(message: str, *, needs_password: bool) -> BridgeError:
    """The error for a connection that was not made.

    libpq gives no SQLSTATE here, so the words decide, and whatever is not known to be
    for good is tried again. Of several addresses the last one tried is quoted.
    """
    doing = "cannot connect to the source"
    if needs_password:
        return refusal("28P01", "the server wants a password", doing=doing)
    last = message.strip().rpartition("\n")[2]
    for words, sqlstate in _REFUSED_CONNECTION:
        if words.search(message):
            return refusal(sqlstate, last, doing=doing)
    return refusal(None, last, doing=doing)


_LINE_MAX: Final = 200


def first_line(message: str) -> str:
    """The first line of a server's message without its severity, cut to 200."""
    line = message.strip().partition("\n")[0]
    for severity in ("ERROR:", "FATAL:", "PANIC:"):
        _, found, rest = line.partition(severity)
        if found:
            line = rest
            break
    return line.strip()[:_LINE_MAX]
