"""Deriving what a batch touches: much of it in pieces, which hold up nobody; and no
snapshot is held while a sink is waited for."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import pytest

from bridge.changes import Value
from bridge.derive.deriver import DeriveLimits, Deriver, Work
from bridge.derive.view import KeyQuery, TableName, ViewPlan
from bridge.errors import ViewHalt
from bridge.gate import Gate, Snapshot
from bridge.keys import Parts
from bridge.ledger import Entry, Ledger
from bridge.operations import Operation
from bridge.source import Failure, QueryFailed, Row, Source
from tests.unit.parts import SHAPE, until

LIMITS = DeriveLimits(keys_max=10, at_once_max=20, memory_keys_max=30)


LED = KeyQuery(TableName(1, "public", "t"), "t", ("link",), "select …", "cast …")
FORMER, FAILING = b"of a former type", b"0"
"""Values for which the key query fails: one cannot be cast, of the other it is zero."""


def plan(name: str) -> ViewPlan:
    nothing: dict[str, Any] = dict.fromkeys(ViewPlan.__dataclass_fields__, "")
    del nothing["depends_on"]
    return ViewPlan(
        **nothing | {"name": name, "shape": SHAPE, "tables": (), "key_queries": (LED,)}
    )


class Reader:
    """A snapshot in which every key has a document; keys are found for some images."""

    snapshot = Snapshot(1000, 1000, frozenset())

    def __init__(self, insert_lsn: int) -> None:
        self.insert_lsn = insert_lsn

    async def keys(
        self, _query: KeyQuery, images: Sequence[tuple[Value, ...]]
    ) -> AsyncIterator[list[Parts]]:
        if not {(FORMER,), (FAILING,)}.isdisjoint(images):
            raise QueryFailed("it fails")
        if images:
            yield [(str(n),) for n in range(100)]

    async def unfit(
        self, cast_sql: str, rows: Collection[tuple[Value, ...]]
    ) -> set[tuple[Value, ...]]:
        return {(FORMER,)}.intersection(rows) if cast_sql == LED.cast_sql else set()

    async def documents(
        self, plan: ViewPlan, keys: Sequence[Parts], *, careful: bool = False
    ) -> tuple[list[Row], list[Failure]]:
        return [Row(key, b"{}") for key in keys], []


class Bench:
    """A deriver, and all that it puts and tells.

    `narrow`: whatever is put fills the lanes, until `room` is set.
    """

    def __init__(self, limits: DeriveLimits = LIMITS, *, narrow: bool = False) -> None:
        self.ledger = Ledger(lambda: None)
        self.ledger.start(0)
        self.gate = Gate()
        self.calm = True
        self.lsn = 0
        self.puts: list[tuple[str, Sequence[Operation], Entry]] = []
        self.swept: list[tuple[str, int, Entry]] = []
        self.spread_keys = 0
        self.reads = self.open = 0
        self.narrow, self.full = narrow, False
        self.waited_with_a_snapshot = False
        self.room = asyncio.Event()
        self.deriver = Deriver(
            epoch=1,
            source=cast("Source", self),
            gate=self.gate,
            ledger=self.ledger,
            plans={name: plan(name) for name in ("hot", "other")},
            put=self._put,
            reads=lambda *_: None,
            sweep=self._sweep,
            full=lambda: self.full,
            reject=None,  # type: ignore[arg-type] - nothing fails
            room=self._room,
            calm=lambda: self.calm,
            cost=self,
            limits=limits,
        )

    @asynccontextmanager
    async def read(self, *, scanning: bool = False) -> AsyncIterator[Reader]:
        self.reads, self.open = self.reads + 1, self.open + 1
        try:
            yield Reader(self.lsn + self.reads)
        finally:
            self.open -= 1

    def _put(
        self, view: str, operations: Sequence[Operation], claim: Entry, _lsn: int
    ) -> None:
        self.puts.append((view, operations, claim))
        self.full = self.narrow

    def _sweep(self, view: str, lsn: int, entry: Entry) -> None:
        assert not entry.derived, "it could be acknowledged"
        self.swept.append((view, lsn, entry))

    async def _room(self) -> None:
        await asyncio.sleep(0)
        if self.full:
            self.waited_with_a_snapshot |= self.open > 0
            await self.room.wait()
            self.room.clear()
            self.full = False

    def found(self, view: str, keys: int, /) -> None:
        """Not looked at."""

    def derived(self, view: str, keys: int, seconds: float, /) -> None:
        """Not looked at."""

    def spread(self, keys: int, /) -> None:
        self.spread_keys = keys

    async def take(self, **keys: int) -> Entry:
        """A batch that touches so many keys of each view."""
        self.lsn += 100
        entry = self.ledger.enter(self.lsn, 0.0)
        self.gate.streamed([], entry.start, self.lsn)
        touched = {
            view: [(str(n),) for n in range(many)] for view, many in keys.items()
        }
        await self.deriver.take(Work(entry, self.lsn, touched))
        return entry

    async def spreads(self, **keys: int) -> Entry:
        """A batch that touches many, and of which no piece is derived until `calm`."""
        self.calm = False
        entry = await self.take(**keys)
        await until(lambda: self.spread_keys)
        return entry

    def keys(self, view: str) -> list[str]:
        return [o.key for name, put, _ in self.puts if name == view for o in put]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.deriver.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_later_batches_overtake_what_touches_many_keys() -> None:
    async with Bench() as bench:
        hot = await bench.spreads(hot=100)
        other = await bench.take(other=3)
        await until(lambda: other.derived)
        assert bench.keys("other") == ["0", "1", "2"]
        assert not hot.derived
        assert bench.ledger.acknowledge() == 0
        bench.calm = True
        await until(lambda: hot.derived)
        assert sorted(bench.keys("hot"), key=int) == [str(n) for n in range(100)]
        assert bench.spread_keys == 0


class Rows(list[tuple[Value, ...]]):
    """Such as a batch brings; a plain list cannot be watched."""


async def test_what_is_spread_does_not_keep_its_batches_in_memory() -> None:
    """The keys of a huge transaction may be on disk; its images are nowhere."""
    async with Bench() as bench:
        bench.calm = False
        entry = bench.ledger.enter(100, 0.0)
        bench.gate.streamed([], 0, 100)
        rows = Rows([("1",)])
        left = weakref.ref(rows)
        await bench.deriver.take(Work(entry, 100, images={("hot", 0): rows}))
        del rows
        await until(lambda: bench.spread_keys)
        bench.lsn = 100
        other = await bench.take(other=1)
        await until(lambda: other.derived)
        gc.collect()
        assert not entry.derived
        assert left() is None


async def test_what_the_log_names_is_derived_at_once_and_not_again() -> None:
    async with Bench() as bench:
        bench.calm = False
        entry = bench.ledger.enter(50, 0.0)
        bench.gate.streamed([], 0, 50)
        work = Work(entry, 50, {"hot": [("7",)]}, {("hot", 0): [(b"1",)]})
        await bench.deriver.take(work)
        await until(lambda: bench.spread_keys)
        assert bench.keys("hot") == ["7"]
        assert bench.spread_keys == 99
        bench.calm = True
        await until_derived(entry)
        assert sorted(bench.keys("hot"), key=int) == [str(n) for n in range(100)]


async def test_a_value_of_a_former_type_sweeps_the_views_of_its_batch() -> None:
    """The keys that the others lead to are derived, and nothing is acknowledged."""
    async with Bench() as bench:
        entries = [bench.ledger.enter(at, 0.0) for at in (50, 60)]
        bench.gate.streamed([], 0, 60)
        bench.deriver._waiting += [
            Work(entries[0], 50, images={("hot", 0): [(b"1",), (FORMER,)]}),
            Work(entries[1], 60, images={("other", 0): [(b"1",)]}),
        ]
        bench.deriver._arrived.set()
        for entry in entries:
            await until_derived(entry)
        assert bench.swept == [("hot", 50, entries[0])]
        for view in ("hot", "other"):
            assert sorted(bench.keys(view), key=int) == [str(n) for n in range(100)]


async def test_a_key_query_that_fails_for_a_row_as_it_is_halts_its_view() -> None:
    bench = Bench()
    entry = bench.ledger.enter(50, 0.0)
    bench.gate.streamed([], 0, 50)
    images = {("hot", 0): [(FAILING,), (FORMER,)]}
    await bench.deriver.take(Work(entry, 50, images=images))
    with pytest.raises(ViewHalt, match="a key query fails"):
        await bench.deriver.run()
    assert not entry.derived


async def test_pieces_are_claimed_by_their_batch_at_the_position_reached() -> None:
    async with Bench() as bench:
        hot = await bench.spreads(hot=100)
        await until_derived(await bench.take(other=1))
        bench.calm = True
        await until_derived(hot)
        for view, operations, claim in bench.puts:
            if view == "hot":
                assert claim is hot
                assert len(operations) <= LIMITS.keys_max
                # Read in a snapshot that may be read for the batch after it, too.
                assert {o.version for o in operations} == {(1 << 53) + 200}


async def test_a_row_that_goes_on_changing_is_derived_once_more_and_not_more() -> None:
    async with Bench() as bench:
        entries = [await bench.spreads(hot=100)]
        for _ in range(20):
            entries.append(await bench.take(hot=100))
            await until(lambda: not bench.deriver._waiting)
        bench.calm = True
        for entry in entries:
            await until_derived(entry)
        assert len(bench.keys("hot")) == 200


async def test_what_reads_of_a_spread_have_seen_is_waited_for() -> None:
    async with Bench() as bench:
        hot = await bench.spreads(hot=100)
        await until_derived(await bench.take(other=1))
        bench.calm = True
        await until_derived(hot)
        assert hot.seen == bench.lsn + bench.reads


async def test_a_stream_that_starts_again_forgets_what_is_spread() -> None:
    async with Bench() as bench:
        hot = await bench.spreads(hot=100)
        bench.deriver.forget()
        bench.calm = True
        await until_derived(await bench.take(other=1))
        assert not hot.derived
        assert bench.keys("hot") == []


async def test_no_snapshot_is_open_while_there_is_no_room() -> None:
    """It would hold back vacuum for as long as a sink is away."""
    async with Bench(DeriveLimits(keys_max=1), narrow=True) as bench:
        entry = bench.ledger.enter(50, 0.0)
        bench.gate.streamed([], 0, 100)
        keys: list[Parts] = [("1",), ("2",), ("3",)]
        await bench.deriver.take(Work(entry, 50, {"other": keys}))
        for count in (1, 2, 3):
            await until(lambda count=count: len(bench.puts) == count)  # type: ignore[misc]
            await until(lambda: not bench.open)
            assert entry.derived is (count == 3)
            bench.room.set()
        assert bench.keys("other") == ["1", "2", "3"]
        assert bench.reads == 3
        assert not bench.waited_with_a_snapshot


async def until_derived(entry: Entry) -> None:
    await until(lambda: entry.derived)
