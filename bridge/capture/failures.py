"""What the server refuses, sorted by what happens next; the SQLSTATE decides.

    Transient
    ├── SlotActive           another connection streams from the slot
    ├── Standby              the address leads to a standby, for the moment
    Halt
    ├── SlotMissing          no such slot
    ├── SlotLost             the slot was invalidated: its changes are gone for good
    ├── PublicationMissing   no such publication
    └── HistoryChanged       another cluster, or another timeline

The one thing to know: what is refused at connection has no SQLSTATE and is told in
`bridge.refusals`; of all else the first line is quoted, which holds no values of rows.
"""

from __future__ import annotations

from typing import Final

from bridge.errors import BridgeError, Halt, Transient
from bridge.refusals import first_line, is_away


class SlotActive(Transient):
    """Somebody else streams from the slot, perhaps our own last connection."""


class Standby(Transient):
    """Whoever answers is not a primary: before a promotion, or by mistake."""


class SlotMissing(Halt):
    """There is no slot of that name."""


class SlotLost(Halt):
    """The slot is there and can never be read again."""


class PublicationMissing(Halt):
    """There is no publication of that name."""


class HistoryChanged(Halt):
    """The server is not the one, or not in the history, that was expected."""


_HINTS: Final = {
    "28000": "allow the role in pg_hba.conf, for a replication connection too",
    "42501": "grant the role what `pgbridge check` prints",
    "55000": "see `pgbridge check` for what the server lacks",
}


def refusal(sqlstate: str | None, message: str, *, doing: str) -> BridgeError:
    """The error to raise for what the server answered while `doing` something.

    No SQLSTATE means that the connection broke.
    """
    text = f"{doing}: {first_line(message)}"
    match sqlstate:
        case None:
            return Transient(text, hint="waiting for the server")
        case "55006":
            return SlotActive(text, hint="another daemon streams from this slot")
        case "58P01":
            return SlotLost(text, hint="log the slot needs was removed: rebuild")
        case _ if is_away(sqlstate):
            return Transient(text, hint="waiting for the server")
        case _:
            hint = _HINTS.get(sqlstate, "`pgbridge check` looks at the source")
            return Halt(f"{text} ({sqlstate})", hint=hint)
