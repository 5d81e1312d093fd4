"""Whether the source goes on with the log that was read, and what it asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.capture.slot import SlotState
from bridge.control.history import Asks, History, compare, sinks_ahead
from bridge.errors import Halt
from bridge.store.rows import SourceRow

KNOWN = SourceRow("7", 1, "shop", "pgbridge", 3)
SLOT = SlotState(
    name="pgbridge",
    plugin="pgoutput",
    ours=True,
    active_pid=None,
    wal_status="reserved",
    confirmed_lsn=100,
    restart_lsn=90,
    retained_bytes=0,
    invalidation_reason=None,
    failover=True,
)


def found(
    known: SourceRow | None = KNOWN,
    slot: SlotState | None = SLOT,
    *,
    system: str = "7",
    timeline: int = 1,
    end_lsn: int = 200,
) -> History:
    return compare(
        known, slot, system_identifier=system, timeline=timeline, end_lsn=end_lsn
    )


@pytest.mark.parametrize("known", [KNOWN, None])
def test_the_same_log_is_read_on(known: SourceRow | None) -> None:
    history = found(known)
    assert not history.is_new
    history.require(rebuild=False, take_over=False)


def test_another_timeline_with_the_slot_asks_for_nothing() -> None:
    history = found(timeline=2)
    assert history.is_new and history.in_place
    history.require(rebuild=False, take_over=False)


@pytest.mark.parametrize(
    "slot",
    [
        None,
        replace(SLOT, wal_status="lost"),
        replace(SLOT, invalidation_reason="idle_timeout"),
        replace(SLOT, confirmed_lsn=201),
        replace(SLOT, confirmed_lsn=None),
    ],
)
@pytest.mark.parametrize("timeline", [1, 2])
def test_a_slot_that_cannot_be_read_on_asks_for_a_rebuild(
    slot: SlotState | None, timeline: int
) -> None:
    history = found(slot=slot, timeline=timeline)
    assert history.is_new and not history.in_place
    with pytest.raises(Halt, match="changes were missed") as halt:
        history.require(rebuild=False, take_over=False)
    assert "`pgbridge apply`" in halt.value.hint
    history.require(rebuild=True, take_over=False)


@pytest.mark.parametrize(
    "history",
    [
        found(system="8"),
        found(replace(KNOWN, doubt="it was set back")),
        sinks_ahead(KNOWN, 4, "search"),
    ],
)
def test_another_source_asks_for_the_operators_word(history: History) -> None:
    """Whatever is configured: a bridge may still follow the other one."""
    assert history.asks is Asks.TAKE_OVER
    assert history.in_place
    with pytest.raises(Halt) as halt:
        history.require(rebuild=True, take_over=False)
    assert "apply --take-over" in halt.value.hint
    history.require(rebuild=False, take_over=True)


def test_another_source_without_the_slot_is_built_again() -> None:
    history = found(slot=None, system="8")
    assert history.asks is Asks.TAKE_OVER
    assert not history.in_place
