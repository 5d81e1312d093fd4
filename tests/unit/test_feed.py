"""The feed: one slot a key, one claim a slot."""

from __future__ import annotations

from bridge.feed import Feed
from bridge.ledger import Ledger, Ticket
from tests.unit.parts import GENERATION, ledger, operation


class Bench:
    def __init__(self) -> None:
        self.ledger: Ledger = ledger()
        self.feed = Feed(GENERATION, self.ledger)
        self.told: list[str] = []

    def ticket(self, name: str) -> Ticket:
        return Ticket(
            lambda: self.told.append(f"{name} kept"),
            lambda: self.told.append(f"{name} dropped"),
        )

    def keep_all(self) -> list[tuple[str, int]]:
        operations, claims = self.feed.take(100, 1 << 20)
        for claim in claims:
            self.feed.release(claim, 1)
        self.feed.flying.clear()
        return [(o.key, o.version) for o in operations]


def test_the_higher_version_goes_out() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 7)], entry, full=False)
    bench.feed.put([operation("1", 5)], entry, full=False)
    bench.feed.put([operation("2", 5)], entry, full=False)
    bench.feed.put([operation("2", 7)], entry, full=False)
    assert bench.keep_all() == [("1", 7), ("2", 7)]


def test_of_equal_versions_the_later_derived_goes_out() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5, b"old")], entry, full=False)
    bench.feed.put([operation("1", 5, b"new")], entry, full=False)
    operations, _ = bench.feed.take(1, 100)
    assert operations[0].document == b"new"


def test_coalescing_keeps_the_older_claim() -> None:
    """Else the newer entry would answer for a change that only the older brings."""
    bench = Bench()
    first, second = bench.ledger.enter(10, 0.0), bench.ledger.enter(20, 0.0)
    bench.feed.put([operation("1", 10)], first, full=False)
    bench.feed.put([operation("1", 20)], second, full=False)
    bench.ledger.derived(first)
    bench.ledger.derived(second)
    assert bench.ledger.kept(GENERATION) == 0
    bench.keep_all()
    assert bench.ledger.kept(GENERATION) == 20


def test_an_entry_takes_a_job_s_place_and_the_job_is_answered_for() -> None:
    bench = Bench()
    ticket, entry = bench.ticket("job"), bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5)], ticket, full=False)
    bench.feed.put([operation("1", 10)], entry, full=False)
    bench.ledger.derived(entry)
    assert bench.told == ["job kept"]
    assert bench.ledger.kept(GENERATION) == 0
    bench.keep_all()
    assert bench.ledger.kept(GENERATION) == 10


def test_a_job_does_not_take_an_entry_s_claim() -> None:
    bench = Bench()
    ticket, entry = bench.ticket("job"), bench.ledger.enter(10, 0.0)
    ticket.hold(1)
    bench.feed.put([operation("1", 10)], entry, full=False)
    bench.feed.put([operation("1", 15)], ticket, full=False)
    ticket.release(1)
    bench.ledger.derived(entry)
    assert bench.told == ["job kept"]
    assert bench.ledger.kept(GENERATION) == 0
    assert bench.keep_all() == [("1", 15)]
    assert bench.ledger.kept(GENERATION) == 10


def test_two_jobs_on_one_key_are_both_told() -> None:
    bench = Bench()
    one, two = bench.ticket("one"), bench.ticket("two")
    bench.feed.put([operation("1", 5)], one, full=False)
    bench.feed.put([operation("1", 6)], two, full=False)
    assert bench.told == []
    bench.keep_all()
    assert bench.told == ["one kept", "two kept"]


def test_a_full_lane_owes_keys_and_keeps_no_documents() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 10)], entry, full=True)
    bench.ledger.derived(entry)
    assert (len(bench.feed.waiting), bench.feed.bytes) == (0, 0)
    assert bench.feed.owed["1"].version == 10
    assert bench.ledger.kept(GENERATION) == 0, "owed is not kept"


def test_a_full_lane_still_renews_what_waits() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5)], entry, full=False)
    bench.feed.put([operation("1", 10)], entry, full=True)
    assert bench.keep_all() == [("1", 10)]
    assert not bench.feed.owed


def test_an_owed_key_is_paid_by_the_position_that_asked_or_above() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 10)], entry, full=True)
    bench.feed.put([operation("1", 10)], bench.ticket("job"), full=False)
    bench.ledger.derived(entry)
    assert not bench.feed.owed
    assert bench.ledger.kept(GENERATION) == 0, "paid when kept, not when derived"
    bench.keep_all()
    assert bench.ledger.kept(GENERATION) == 10


def test_an_owed_key_is_not_paid_by_a_lower_position() -> None:
    bench = Bench()
    first, second = bench.ledger.enter(10, 0.0), bench.ledger.enter(20, 0.0)
    bench.feed.put([operation("1", 20)], second, full=True)
    bench.feed.put([operation("1", 10)], first, full=False)
    bench.ledger.derived(first)
    bench.ledger.derived(second)
    assert bench.keep_all() == [("1", 10)]
    assert bench.feed.owed["1"].version == 20
    assert bench.ledger.kept(GENERATION) == 10


def test_the_highest_position_that_asked_is_owed() -> None:
    bench = Bench()
    entry = bench.ledger.enter(30, 0.0)
    for version in (10, 30, 20):
        bench.feed.put([operation("1", version)], entry, full=True)
    bench.feed.owe([("1", ("1",))], 25, entry)
    assert bench.feed.owed["1"].version == 30


def test_keys_under_way_are_left_waiting() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5), operation("2", 5)], entry, full=False)
    assert [o.key for o in bench.feed.take(1, 100)[0]] == ["1"]
    bench.feed.put([operation("1", 6)], entry, full=False)
    assert [o.key for o in bench.feed.take(10, 1 << 20)[0]] == ["2"]
    assert bench.feed.take(10, 1 << 20) == ([], [])
    bench.feed.flying.clear()
    assert [o.key for o in bench.feed.take(10, 1 << 20)[0]] == ["1"]


def test_bytes_are_those_of_what_waits() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5, b"x" * 100)], entry, full=False)
    bench.feed.put([operation("1", 6, b"x" * 900)], entry, full=False)
    bench.feed.put([operation("2", 6, None)], entry, full=False)
    assert bench.feed.bytes > 1000
    bench.keep_all()
    assert bench.feed.bytes == 0


def test_jobs_are_told_when_what_they_put_is_dropped() -> None:
    bench = Bench()
    one, two, three = (bench.ticket(name) for name in ("one", "two", "three"))
    bench.feed.put([operation("1", 5)], one, full=False)
    bench.feed.put([operation("2", 5)], two, full=True)
    bench.feed.put([operation("1", 6)], three, full=False)
    bench.feed.clear()
    assert sorted(bench.told) == ["one dropped", "three dropped", "two dropped"]
    assert not (bench.feed.waiting or bench.feed.owed or bench.feed.bytes)


def test_what_an_entry_puts_has_to_be_recorded_by_the_sink() -> None:
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 10)], entry, full=False)
    bench.ledger.derived(entry)
    bench.keep_all()
    assert bench.ledger.content(GENERATION) == 10
    assert bench.ledger.acknowledge() == 0


def test_what_is_still_to_arrive_is_known_by_its_version() -> None:
    """A sweep looks at the sink only when nothing older can come after its look."""
    bench = Bench()
    entry = bench.ledger.enter(10, 0.0)
    bench.feed.put([operation("1", 5), operation("2", 7)], entry, full=False)
    assert bench.feed.has_older(6) and not bench.feed.has_older(5)
    bench.feed.take(1, 1)
    assert bench.feed.has_older(6), "under way is not there yet"
    bench.feed.flying.clear()
    assert not bench.feed.has_older(6)
