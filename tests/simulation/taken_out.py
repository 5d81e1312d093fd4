"""Each rule of the design taken out, one at a time, and the world that needs it most.

The one thing to know: nothing here is ever installed but by the `with` of a single run
of `mutants`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import bridge.backfill.ranges
import bridge.backfill.rederive
import bridge.derive.deriver
import bridge.feed
import bridge.ledger
import bridge.watch
from bridge.backfill.receipt import Receipt
from bridge.batch import FanOut, Overtaken
from bridge.deliver import Lane
from bridge.derive.deriver import Deriver
from bridge.doubt import Doubt
from bridge.errors import Transient
from bridge.feed import Feed, size_of
from bridge.gate import Gate, Snapshot
from bridge.ledger import Entry, Ledger, Ticket
from bridge.markers import Markers
from bridge.operations import Report
from bridge.parking import Parking
from bridge.pipeline import Pipeline
from bridge.position import Position
from bridge.progress import Progress
from bridge.sink import Generation, Sink, Stored
from bridge.standing import Standing
from bridge.watch import Watch
from tests.simulation import worlds
from tests.simulation.sinks import Store
from tests.simulation.world import World


class Mutant(NamedTuple):
    """A rule that is left out, and the faults that need it most."""

    rule: str
    patches: Callable[[], list[Any]]
    """Those of the bridge's code; none where the world itself is what is wrong."""
    world: Callable[[int], World] = World
    unit: str = ""
    """A test in `tests/unit` that fails too."""


def _patch(owner: Any, name: str, value: Any) -> Any:
    return mock.patch.object(owner, name, value)


def _no_memory(owner: Any, name: str) -> Any:
    """An attribute of instances that is None, whatever is written to it."""
    forgets = property(lambda _: None, lambda *_: None)
    return mock.patch.object(owner, name, forgets, create=True)


def _at_once_passes(gate: Gate, _snapshot: Any, _lsn: int, *_: Any) -> bool:
    gate._unseen.clear()
    return True


def _only_newest(gate: Gate, snapshot: Any, lsn: int, *_: Any) -> bool:
    if snapshot.xmin < gate._barrier or lsn > gate._reached:
        return False
    if gate._unseen and not snapshot.sees(next(reversed(gate._unseen))):
        return False
    gate._unseen.clear()
    return True


def _start_and_pass(gate: Gate, lsn: int) -> None:
    gate._unseen.clear()
    gate._reached = 1 << 52


def _at_read(
    derive: Any, reader: Any, plan: Any, keys: Any, version: int, **rest: Any
) -> Any:
    epoch = Position.of_version(version).epoch
    return derive(
        reader, plan, keys, Position(epoch, reader.insert_lsn).version, **rest
    )


async def _processed(markers: Markers) -> int:
    """The position last processed, in place of a marker."""
    await asyncio.sleep(0)
    gate: Gate = markers._emit.__self__.gate_of_the_moment  # type: ignore[attr-defined]
    return gate._reached


def _keepalive_closes(ledger: Ledger, wal_end: int) -> None:
    ledger._wal_end = max(ledger._wal_end, wal_end)
    ledger._closed = max(ledger._closed, wal_end)


def _owes_nothing_higher(owed: Any, parts: Any, version: int, claim: Any) -> Any:
    return owed(parts, 0, claim)


class _NeverFull(dict[str, int]):
    """Forgets what is under way."""

    def __setitem__(self, _key: str, _version: int) -> None:
        return


def _forgetful_feed(init: Any, feed: Feed, *args: Any) -> None:
    init(feed, *args)
    feed.flying = _NeverFull()


@contextmanager
def _deaf(_fan_out: FanOut, *_: Any) -> Iterator[Overtaken]:
    yield Overtaken()


def _newer_claim(_feed: Feed, older: Any, claim: Any) -> Any:
    if older is claim:
        return older
    if isinstance(claim, Entry):
        _feed._hold(claim, 1)
        _feed.release(older, 1)
        return claim
    if isinstance(older, Entry):
        claim.hold(1)
        _feed.release(older, 1)
        return claim
    claim.hold(1)
    older.release(1)
    return claim


async def _gives_up(call: Any, lane: Lane, feed: Feed, operations: Any) -> Report:
    report: Report | None = await call(lane, feed, operations)
    return Report(kept=len(operations)) if report is None else report


async def _no_wait(receipt: Any) -> None:
    receipt.ticket.release(1)


async def _at_once(*_: Any) -> None:
    return


def _no_seen(derived: Any, ledger: Ledger, entry: Entry, seen: int = 0) -> None:
    derived(ledger, entry, 0)


def _naive_xid(snapshot: Snapshot, xid: int) -> int:
    return snapshot.xmax - snapshot.xmax % (1 << 32) + xid


def _later_wins(feed: Feed, there: Any, operation: Any, claim: Any) -> None:
    old, older = there
    feed.waiting[operation.key] = (operation, feed._merge(older, claim))
    feed.bytes += size_of(operation) - size_of(old)


def _whatever_comes(overtaken: Overtaken, operations: list[Any]) -> list[Any]:
    return [o for o in operations if o.key not in overtaken]


async def _unrecorded(parking: Parking, feed: Feed) -> None:
    parking._lane.recorded_debts += len(feed.record(20_000))


async def _owes_once(owe: Any, parking: Parking, generation: Any) -> None:
    await owe(parking, generation)
    parking._sweeps[generation] = 1


async def _no_look_back(watch: Watch, parked: Any, *, crashed: bool) -> None:
    return


async def _settled(doubt: Doubt) -> None:
    doubt.suspect = doubt._ledger.frozen = False
    await doubt._settled()


def _sweep_unseen(entry: Entry, holder: Any) -> bool:
    return not entry.derived or holder in entry.holds


async def _listed_once(
    _pipeline: Any, sink: Sink, generation: Generation, *, documents: bool
) -> AsyncIterator[list[Stored]]:
    with suppress(Transient):
        async for page in sink.scan(generation, documents=documents):
            yield page


def _forget_nothing(deriver: Deriver) -> None:
    deriver._waiting.clear()
    deriver._taken.set()


def _clear_in_silence(feed: Feed) -> None:
    feed.waiting.clear()
    feed.owed.clear()
    feed.bytes = 0


def _unseen_below(fail_over: Any, store: Store) -> None:
    """A mark that is the highest version kept shows a loss only where that is lost."""

    def highest() -> int:
        held = [s.version for place in store.places.values() for s in place.values()]
        return max(held, default=0)

    before, mark = highest(), store.mark
    fail_over(store)
    if highest() == before:
        store.mark = mark


def _wrapped(owner: Any, name: str, wrapper: Any) -> Any:
    """A method replaced by `wrapper`, which is given the one it replaces."""
    original = getattr(owner, name)

    def call(*args: Any, **rest: Any) -> Any:
        return wrapper(original, *args, **rest)

    return mock.patch.object(owner, name, call)


def _unwatched_acknowledgement(init: Any, ledger: Ledger, _from: Any) -> None:
    init(ledger, lambda: None)


MUTANTS = [
    Mutant(
        "no gate: read at once",
        lambda: [_patch(Gate, "passes", _at_once_passes)],
    ),
    Mutant(
        "only the newest transaction has to be visible",
        lambda: [_patch(Gate, "passes", _only_newest)],
    ),
    Mutant(
        "no barrier after the slot was made",
        lambda: [
            _patch(Gate, "raise_barrier", lambda *_: None),
            _wrapped(Gate, "__init__", lambda init, gate, *_: init(gate)),
        ],
        worlds.unseen,
    ),
    Mutant(
        "a stream that starts again opens the gate",
        lambda: [_patch(Gate, "start", _start_and_pass)],
        worlds.restarted,
    ),
    Mutant(
        "a snapshot shows what others have shown",
        lambda: [
            _wrapped(
                Gate,
                "passes",
                lambda passes, gate, shot, lsn, *_: passes(gate, shot, lsn),
            )
        ],
        worlds.unseen,
        "test_gate.py::test_a_snapshot_that_is_older_than_it_looks_does_not_pass",
    ),
    Mutant(
        "what is invisible for longer than deletes are remembered",
        lambda: [_patch(Gate, "look", lambda g, snapshot, _: g.passes(snapshot, 0))],
        worlds.swaps,
        "test_gate.py::"
        "test_nothing_is_read_without_a_commit_that_is_invisible_for_long",
    ),
    Mutant(
        "acknowledge what is not visible",
        lambda: [
            _wrapped(Ledger, "__init__", _unwatched_acknowledgement),
            # Positions written down hold the slot back too, and wait to be visible.
            _patch(Progress, "reached", lambda p, g: p._ledger.applied(g)),
        ],
        worlds.direct,
    ),
    Mutant(
        "version = log position at the time of reading",
        lambda: [
            _wrapped(module, "derive", _at_read)
            for module in (
                bridge.derive.deriver,
                bridge.backfill.ranges,
                bridge.backfill.rederive,
            )
        ],
    ),
    Mutant(
        "a repair at the position last processed",
        lambda: [_patch(Markers, "next", _processed)],
    ),
    Mutant(
        "ids are compared in 32 bits",
        lambda: [_patch(Snapshot, "full_xid", _naive_xid)],
    ),
    Mutant("no version check in the sink", list, worlds.without_versions),
    Mutant("a request outlives the tombstones", list, worlds.forgetful_sinks),
    Mutant(
        "of two that wait for a key the later derived goes out",
        lambda: [_patch(Feed, "_replace", _later_wins)],
        worlds.swaps,
        "test_feed.py::test_the_higher_version_goes_out",
    ),
    Mutant(
        "a keepalive moves the slot while data is outstanding",
        lambda: [_patch(Ledger, "keepalive", _keepalive_closes)],
    ),
    Mutant(
        "acknowledge before the sinks have kept it",
        lambda: [
            _patch(Ledger, "hold", lambda *_: None),
            _patch(Ledger, "release", lambda *_: None),
        ],
    ),
    Mutant(
        "an owed key is paid by a lower position",
        lambda: [_wrapped(bridge.feed, "Owed", _owes_nothing_higher)],
        worlds.debtors,
        "test_feed.py::test_an_owed_key_is_not_paid_by_a_lower_position",
    ),
    Mutant(
        "a debt is released before it is written down",
        lambda: [_patch(Parking, "_record_feed", _unrecorded)],
        partial(World, faults=("pause", "idle", "kill")),
    ),
    Mutant(
        "what a sink has answered for is not written down",
        lambda: [_patch(Standing, "answered", _at_once)],
        worlds.hosts,
    ),
    Mutant(
        "keys that the stream overtook stay in the chunk",
        lambda: [_patch(FanOut, "watch", _deaf)],
        worlds.deleted,
    ),
    Mutant(
        "what the stream brings of an earlier position overtakes a job",
        lambda: [_patch(Overtaken, "left", _whatever_comes)],
        worlds.emptied,
        "test_batch.py::test_a_job_is_overtaken_by_later_positions_alone",
    ),
    Mutant(
        "what is still being read goes into a generation added since",
        lambda: [_patch(FanOut, "_is_for", lambda *_: True)],
        worlds.emptied,
        "test_batch.py::test_what_was_being_read_is_not_for_a_generation_added_since",
    ),
    Mutant(
        "a chunk read before a TRUNCATE is written",
        lambda: [_patch(FanOut, "truncated", lambda *_: None)],
        worlds.emptied,
        "test_batch.py::test_a_truncated_table_makes_void_what_jobs_have_read",
    ),
    Mutant(
        "the log that a read has seen is not waited for",
        lambda: [_wrapped(Ledger, "derived", _no_seen)],
        worlds.undone,
    ),
    Mutant(
        "a TRUNCATE counts as applied before its sweep is done",
        lambda: [_patch(bridge.ledger, "_waits", _sweep_unseen)],
        partial(World, faults=("truncate", "pause")),
    ),
    Mutant(
        "a sweep ends before what the stream had on its way is kept",
        lambda: [_patch(bridge.watch, "arrived", _at_once)],
        worlds.emptied_late,
    ),
    Mutant(
        "what a crash has taken back stays in the sinks",
        lambda: [_patch(Doubt, "settle", _settled)],
        partial(World, faults=("crash", "repair")),
    ),
    Mutant(
        "nobody looks whether the slot was moved",
        lambda: [
            _patch(Watch, "_look_back", _no_look_back),
            _no_memory(Progress, "_moved_to"),
        ],
        partial(World, faults=("forward", "kill", "idle")),
    ),
    Mutant(
        "jobs write what may still be lost",
        lambda: [
            _patch(bridge.backfill.ranges, "durable", _at_once),
            _patch(bridge.backfill.rederive, "durable", _at_once),
        ],
        worlds.undone_jobs,
    ),
    Mutant(
        "two writes of a key under way",
        lambda: [_wrapped(Feed, "__init__", _forgetful_feed)],
        partial(World, faults=("sink_partial", "sink_slow")),
    ),
    Mutant(
        "coalescing keeps the newer claim",
        lambda: [_patch(Feed, "_merge", _newer_claim)],
        partial(World, faults=("sink_slow", "sink_away", "kill")),
    ),
    Mutant(
        "what failed is not called again",
        lambda: [_wrapped(Lane, "_call", _gives_up)],
    ),
    Mutant(
        "progress of a build before it is kept",
        lambda: [_patch(Receipt, "kept", _no_wait)],
        partial(World, faults=("kill", "rebuild", "sink_slow")),
    ),
    Mutant(
        "a derivation outlives its stream",
        lambda: [_patch(Deriver, "forget", _forget_nothing)],
    ),
    Mutant(
        "jobs are not told that the stream began again",
        lambda: [_patch(Ticket, "drop", lambda *_: None)],
        worlds.rebuilt,
    ),
    Mutant(
        "writes are sent without a stream",
        lambda: [_patch(Pipeline, "_hold", lambda *_: None)],
    ),
    Mutant(
        "the epoch does not grow when history changes",
        list,
        partial(World, grows_epoch=False),
    ),
    Mutant(
        "the epoch is the source's alone, which went back with it",
        list,
        partial(World, asks_sinks=False, faults=("restore",)),
    ),
    Mutant(
        "an owed key of which no document can be made stays owed",
        lambda: [_patch(FanOut, "settle", lambda *_: None)],
        worlds.refused,
        "test_rederive.py::test_an_owed_key_that_has_no_document_is_owed_no_more",
    ),
    Mutant(
        "what the stream has brought since has a letter of an earlier position",
        lambda: [_patch(Overtaken, "has", lambda *_: False)],
        worlds.refused,
        "test_rederive.py::test_what_the_stream_has_brought_since_has_no_letter",
    ),
    Mutant(
        "a look that began before starts a paused sink",
        lambda: [_patch(Lane, "found", Lane.set_state)],
        worlds.paused_debtors,
        "test_paying.py::test_a_sink_that_is_paused_as_it_is_asked_stays_paused",
    ),
    Mutant(
        "a sweep answers for what was lost while it was under way",
        lambda: [_wrapped(Parking, "_owe_sweep", _owes_once)],
        worlds.losing_debtors,
        "test_paying.py::test_what_is_owed_as_an_earlier_sweep_ends_stays_written_down",
    ),
    Mutant(
        "a sink that was parked meanwhile has paid",
        lambda: [_patch(Lane, "paid", lambda e: not setattr(e, "in_debt", False))],
        worlds.losing_debtors,
        "test_paying.py::test_what_is_lost_as_the_last_debt_is_paid_is_paid_too",
    ),
    Mutant(
        "a sink's mark is a version",
        lambda: [_wrapped(Store, "fail_over", _unseen_below)],
        partial(World, faults=("sink_fail_over", "sink_slow", "repair")),
    ),
    Mutant(
        "a sweep looks before what is being read has arrived",
        lambda: [_patch(Ledger, "derived_to", lambda *_: True)],
        worlds.emptied_often,
        unit="test_ghosts.py",
    ),
    Mutant(
        "a sweep looks before what waits has arrived",
        lambda: [_patch(Feed, "has_older", lambda *_: False)],
        worlds.emptied_twice,
        unit="test_ghosts.py",
    ),
    Mutant(
        "a listing that was lost is taken for whole",
        lambda: [_patch(bridge.backfill.rederive, "listed", _listed_once)],
        partial(World, faults=("truncate", "sink_away", "rebuild")),
    ),
]
