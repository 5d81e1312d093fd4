"""bridge.wait_for and bridge.status: never ahead of what is kept."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import AsyncConnection, errors

from bridge.position import Position, format_lsn, parse_lsn
from bridge.store import Store
from bridge.store.generations import Counts
from bridge.store.locks import PAGE_BYTES
from bridge.store.rows import (
    GenerationKey,
    Letter,
    OwedKey,
    ProgressRow,
    SinkState,
    SourceRow,
    Stage,
)
from tests.fixtures.waiting import eventually
from tests.integration.store.conftest import add_target

NOW = "pg_current_wal_flush_lsn()"


@dataclass(frozen=True)
class Application:
    """A session that writes and then waits."""

    connection: psycopg.Connection

    def end_of_log(self) -> int:
        row = self.connection.execute(f"select {NOW}::text").fetchone()
        assert row is not None
        return parse_lsn(row[0])

    def waits(self, lsn: int, view: str = "product") -> bool:
        """What wait_for says at once."""
        row = self.connection.execute(
            "select bridge.wait_for('0/0'::pg_lsn + %s::numeric, %s, '0')", [lsn, view]
        ).fetchone()
        assert row is not None
        return bool(row[0])

    def status(self) -> dict[str, object]:
        """The first row of bridge.status()."""
        cursor = self.connection.execute("select * from bridge.status()")
        row = cursor.fetchone()
        assert row is not None and cursor.description is not None
        return {column.name: row[i] for i, column in enumerate(cursor.description)}


@pytest.fixture
def application(database: str, store: Store) -> Iterator[Application]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield Application(connection)


@pytest.fixture
async def live(store: Store, building: GenerationKey) -> GenerationKey:
    await store.generations.promote(building)
    return building


@pytest.fixture
async def slot(store: Store, application: Application) -> AsyncIterator[str]:
    """The bridge's slot, that has passed everything until now."""
    name = f"s_{secrets.token_hex(6)}"
    application.connection.execute(
        "select pg_create_logical_replication_slot(%s, 'pgoutput')", [name]
    )
    await store.save_source(SourceRow("1", 1, "shop", name, 1))
    yield name
    application.connection.execute("select pg_drop_replication_slot(%s)", [name])


def advance(application: Application, slot: str) -> int:
    """Acknowledge everything; the position that the slot has then."""
    row = application.connection.execute(
        f"select (end_lsn - '0/0')::bigint from pg_replication_slot_advance(%s, {NOW})",
        [slot],
    ).fetchone()
    assert row is not None
    return int(row[0])


# — wait_for —


async def test_it_says_whether_the_position_is_kept(
    store: Store, application: Application, live: GenerationKey
) -> None:
    assert not application.waits(500)
    await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
    assert application.waits(500)
    assert not application.waits(501)


async def test_it_returns_as_soon_as_the_position_is_kept(
    store: Store, database: str, live: GenerationKey
) -> None:
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        waiting = asyncio.create_task(
            connection.execute("select bridge.wait_for('0/1F4', 'product', '60 s')")
        )
        async with await AsyncConnection.connect(database, autocommit=True) as watcher:

            async def sleeps() -> bool:
                cursor = await watcher.execute(
                    "select from pg_stat_activity where wait_event = 'PgSleep'"
                    " and datname = current_database()"
                )
                return await cursor.fetchone() is not None

            await eventually(sleeps)
        assert not waiting.done()
        await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
        cursor = await asyncio.wait_for(waiting, 30)
        assert await cursor.fetchone() == (True,)


async def test_who_waits_long_is_heard(
    store: Store, database: str, live: GenerationKey
) -> None:
    """The daemon sees the position, whatever role asks, and no other database's."""
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        for lsn in (500, 3 * PAGE_BYTES):
            wait = f"select bridge.wait_for('{format_lsn(lsn)}', 'product', '60 s')"
            waiting = asyncio.create_task(connection.execute(wait))

            async def heard(lsn: int = lsn) -> bool:
                found = await store.positions.wanted(100 * PAGE_BYTES)
                return lsn <= found <= lsn + PAGE_BYTES

            await eventually(heard)
            await store.positions.save([ProgressRow(live, Position(1, lsn), lsn)])
            await asyncio.wait_for(waiting, 30)
            assert await store.positions.wanted(100 * PAGE_BYTES) == 0


async def test_every_target_counts_and_one_being_built_is_not_there(
    store: Store, application: Application, live: GenerationKey
) -> None:
    await store.positions.save([ProgressRow(live, Position(1, 900), 900)])
    assert application.waits(500)
    other = await add_target(store, "redis", "product")
    await store.positions.save([ProgressRow(other, Position(1, 900), 900)])
    assert not application.waits(500)
    await store.generations.promote(other)
    assert application.waits(500)
    await store.positions.save([ProgressRow(other, Position(1, 400), 400)])
    assert not application.waits(500)
    await store.generations.unwant_target("redis", "product")
    assert application.waits(500)


async def test_what_missed_changes_is_nowhere(
    store: Store, application: Application, live: GenerationKey, slot: str
) -> None:
    """Neither where the slot is nor where the stream has come to since it is fed again:
    it waits to be built anew."""
    await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
    lsn = advance(application, slot)
    assert application.waits(lsn)
    await store.generations.set_view_fingerprint(live, "")
    assert not application.waits(lsn)
    await store.positions.save([ProgressRow(live, Position(1, lsn), lsn)])
    assert not application.waits(lsn)


async def test_a_rebuild_beside_does_not_hold_readers_up(
    store: Store, application: Application, live: GenerationKey
) -> None:
    await store.positions.save([ProgressRow(live, Position(1, 900), 900)])
    await store.generations.create(
        "es", "products", fingerprint="mapping 2", view_fingerprint="plan 1"
    )
    assert application.waits(500)


async def test_a_position_of_an_older_history_says_nothing(
    store: Store, application: Application, live: GenerationKey
) -> None:
    await store.positions.save([ProgressRow(live, Position(1, 900), 900)])
    await store.save_source(SourceRow("1", 2, "shop", "pgbridge", 2))
    assert not application.waits(500)


@pytest.mark.parametrize("state", [SinkState.OK, SinkState.DOWN])
async def test_on_an_idle_source_the_slot_says_the_rest(
    store: Store,
    application: Application,
    live: GenerationKey,
    slot: str,
    state: SinkState,
) -> None:
    """Of a sink that is away too: until it is parked the slot waits for it."""
    await store.set_sink_state("es", state)
    await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
    await store.emit_marker("flushed with this commit")
    end = application.end_of_log()
    assert not application.waits(end)
    advance(application, slot)
    assert application.waits(end)
    assert not application.waits(end + (1 << 40))


@pytest.mark.parametrize(
    "case", ["owed", "sweep", "paused", "parked", "halted", "epoch"]
)
async def test_the_slot_says_nothing_for_a_target_that_may_owe(
    store: Store, application: Application, live: GenerationKey, slot: str, case: str
) -> None:
    await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
    end = application.end_of_log()
    advance(application, slot)
    assert application.waits(end)
    match case:
        case "owed":
            await store.owed.add(live, [OwedKey("1", ("1",), Position(1, 1))])
        case "sweep":
            await store.generations.set_sweep(live, sweep=True)
        case "paused":
            await store.set_sink_paused("es", paused=True)
        case "halted":
            await store.generations.halt(live, "too many dead letters")
        case "epoch":
            await store.save_source(SourceRow("1", 1, "shop", slot, 2))
        case _:
            await store.set_sink_state("es", SinkState(case))
    assert not application.waits(end)


async def test_dead_letters_do_not_hold_it_up(
    store: Store, application: Application, live: GenerationKey
) -> None:
    await store.positions.save([ProgressRow(live, Position(1, 500), 500)])
    await store.letters.save(
        live, "product", [Letter("1", ("1",), Stage.DELIVER, "no", 1)]
    )
    assert application.waits(500)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_it_refuses_where_it_could_never_see_the_answer(
    application: Application, live: GenerationKey, level: str
) -> None:
    with pytest.raises(errors.ActiveSqlTransaction, match=level):
        with application.connection.transaction():
            application.connection.execute(f"set transaction isolation level {level}")
            application.waits(1)


async def test_it_refuses_before_one_s_own_commit(
    application: Application, live: GenerationKey
) -> None:
    with pytest.raises(errors.ActiveSqlTransaction, match="before the commit"):
        with application.connection.transaction():
            application.connection.execute("create table t ()")
            application.waits(1)


async def test_it_may_follow_reads_in_one_transaction(
    application: Application, live: GenerationKey
) -> None:
    with application.connection.transaction():
        application.connection.execute("select count(*) from pg_class")
        assert not application.waits(1)


async def test_nonsense_is_refused(
    application: Application, live: GenerationKey
) -> None:
    with pytest.raises(errors.UndefinedObject):
        application.waits(1, "nosuch")
    for call in (
        "null, 'product', '1 s'",
        "'0/1', 'product', null",
        "'0/1', null, '0'",
    ):
        with pytest.raises(psycopg.Error, match=r"needs|no view"):
            application.connection.execute(f"select bridge.wait_for({call})")


PAGE, SEGMENT = 8192, 16 << 20


@pytest.mark.parametrize(
    ("lsn", "start"),
    [
        (3 * SEGMENT + 40, 3 * SEGMENT),
        (3 * SEGMENT + PAGE + 24, 3 * SEGMENT + PAGE),
        (3 * SEGMENT + PAGE + 40, 3 * SEGMENT + PAGE + 40),
        (3 * SEGMENT + 24, 3 * SEGMENT + 24),
        (3 * SEGMENT + PAGE, 3 * SEGMENT + PAGE),
        (3 * SEGMENT + PAGE + 32, 3 * SEGMENT + PAGE + 32),
        (0, 0),
    ],
)
async def test_just_past_a_page_header_is_the_page_s_start(
    application: Application, live: GenerationKey, lsn: int, start: int
) -> None:
    row = application.connection.execute(
        "select (bridge.page_start_v1('0/0'::pg_lsn + %s::numeric) - '0/0')::bigint",
        [lsn],
    ).fetchone()
    assert row == (start,)


async def test_it_is_waited_for_as_the_page_s_start(
    store: Store, application: Application, live: GenerationKey
) -> None:
    start = 3 * SEGMENT + PAGE
    await store.positions.save([ProgressRow(live, Position(1, start), start)])
    assert application.waits(start + 24)
    assert not application.waits(start + 32)


# — status —


async def test_status_tells_a_target_s_life(
    store: Store, application: Application, building: GenerationKey
) -> None:
    await store.generations.save_counts([Counts(building, 40, 0.5)])
    found = application.status()
    assert (found["view"], found["sink"], found["name"]) == (
        "product",
        "es",
        "products",
    )
    assert (found["state"], found["generation"]) == ("building", None)
    assert (found["building"], found["progress"]) == (1, 0.5)
    assert (found["documents"], found["position"]) == (40, None)
    await store.generations.promote(building)
    second = await store.generations.create(
        "es", "products", fingerprint="mapping 2", view_fingerprint="plan 1"
    )
    await store.letters.save(
        building, "product", [Letter("1", ("1",), Stage.DELIVER, "no", 1)]
    )
    found = application.status()
    assert (found["state"], found["generation"]) == ("live", 1)
    assert (found["building"], found["previous"]) == (2, None)
    assert (found["documents"], found["dead_letters"]) == (40, 1)
    await store.generations.promote(second)
    found = application.status()
    assert (found["generation"], found["building"], found["previous"]) == (2, None, 1)
    await store.generations.halt(second, "the column is gone")
    found = application.status()
    assert (found["state"], found["reason"]) == ("halted", "the column is gone")


async def test_status_tells_the_lag(
    store: Store, application: Application, live: GenerationKey, slot: str
) -> None:
    behind = application.end_of_log() - 5000
    await store.positions.save([ProgressRow(live, Position(1, behind), behind)])
    await store.set_sink_paused("es", paused=True)
    found = application.status()
    assert isinstance(found["lag_bytes"], int) and found["lag_bytes"] >= 5000
    assert isinstance(found["lag_seconds"], float) and found["lag_seconds"] > 0
    assert found["reason"] == "paused"
    assert found["position"] == str(Position(1, behind))
    hour = datetime.now(UTC) - timedelta(hours=1)
    await store.positions.save([ProgressRow(live, Position(1, behind), behind, hour)])
    lag_s = application.status()["lag_seconds"]
    assert isinstance(lag_s, float) and lag_s >= 3600
    await store.positions.save([ProgressRow(live, Position(1, behind), behind)])
    await store.set_sink_paused("es", paused=False)
    reached = advance(application, slot)
    found = application.status()
    assert found["position"] == str(Position(1, reached))
    assert found["lag_seconds"] == 0
