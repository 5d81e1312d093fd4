"""Slots are made with a barrier, say for whom they wait, and go when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from bridge.capture.failures import SlotActive, SlotLost
from bridge.capture.slot import (
    Blocker,
    Connection,
    create_slot,
    describe_slot,
    drop_slot,
    take_barrier,
)
from bridge.errors import Halt
from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.integration.capturing import (
    TABLE,
    capturing,
    execute,
    prepare,
    slot_of,
)

QUICK_S = 0.02


async def connect(dsn: str, **options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, **options)


@pytest.fixture
async def connection(any_database: str) -> AsyncIterator[Connection]:
    async with await connect(any_database) as opened:
        yield opened


async def test_made_described_and_dropped(
    any_database: str, connection: Connection
) -> None:
    name = slot_of(any_database)
    assert await describe_slot(connection, name) is None
    made = await create_slot(connection, connection, name)
    found = await describe_slot(connection, name)
    assert found is not None
    found.require_usable()
    assert found.name == made.name == name
    assert found.confirmed_lsn == made.consistent_lsn
    assert (found.plugin, found.ours, found.active_pid) == ("pgoutput", True, None)
    assert found.wal_status == "reserved"
    assert found.retained_bytes is not None
    assert not found.lost
    assert await drop_slot(connection, name)
    assert await describe_slot(connection, name) is None
    assert not await drop_slot(connection, name)


async def test_it_works_with_any_row_factory(database: str) -> None:
    async with await connect(database, row_factory=psycopg.rows.dict_row) as mapped:
        name = slot_of(database)
        await create_slot(mapped, mapped, name)
        found = await describe_slot(mapped, name)
        assert found is not None
        assert found.ours
        assert await drop_slot(mapped, name)


async def test_the_barrier_is_an_id_of_ones_own_and_above_those_before(
    any_database: str, connection: Connection
) -> None:
    ((before,),) = execute(any_database, "select pg_current_xact_id()::text::bigint")
    made = await create_slot(connection, connection, slot_of(any_database))
    ((after,),) = execute(any_database, "select pg_current_xact_id()::text::bigint")
    assert before < made.barrier_xid < after
    ((ended,),) = execute(
        any_database,
        f"select pg_xact_status('{made.barrier_xid}'::xid8) = 'aborted'",
    )
    assert ended


async def test_a_snapshot_reaches_the_barrier_only_after_older_transactions(
    database: str,
) -> None:
    execute(database, TABLE)
    async with await connect(database) as own, await connect(database) as writer:

        async def xmin() -> int:
            cursor = await own.execute(
                "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            )
            (value,) = await cursor.fetchone() or (0,)
            return int(value)

        async with writer.transaction():
            await writer.execute("insert into t values (1, 'a')")
            barrier = await take_barrier(own)
            assert await xmin() < barrier

        async def reached() -> bool:
            return await xmin() >= barrier

        # Other databases' transactions count too: the server is shared.
        await eventually(reached)


async def test_it_says_for_whom_it_waits_and_goes_on_when_they_end(
    any_database: str, connection: Connection
) -> None:
    execute(any_database, TABLE)
    name = slot_of(any_database)
    told: list[Sequence[Blocker]] = []
    async with (
        await connect(any_database, application_name="the writer") as writer,
        await connect(any_database) as watch,
    ):
        async with writer.transaction():
            await writer.execute("insert into t values (1, 'a')")
            making = asyncio.create_task(
                create_slot(
                    connection, watch, name, waiting=told.append, poll_s=QUICK_S
                )
            )
            await eventually(lambda: told)
            (blocker,) = told[-1]
            assert blocker.pid == writer.info.backend_pid
            assert blocker.application == "the writer"
            assert blocker.age_s >= 0
            assert str(blocker.pid) in str(blocker)
            assert not making.done()
        made = await asyncio.wait_for(making, DEADLINE_S)
    assert made.name == name


async def test_it_names_a_prepared_transaction(make_postgres: MakePostgres) -> None:
    server = make_postgres(settings={"max_prepared_transactions": "5"})
    dsn = server.dsn
    execute(dsn, TABLE)
    with psycopg.connect(dsn) as writer:
        writer.execute("insert into t values (1, 'a')")
        writer.execute("prepare transaction 'forgotten'")
    told: list[Sequence[Blocker]] = []
    async with await connect(dsn) as connection, await connect(dsn) as watch:
        making = asyncio.create_task(
            create_slot(connection, watch, "s", waiting=told.append, poll_s=QUICK_S)
        )
        await eventually(lambda: told)
        (blocker,) = told[-1]
        assert (blocker.pid, blocker.application) == (0, "forgotten")
        assert "prepared" in str(blocker)
        execute(dsn, "rollback prepared 'forgotten'")
        await asyncio.wait_for(making, DEADLINE_S)


async def test_cancelled_it_leaves_no_slot_and_a_usable_connection(
    any_database: str, connection: Connection
) -> None:
    execute(any_database, TABLE)
    name = slot_of(any_database)
    told: list[Sequence[Blocker]] = []
    async with (
        await connect(any_database) as writer,
        await connect(any_database) as watch,
        writer.transaction(),
    ):
        await writer.execute("insert into t values (1, 'a')")
        making = asyncio.create_task(
            create_slot(connection, watch, name, waiting=told.append, poll_s=QUICK_S)
        )
        await eventually(lambda: told)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(making, DEADLINE_S)
    assert await describe_slot(connection, name) is None


async def test_a_name_that_is_taken_halts(database: str) -> None:
    async with await connect(database) as connection:
        name = slot_of(database)
        await create_slot(connection, connection, name)
        with pytest.raises(Halt, match="already exists") as caught:
            await create_slot(connection, connection, name)
        assert caught.value.hint


@pytest.mark.parametrize("name", ["", "Upper", "a-b", "a" * 64, "a'", "ä"])
async def test_unsafe_names_halt(name: str, database: str) -> None:
    async with await connect(database) as connection:
        with pytest.raises(Halt, match="cannot be the name"):
            await create_slot(connection, connection, name)


async def test_failover_is_heeded_where_the_server_knows_it(
    any_database: str, connection: Connection
) -> None:
    name = slot_of(any_database)
    await create_slot(connection, connection, name, failover=True)
    found = await describe_slot(connection, name)
    assert found is not None
    knows = connection.info.server_version >= 170000
    assert found.failover is (True if knows else None)


async def test_while_it_is_read_it_is_not_dropped(database: str) -> None:
    settings = prepare(database, TABLE)
    async with await connect(database) as connection:
        async with capturing(settings):
            found = await describe_slot(connection, settings.slot)
            assert found is not None
            assert found.active_pid
            with pytest.raises(SlotActive):
                await drop_slot(connection, settings.slot)
        assert await drop_slot(connection, settings.slot)


async def test_slots_that_are_not_to_be_used(database: str) -> None:
    settings = prepare(database, TABLE)
    async with await connect(database) as connection:
        elsewhere = database.rpartition("/")[0] + "/postgres"
        async with await connect(elsewhere) as other:
            found = await describe_slot(other, settings.slot)
            assert found is not None
            with pytest.raises(Halt, match="not of this database"):
                found.require_usable()
        found = await describe_slot(connection, settings.slot)
        assert found is not None
        found.require_usable()


async def test_a_lost_slot_is_seen(make_postgres: MakePostgres) -> None:
    dsn = make_postgres(
        settings={
            "max_slot_wal_keep_size": "1MB",
            "min_wal_size": "32MB",
            "max_wal_size": "32MB",
        }
    ).dsn
    settings = prepare(dsn, TABLE)
    async with await connect(dsn) as connection:

        async def lost() -> bool:
            execute(
                dsn,
                "insert into t select n, repeat('x', 500)"
                " from generate_series(1, 20000) n",
                "truncate t",
                "select pg_switch_wal()",
                "checkpoint",
            )
            found = await describe_slot(connection, settings.slot)
            assert found is not None
            return found.lost

        await eventually(lost)
        found = await describe_slot(connection, settings.slot)
        assert found is not None
        assert found.invalidation_reason == "wal_removed"
        with pytest.raises(SlotLost, match="wal_removed"):
            found.require_usable()
