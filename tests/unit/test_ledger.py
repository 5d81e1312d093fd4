"""The ledger: when the slot may move."""

from __future__ import annotations

from bridge.ledger import Ledger, Sweep, Ticket

A, B = "a", "b"


def made(start: int = 0) -> Ledger:
    ledger = Ledger(lambda: None)
    ledger.start(start)
    return ledger


def test_nothing_moves_before_the_batch_is_derived_and_kept_everywhere() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    assert ledger.acknowledge() == 0
    ledger.hold(entry, A, 2)
    ledger.hold(entry, B, 1)
    ledger.derived(entry)
    ledger.release(entry, A, 2)
    assert ledger.acknowledge() == 0
    ledger.release(entry, B, 1)
    assert ledger.acknowledge() == 100


def test_only_a_prefix_is_acknowledged() -> None:
    ledger = made()
    first, second = ledger.enter(100, 0.0), ledger.enter(200, 0.0)
    ledger.derived(second)
    assert ledger.acknowledge() == 0
    ledger.derived(first)
    assert ledger.acknowledge() == 200


def test_what_was_not_seen_to_be_visible_is_not_acknowledged() -> None:
    invisible: int | None = 100
    ledger = Ledger(lambda: invisible)
    ledger.start(0)
    for lsn in (100, 200):
        ledger.derived(ledger.enter(lsn, 0.0))
    assert ledger.acknowledge() == 100
    invisible = None
    assert ledger.acknowledge() == 200


def test_log_that_a_read_could_have_seen_comes_back_first() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.derived(entry, seen=150)
    assert ledger.acknowledge() == 0
    assert ledger.wants_wal_end()
    ledger.keepalive(149)
    assert ledger.acknowledge() == 0
    ledger.keepalive(150)
    assert ledger.acknowledge() == 150
    assert not ledger.wants_wal_end()


def test_a_batch_behind_is_held_by_the_read_of_one_before() -> None:
    ledger = made()
    first, second = ledger.enter(100, 0.0), ledger.enter(200, 0.0)
    ledger.derived(first, seen=300)
    ledger.derived(second)
    assert ledger.acknowledge() == 0
    ledger.keepalive(300)
    assert ledger.acknowledge() == 300


def test_an_insert_position_past_a_page_header_counts_as_the_page_start() -> None:
    ledger = made()
    ledger.derived(ledger.enter(8192, 0.0), seen=8192 + 24)
    assert ledger.acknowledge() == 8192


def test_the_sink_has_recorded_what_the_slot_moves_past() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.hold(entry, A, 1)
    ledger.note(A, 100)
    ledger.derived(entry)
    ledger.release(entry, A, 1)
    assert ledger.acknowledge() == 0
    ledger.recorded(A, 60)
    assert ledger.acknowledge() == 60
    ledger.recorded(A, 100)
    assert ledger.acknowledge() == 100


def test_a_sweep_has_no_place_to_record_in() -> None:
    """After a TRUNCATE it holds the slot until it is done, and no longer."""
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.hold(entry, Sweep(A), 1)
    ledger.derived(entry)
    assert ledger.acknowledge() == 0
    ledger.release(entry, Sweep(A), 1)
    assert ledger.acknowledge() == 100


def test_what_is_still_swept_does_not_show_yet() -> None:
    """Whoever waits for a TRUNCATE waits for its sweep, in this generation alone."""
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.hold(entry, Sweep(A), 1)
    ledger.derived(entry)
    assert (ledger.applied(A), ledger.applied(B)) == (0, 100)
    assert ledger.oldest(A) is entry
    assert ledger.oldest(A, sweeps=False) is None
    ledger.release(entry, Sweep(A), 1)
    assert ledger.applied(A) == 100


def test_nothing_waits_for_the_sweep_of_what_was_dropped() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.hold(entry, Sweep(A), 1)
    ledger.derived(entry)
    ledger.forget(A)
    assert ledger.acknowledge() == 100


def test_a_keepalive_moves_nothing_while_a_batch_is_outstanding() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.keepalive(500)
    assert ledger.acknowledge() == 0
    ledger.derived(entry)
    assert ledger.acknowledge() == 500


def test_a_keepalive_moves_the_slot_when_nothing_is_outstanding() -> None:
    ledger = made()
    ledger.keepalive(500)
    assert ledger.acknowledge() == 500


def test_what_comes_after_a_keepalive_is_not_acknowledged_by_it() -> None:
    ledger = made()
    first = ledger.enter(100, 0.0)
    ledger.keepalive(150)
    second = ledger.enter(200, 0.0)
    ledger.derived(first)
    assert ledger.acknowledge() == 150
    ledger.derived(second)
    assert ledger.acknowledge() == 200


def test_acknowledging_never_goes_back() -> None:
    ledger = made()
    ledger.derived(ledger.enter(100, 0.0))
    assert ledger.acknowledge() == 100
    ledger.note(A, 50)
    assert ledger.acknowledge() == 100


def test_a_dropped_generation_holds_nothing() -> None:
    ledger = made()
    entry = ledger.enter(100, 0.0)
    ledger.hold(entry, A, 1)
    ledger.note(A, 100)
    ledger.derived(entry)
    ledger.forget(A)
    assert ledger.acknowledge() == 100


def test_kept_is_told_for_each_generation() -> None:
    ledger = made()
    first, second = ledger.enter(100, 0.0), ledger.enter(200, 0.0)
    ledger.hold(first, A, 1)
    ledger.hold(second, B, 1)
    ledger.derived(first)
    ledger.derived(second)
    assert (ledger.kept(A), ledger.kept(B)) == (0, 100)
    assert ledger.oldest(B) is second
    ledger.release(first, A, 1)
    assert ledger.kept(A) == 200
    assert ledger.oldest(A) is None


def test_behind_is_as_old_as_the_first_commit_that_is_not_kept() -> None:
    ledger = made()
    first, second = ledger.enter(100, 7.0), ledger.enter(200, 9.0)
    for entry in (first, second):
        ledger.hold(entry, A, 1)
        ledger.derived(entry)
    assert (ledger.behind_since_s(A), ledger.behind_since_s(B)) == (7.0, 0.0)
    ledger.release(first, A, 1)
    assert ledger.behind_since_s(A) == 9.0
    ledger.set_aside(A, 100, 8.0)
    assert ledger.behind_since_s(A) == 8.0
    ledger.take_back(A)
    ledger.release(second, A, 1)
    assert ledger.behind_since_s(A) == 0.0


def test_a_position_is_applied_when_all_that_its_reads_have_seen_is_kept() -> None:
    ledger = made()
    first = ledger.enter(100, 0.0)
    ledger.derived(first, seen=180)
    second = ledger.enter(200, 0.0)
    assert ledger.kept(A) == 100
    assert ledger.applied(A) == 0, "a key query may have left a key to the second"
    ledger.derived(second)
    assert ledger.applied(A) == 200


def test_a_stream_that_starts_again_knows_nothing_of_the_one_before() -> None:
    ledger = made()
    ledger.hold(ledger.enter(100, 0.0), A, 1)
    ledger.note(A, 100)
    ledger.start(50)
    assert (ledger.outstanding, ledger.wal_end, ledger.content(A)) == (False, 50, 0)
    assert ledger.acknowledge() == 50


def test_what_a_job_has_seen_is_durable_when_the_log_has_come_back() -> None:
    ledger = made()
    assert not ledger.sent(150)
    ledger.keepalive(149)
    assert not ledger.sent(150)
    ledger.keepalive(150)
    assert ledger.sent(150)


def test_every_start_of_the_stream_is_another_era() -> None:
    ledger = made()
    era = ledger.era
    ledger.start(0)
    assert ledger.era != era


def test_a_ticket_calls_back_once_when_all_is_kept() -> None:
    told: list[str] = []
    ticket = Ticket(lambda: told.append("kept"), lambda: told.append("dropped"))
    ticket.hold(3)
    ticket.release(1)
    assert told == []
    ticket.release(2)
    assert told == ["kept"]


def test_a_dropped_ticket_is_never_kept() -> None:
    told: list[str] = []
    ticket = Ticket(lambda: told.append("kept"), lambda: told.append("dropped"))
    ticket.hold(2)
    ticket.drop()
    ticket.release(2)
    assert told == ["dropped"]


def test_a_batch_that_was_overtaken_still_says_what_its_reads_have_seen() -> None:
    """Whatever order they were derived in: a position counts only when all that the
    reads for it could have seen is kept."""
    ledger = made()
    slow, quick, last = (ledger.enter(lsn, 0.0) for lsn in (100, 200, 900))
    ledger.hold(last, A, 1)
    ledger.derived(quick, seen=250)
    ledger.derived(slow, seen=800)
    ledger.derived(last)
    # Kept up to 200, but the reads of the first batch may have seen 800.
    assert ledger.kept(A) == 200
    assert ledger.applied(A) == 0
    ledger.release(last, A, 1)
    assert ledger.applied(A) == 900


def test_what_pays_a_debt_may_be_on_its_way_still() -> None:
    """Taken back, a generation stands where it stood until that is kept."""
    ledger = made()
    ledger.set_aside(A, 50, 0.0)
    first, later = ledger.enter(100, 0.0), ledger.enter(200, 0.0)
    ledger.hold(later, A, 1)
    for entry in (first, later):
        ledger.derived(entry)
    ledger.take_back(A)
    assert ledger.applied(A) == 50
    ledger.release(later, A, 1)
    assert ledger.applied(A) == 200


def test_a_stream_that_begins_again_has_not_come_to_where_one_stood() -> None:
    """Nothing is told to be applied that the server has not sent again."""
    ledger = made()
    ledger.set_aside(A, 50, 0.0)
    ledger.enter(100, 0.0)
    ledger.take_back(A)
    ledger.start(30)
    assert ledger.applied(A) == 30
    ledger.keepalive(70)
    assert ledger.applied(A) == 50
