"""Whether the source goes on with the log that was read, and what it asks for if not.

    when                                         asks         what is done
    the same log                                 nothing      it is read on
    a standby was promoted, or the database was  nothing      all is derived again in
    recovered to a point in time, with the slot               place; the slot is kept
    no slot, or none that can be read on         `apply`      everything is built again
    another cluster, or the sinks have seen a    `apply       in place, or built again
    log that this one has not                    --take-over` where there is no slot

The one thing to know: whatever is here begins a new epoch, above every one that the
source or a sink has recorded, since positions of the old log mean nothing in the new.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridge.capture.slot import SlotState
from bridge.errors import Halt
from bridge.position import format_lsn
from bridge.store.rows import SourceRow


class Asks(StrEnum):
    """What going on in another history asks of the operator."""

    NOTHING = "nothing"
    REBUILD = "rebuild"
    """`pgbridge apply`, or `on_slot_loss = "rebuild"`."""
    TAKE_OVER = "take over"
    """`pgbridge apply --take-over` alone: a bridge may still follow the other one."""


@dataclass(frozen=True, slots=True)
class History:
    """What has changed since the log was read last. The default: nothing has."""

    changed: str = ""
    """In words; empty: it is the same log."""
    asks: Asks = Asks.NOTHING
    keeps_slot: bool = True
    """Whether the slot that is there is read on."""

    @property
    def is_new(self) -> bool:
        """Whether another history begins."""
        return bool(self.changed)

    @property
    def in_place(self) -> bool:
        """Whether what was built is kept, and every document derived again."""
        return self.is_new and self.keeps_slot

    def require(self, *, rebuild: bool, take_over: bool) -> None:
        """Halt, with the command that goes on, unless what it asks for was given."""
        match self.asks:
            case Asks.REBUILD if not (rebuild or take_over):
                raise Halt(
                    f"{self.changed}: changes were missed",
                    hint="`pgbridge apply` makes a new slot, and everything is built "
                    'again; [daemon] on_slot_loss = "rebuild" does so by itself',
                )
            case Asks.TAKE_OVER if not take_over:
                raise Halt(
                    f"{self.changed}",
                    hint="if this database takes the place of the other for good, "
                    "`pgbridge apply --take-over` goes on with it, and every document "
                    "is derived again; beside it, a copy needs sinks or targets of "
                    "its own, and `pgbridge drop` to forget what it was copied with",
                )


def compare(
    known: SourceRow | None,
    slot: SlotState | None,
    *,
    system_identifier: str,
    timeline: int,
    end_lsn: int,
) -> History:
    """The source as it is, beside what was written down when it was last read.

    `end_lsn` is where its log ends now.
    """
    if known is None:
        return History()
    unreadable = _unreadable(known, slot, end_lsn)
    keeps = not unreadable
    if known.system_identifier != system_identifier:
        return History(
            f"the source is another cluster (system identifier {system_identifier}) "
            f"than the one that was read ({known.system_identifier})",
            Asks.TAKE_OVER,
            keeps,
        )
    if known.doubt:
        return History(known.doubt, Asks.TAKE_OVER, keeps)
    if unreadable:
        return History(unreadable, Asks.REBUILD, keeps_slot=False)
    if known.timeline != timeline:
        return History(
            f"the source is on timeline {timeline}, after {known.timeline}: it was "
            "promoted, or recovered to a point in time"
        )
    return History()


def _unreadable(known: SourceRow, slot: SlotState | None, end_lsn: int) -> str:
    """Why the slot cannot be read on; empty: it can."""
    if slot is None:
        return f"the replication slot {known.slot} is gone"
    if slot.lost:
        why = slot.invalidation_reason or slot.wal_status
        return f"the replication slot {slot.name} is lost ({why})"
    at = slot.confirmed_lsn
    if at is None or at > end_lsn:
        # What commits below it would never be streamed, without a word.
        where = "nowhere" if at is None else f"at {format_lsn(at)}"
        return (
            f"the replication slot {slot.name} stands {where}, beyond the end of the "
            f"log at {format_lsn(end_lsn)}"
        )
    return ""


def sinks_ahead(known: SourceRow, highest: int, sink: str) -> History:
    """A sink has recorded a later epoch than the source knows of."""
    return History(
        f"sink {sink} follows epoch {highest}, and this database knows of epoch "
        f"{known.epoch} alone: it is a former primary or a copy, or was set back",
        Asks.TAKE_OVER,
    )


def log_is_missing(told_lsn: int, known_lsn: int) -> str:
    """A sink, or this process, knows more of the log than the source has."""
    return (
        f"the log was read up to {format_lsn(told_lsn)}, and this database knows of "
        f"{format_lsn(known_lsn)} alone: it was set back to an earlier state, or is a "
        "copy"
    )
