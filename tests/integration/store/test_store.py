"""What the store promises: kept once, never backwards, the same call twice is one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from bridge.errors import Halt, Transient
from bridge.position import Position
from bridge.store import Store
from bridge.store.generations import Counts
from bridge.store.migrate import migrate
from bridge.store.rows import (
    BackfillKind,
    GenerationKey,
    GenerationState,
    Letter,
    OwedKey,
    ProgressRow,
    SinkState,
    SourceRow,
    Stage,
    WorkState,
)
from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import eventually
from tests.integration.store.conftest import add_target

BUILDING, LIVE = GenerationState.BUILDING, GenerationState.LIVE
PREVIOUS, DROPPED = GenerationState.PREVIOUS, GenerationState.DROPPED


async def states(store: Store) -> dict[int, GenerationState]:
    return {row.key.number: row.state for row in await store.generations.all()}


async def next_generation(store: Store, plan: str) -> GenerationKey:
    return await store.generations.create(
        "es", "products", fingerprint="mapping 1", view_fingerprint=plan
    )


# — source, daemon, sinks —


async def test_a_database_without_the_schema_names_the_command(database: str) -> None:
    with pytest.raises(Halt) as halted:
        await Store.open(database)
    assert "pgbridge apply" in halted.value.hint


async def test_the_source_is_remembered_and_its_epoch_never_goes_back(
    store: Store,
) -> None:
    new = SourceRow("7", 2, "shop", "pgbridge", 3, barrier=(1 << 40) + 7)
    await store.save_source(new)
    assert await store.read_source() == new
    with pytest.raises(Halt):
        await store.save_source(SourceRow("7", 2, "shop", "pgbridge", 2))
    assert await store.read_source() == new


async def row_version(store: Store, table: str) -> object:
    async with await psycopg.AsyncConnection.connect(store._session._dsn) as connection:
        cursor = await connection.execute(
            f"select array_agg(ctid || ' ' || xmin) from bridge.{table}"
        )
        return await cursor.fetchone()


async def test_what_has_not_changed_is_not_written(
    store: Store, building: GenerationKey
) -> None:
    """An idle bridge makes no log."""

    async def say() -> None:
        await store.heartbeat("streaming", "as before")
        await store.save_sink("es", "memory")
        await store.set_sink_state("es", SinkState.DOWN, "refused")
        await store.set_sink_paused("es", paused=True)
        await store.generations.save_view("product", {"query": "select 1"}, "plan 1")
        await store.generations.save_target(
            "es", "products", view="product", definition={}, fingerprint="mapping 1"
        )
        await store.generations.halt(building, "too many dead letters")
        await store.generations.save_counts([Counts(building, 17, 0.5)])
        await store.generations.set_prepared(building)

    await say()
    tables = ("daemon", "sink", "view", "target", "generation")
    before = [await row_version(store, table) for table in tables]
    await say()
    assert [await row_version(store, table) for table in tables] == before


async def test_a_sink_that_is_paused_shows_it_whatever_its_state(store: Store) -> None:
    await store.save_sink("es", "memory")
    await store.set_sink_state("es", SinkState.DOWN, "refused")
    await store.set_sink_paused("es", paused=True)
    (sink,) = await store.sinks()
    assert (sink.state, sink.shown) == (SinkState.DOWN, SinkState.PAUSED)
    await store.set_sink_paused("es", paused=False)
    (sink,) = await store.sinks()
    assert (sink.shown, sink.reason) == (SinkState.DOWN, "refused")


async def test_a_lost_connection_is_transient_and_then_made_again(
    store: Store, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True
    ) as connection:
        cursor = await connection.execute(
            "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity"
            " where application_name = 'pgbridge store'"
            " and datname = current_database()"
        )
        assert await cursor.fetchone() == (1,)
    with pytest.raises(Transient):
        await store.read_source()
    assert await store.read_source() is not None


async def test_a_cancelled_call_leaves_the_store_usable(
    store: Store, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as blocker:
        await blocker.execute("lock table bridge.source in access exclusive mode")
        call = asyncio.create_task(store.read_source())
        async with await psycopg.AsyncConnection.connect(
            database, autocommit=True
        ) as watcher:

            async def blocked() -> bool:
                cursor = await watcher.execute(
                    "select from pg_locks where not granted"
                    " and relation = to_regclass('bridge.source')"
                )
                return await cursor.fetchone() is not None

            await eventually(blocked)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await blocker.rollback()
    assert await store.read_source() is not None


# — generations —


async def test_a_generation_lives_from_building_to_gone(
    store: Store, building: GenerationKey
) -> None:
    generations = store.generations
    assert await generations.promote(building) == {1: LIVE}
    second = await next_generation(store, "plan 2")
    assert second.number == 2
    assert await generations.promote(second) == {1: PREVIOUS, 2: LIVE}
    third = await next_generation(store, "plan 3")
    assert await states(store) == {1: PREVIOUS, 2: LIVE, 3: BUILDING}
    assert await generations.promote(third) == {1: DROPPED, 2: PREVIOUS, 3: LIVE}
    await generations.forget(building)
    assert await states(store) == {2: PREVIOUS, 3: LIVE}


async def test_promotion_and_rollback_may_be_told_twice(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.promote(building)
    assert await store.generations.promote(building) == {}
    second = await next_generation(store, "plan 2")
    await store.generations.promote(second)
    assert await store.generations.roll_back(building) == {1: LIVE, 2: PREVIOUS}
    assert await store.generations.roll_back(building) == {}
    assert await store.generations.roll_back(second) == {1: PREVIOUS, 2: LIVE}


async def test_what_is_not_there_is_not_promoted(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.promote(building)
    second = await next_generation(store, "plan 2")
    await store.generations.drop(second)
    with pytest.raises(Halt, match="dropped"):
        await store.generations.promote(second)
    with pytest.raises(Halt, match="gone"):
        await store.generations.roll_back(building._replace(number=9))
    assert await states(store) == {1: LIVE, 2: DROPPED}


async def test_a_build_is_begun_once_and_numbers_are_never_used_again(
    store: Store, building: GenerationKey
) -> None:
    assert await next_generation(store, "plan 1") == building
    with pytest.raises(Halt):
        await next_generation(store, "plan 2")  # another one is building
    await store.generations.drop(building)
    await store.generations.forget(building)
    assert (await next_generation(store, "plan 2")).number == 2


async def test_a_number_is_not_lost_by_a_refusal(
    store: Store, building: GenerationKey
) -> None:
    with pytest.raises(Halt):
        await next_generation(store, "plan 2")
    await store.generations.drop(building)
    assert (await next_generation(store, "plan 2")).number == building.number + 1


async def test_dropping_ends_the_backfills(
    store: Store, building: GenerationKey
) -> None:
    number = await store.backfills.create(
        building, view="product", kind=BackfillKind.BUILD
    )
    await store.backfills.start(number)
    await store.generations.drop(building)
    assert await store.backfills.open() == []
    row = await store.backfills.read(number)
    assert row is not None and row.state is WorkState.CANCELLED
    assert not await store.backfills.start(number)


async def test_only_what_is_dropped_is_forgotten(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.forget(building)
    assert await states(store) == {1: BUILDING}


async def test_a_target_goes_with_all_that_hangs_on_it(
    store: Store, building: GenerationKey
) -> None:
    position = Position(1, 100)
    await store.positions.save([ProgressRow(building, position, 100)])
    await store.owed.add(building, [OwedKey("1", ("1",), position)])
    await store.letters.save(
        building, "product", [Letter("1", ("1",), Stage.DERIVE, "no", 1)]
    )
    assert not await store.remove_sink("es")
    assert not await store.generations.remove_view("product")
    assert await store.generations.remove_target("es", "products")
    assert await store.generations.all() == []
    assert await store.positions.load() == {}
    assert await store.owed.count() == {}
    assert await store.letters.count() == {}
    assert await store.remove_sink("es")
    assert await store.generations.remove_view("product")


async def test_a_target_that_comes_back_is_wanted_again(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.unwant_target("es", "products")
    assert [t.wanted for t in await store.generations.targets()] == [False]
    await add_target(store)
    assert [t.wanted for t in await store.generations.targets()] == [True]


# — positions —


async def test_positions_of_many_are_kept(
    store: Store, building: GenerationKey
) -> None:
    other = await add_target(store, "redis", "product")
    rows = {
        building: ProgressRow(building, Position(1, (1 << 40) + 1), 7),
        other: ProgressRow(other, Position(1, 90), 80),
    }
    await store.positions.save(list(rows.values()))
    assert await store.positions.load() == rows
    moved = rows[other]._replace(position=Position(1, 91))
    await store.positions.save([moved])
    assert await store.positions.load() == rows | {other: moved}
    behind = datetime(2020, 1, 1, tzinfo=UTC)
    moved = moved._replace(behind_since=behind)
    await store.positions.save([moved])
    since = await store.positions.since()
    assert (since[other], since[building] > behind) == (behind, True)
    await store.positions.forget(building)
    assert await store.positions.load() == {other: moved}


async def test_a_forgotten_generation_does_not_stop_the_others(
    store: Store, building: GenerationKey
) -> None:
    gone = building._replace(number=9)
    await store.positions.save(
        [ProgressRow(key, Position(1, 5), 5) for key in (gone, building)]
    )
    assert list(await store.positions.load()) == [building]


async def test_a_daemon_that_was_superseded_writes_no_position(
    store: Store, database: str, building: GenerationKey
) -> None:
    await store.positions.save([ProgressRow(building, Position(1, 5), 5)])
    async with await Store.open(database) as second:
        await second.take_over(host="b", pid=2, version="0", http="", state="streaming")
        with pytest.raises(Halt):
            await store.positions.save([ProgressRow(building, Position(1, 6), 6)])
        assert (await second.positions.load())[building].position == Position(1, 5)
        await second.positions.save([ProgressRow(building, Position(1, 7), 7)])
        await store.heartbeat("stale")
        daemon = await second.read_daemon()
    assert daemon is not None
    assert (daemon.host, daemon.state, daemon.alive) == ("b", "streaming", False)


async def test_records_do_not_wait_for_a_standby_that_is_away(
    make_postgres: MakePostgres,
) -> None:
    """A failover begins a new epoch, and everything is derived again: what only the
    lost primary had recorded is not missed."""
    server = make_postgres()
    await migrate(server.dsn)
    async with await Store.open(server.dsn) as store:
        await store.take_over(host="a", pid=1, version="0", http="", state="x")
        key = await add_target(store)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            # A standby that never answers: whoever waits for it waits on.
            connection.execute("alter system set synchronous_standby_names = 'nosuch'")
            connection.execute("select pg_reload_conf()")

            async def waits() -> bool:
                row = connection.execute("show synchronous_standby_names").fetchone()
                return row == ("nosuch",)

            await eventually(waits)
            async with asyncio.timeout(30):
                await store.positions.save([ProgressRow(key, Position(1, 5), 5)])
                await store.owed.add(key, [OwedKey("1", ("1",), Position(1, 5))])
        assert set(await store.positions.load()) == {key}
        assert await store.owed.count() == {key: 1}


async def test_how_far_the_slot_may_move_is_of_one_epoch_and_one_daemon(
    store: Store,
) -> None:
    await store.save_source(SourceRow("7", 1, "shop", "pgbridge", 1))
    assert await store.passed() == 0
    await store.save_passed(200)
    await store.save_passed(100)
    assert await store.passed() == 200
    await store.save_source(SourceRow("7", 1, "shop", "pgbridge", 1, fingerprint="f"))
    assert await store.passed() == 200
    await store.save_source(SourceRow("7", 1, "shop", "pgbridge", 2))
    assert await store.passed() == 0
    async with await Store.open(store._session._dsn) as second:
        await second.take_over(host="b", pid=2, version="0", http="", state="x")
        with pytest.raises(Halt, match="another daemon"):
            await store.save_passed(300)
