"""Work that outlives restarts: backfills, owed keys, dead letters, commands."""

from __future__ import annotations

import os

import psycopg

from bridge.position import Position
from bridge.store import Store
from bridge.store.rows import (
    BackfillKind,
    Bounds,
    CommandState,
    GenerationKey,
    Letter,
    OwedKey,
    Stage,
    WorkState,
)
from tests.integration.store.conftest import add_target

ODD = ('a"b\\c,{}', None, "", "NULL", "ü%00", " x ")


# — backfills —


async def test_a_backfill_is_resumed_where_it_was(
    store: Store, building: GenerationKey
) -> None:
    backfills = store.backfills
    number = await backfills.create(building, view="product", kind=BackfillKind.BUILD)
    assert number == await backfills.create(
        building, view="product", kind=BackfillKind.BUILD
    )
    assert await backfills.start(number, marker=Position(2, 700), estimate=1000)
    ranges = [(0, Bounds(None, ODD)), (1, Bounds(ODD, ("z",) * 6))]
    await backfills.add_ranges(number, ranges)
    await backfills.add_ranges(
        number, [(1, Bounds(None, None)), (2, Bounds(ODD, None))]
    )
    await backfills.finish_ranges(number, [0], documents=500)
    await backfills.finish_ranges(number, [0], documents=500)  # the answer was lost
    found = await backfills.ranges(number)
    assert [(r.seq, r.bounds) for r in found] == [*ranges, (2, Bounds(ODD, None))]
    assert [r.done for r in found] == [True, False, False]
    (row,) = await backfills.open()
    assert (row.id, row.state, row.documents) == (number, WorkState.RUNNING, 500)
    assert (row.marker, row.estimate) == (Position(2, 700), 1000)
    await backfills.restart(number)
    (row,) = await backfills.open()
    assert (row.state, row.documents, row.marker) == (WorkState.WAITING, 0, None)
    assert await backfills.ranges(number) == []


async def test_a_backfill_ends_once(store: Store, building: GenerationKey) -> None:
    number = await store.backfills.create(
        building, view="product", kind=BackfillKind.SWEEP
    )
    assert await store.backfills.finish(number, WorkState.CANCELLED, "by somebody")
    assert not await store.backfills.finish(number, WorkState.DONE)
    row = await store.backfills.read(number)
    assert row is not None
    assert (row.state, row.message) == (WorkState.CANCELLED, "by somebody")


async def test_a_command_starts_each_of_its_backfills_once(
    store: Store, building: GenerationKey
) -> None:
    command = await store.commands.backfill("product", keys=["1", "2"])
    numbers = set()
    for _ in range(2):
        number = await store.backfills.create(
            building,
            view="product",
            kind=BackfillKind.KEYS,
            keys=["1", "2"],
            command=command,
        )
        numbers.add(number)
        await store.backfills.finish(number, WorkState.DONE)
    (row,) = await store.backfills.of_command(command)
    assert {row.id} == numbers
    assert (row.keys, row.state) == (("1", "2"), WorkState.DONE)


# — owed keys —


async def test_owed_keys_keep_the_highest_position_that_asked(
    store: Store, building: GenerationKey
) -> None:
    def owed(epoch: int, lsn: int) -> OwedKey:
        return OwedKey("k", ODD, Position(epoch, lsn))

    await store.owed.add(building, [owed(1, 900), owed(1, 950), owed(1, 20)])
    assert await store.owed.page(building) == [owed(1, 950)]
    await store.owed.add(building, [owed(2, 10)])
    await store.owed.add(building, [owed(1, 960)])
    assert await store.owed.page(building) == [owed(2, 10)]
    await store.owed.remove(building, [("k", Position(1, 5000))])
    await store.owed.remove(building, [("k", Position(2, 9))])
    assert await store.owed.count() == {building: 1}
    await store.owed.remove(building, [("other", Position(3, 1))])
    await store.owed.remove(building, [("k", Position(2, 10))])
    assert await store.owed.count() == {}


async def test_owed_keys_are_paged_through(
    store: Store, building: GenerationKey
) -> None:
    keys = [OwedKey(f"{n:05}", (str(n),), Position(1, n)) for n in range(12_000)]
    await store.owed.add(building, keys)
    found: list[OwedKey] = []
    while page := await store.owed.page(
        building, after=found[-1].key if found else "", count=5000
    ):
        found += page
    assert sorted(found) == keys
    await store.owed.remove_up_to(building, Position(1, 11_997))
    assert {one.key for one in await store.owed.page(building)} == {"11998", "11999"}


async def test_a_forgotten_generation_is_owed_nothing(
    store: Store, building: GenerationKey
) -> None:
    gone = building._replace(number=9)
    await store.owed.add(gone, [OwedKey("1", ("1",), Position(1, 1))])
    await store.letters.save(
        gone, "product", [Letter("1", ("1",), Stage.DERIVE, "no", 1)]
    )
    assert await store.owed.count() == {}
    assert await store.letters.count() == {}


# — dead letters —


async def test_a_dead_letter_goes_when_a_later_version_is_kept(
    store: Store, building: GenerationKey
) -> None:
    letters = store.letters
    await letters.save(
        building, "product", [Letter("k", ODD, Stage.DELIVER, "mapping", 50)]
    )
    await letters.save(
        building, "product", [Letter("k", ODD, Stage.DERIVE, "division", 60)]
    )
    await letters.save(
        building, "product", [Letter("k", ODD, Stage.DELIVER, "replayed", 50)]
    )
    (row,) = await letters.list("product", ["k"])
    assert (row.reason, row.stage, row.version) == ("division", Stage.DERIVE, 60)
    assert (row.parts, row.attempts, row.generation) == (ODD, 2, building)
    await letters.clear(building, [("k", 59), ("other", 99)])
    assert await letters.keys() == {building: {"k": 60}}
    await letters.clear(building, [("k", 60)])
    assert await letters.keys() == {}


async def test_dead_letters_are_listed_and_dropped_by_view_and_key(
    store: Store, building: GenerationKey
) -> None:
    other = await add_target(store, "es", "authors", "author")
    for key, view in ((building, "product"), (other, "author")):
        await store.letters.save(
            key,
            view,
            [Letter(text, (text,), Stage.DERIVE, "x" * 5000, 1) for text in "ab"],
        )
    assert await store.letters.count() == {building: 2, other: 2}
    assert [row.key for row in await store.letters.list("author")] == ["a", "b"]
    assert len(await store.letters.list(count=3)) == 3
    told, last = [], None
    while page := await store.letters.list(count=3, after=last):
        told += page
        last = page[-1]
    assert told == await store.letters.list()
    assert [(row.view, row.key) for row in told] == [
        (view, key) for view in ("author", "product") for key in "ab"
    ]
    totals = [await store.letters.total(*each) for each in ((), ("author",))]
    assert (totals, await store.letters.total("author", ["a", "c"])) == ([4, 2], 1)
    assert all(len(row.reason) == 1000 for row in await store.letters.list())
    assert await store.letters.drop("author", ["a", "nosuch"]) == 1
    assert await store.letters.drop("product") == 2
    assert await store.letters.count() == {other: 1}
    assert await store.letters.drop() == 1


# — commands —


async def test_a_command_has_one_outcome(store: Store, building: GenerationKey) -> None:
    commands = store.commands
    number = await commands.backfill("product")
    assert await commands.start(number, lsn=700)
    assert await commands.start(number)  # a restart goes on with it
    (row,) = await commands.open()
    assert (row.id, row.state, row.lsn) == (number, CommandState.RUNNING, 700)
    assert await commands.finish(number, CommandState.DONE, "5 documents")
    assert not await commands.finish(number, CommandState.FAILED)
    assert not await commands.start(number, lsn=900)
    assert await commands.open() == []
    found = await commands.read(number)
    assert found is not None
    assert (found.state, found.message, found.lsn) == (
        CommandState.DONE,
        "5 documents",
        700,
    )
    assert await commands.read(number + 1) is None


async def test_open_commands_come_in_the_order_of_their_ids(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.promote(building)
    issued = [
        await store.commands.issue("configure", {"digest": "x"}),
        await store.commands.pause("es"),
        await store.commands.resume("es"),
        await store.commands.retry("product", ["1"]),
    ]
    found = await store.commands.open()
    assert [row.id for row in found] == issued
    marker = await store.emit_marker("after all of them")
    assert all(0 < row.log_end <= marker for row in found)
    assert [row.kind for row in found] == ["configure", "pause", "resume", "retry"]


async def test_a_marker_is_in_the_log_when_the_call_returns(
    store: Store, database: str
) -> None:
    first = await store.emit_marker(f"marker:{os.urandom(4).hex()}")
    second = await store.emit_marker("marker:2")
    with psycopg.connect(database) as connection:
        row = connection.execute("select pg_current_wal_flush_lsn() - '0/0'").fetchone()
    assert row is not None
    assert first < second < row[0]
