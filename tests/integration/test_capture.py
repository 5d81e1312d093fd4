"""What is committed arrives: whole, in order, once acknowledged never again."""

from __future__ import annotations

import asyncio

import pytest

from bridge.capture.thread import CaptureClosed, CaptureLimits
from bridge.changes import (
    UNCHANGED,
    Change,
    ChangeKind,
    Keepalive,
    LogicalMessage,
    Transaction,
    Truncate,
)
from bridge.position import parse_lsn
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.integration.capturing import (
    TABLE,
    capturing,
    confirmed,
    ended,
    execute,
    news,
    prepare,
    take,
)


async def test_every_kind_of_change(any_database: str) -> None:
    settings = prepare(
        any_database, TABLE, "alter table t alter body set storage external"
    )
    execute(
        any_database,
        "insert into t values (1, repeat('x', 5000)), (2, null)",
        "update t set id = 3 where id = 1",
        "delete from t where id = 2",
        "truncate t",
        "select pg_logical_emit_message(true, 'pgbridge', '17')",
    )
    async with capturing(settings) as thread:
        transactions = await take(thread, 5)
    insert, update, delete, truncate, message = (
        list(transaction.events) for transaction in transactions
    )
    assert news(transactions[:1]) == [(b"1", b"x" * 5000), (b"2", None)]
    assert [event.kind for event in insert if isinstance(event, Change)] == ["I", "I"]
    (moved,) = update
    assert isinstance(moved, Change)
    assert moved.old is not None
    assert moved.old[0] == b"1"
    assert moved.new == (b"3", UNCHANGED)
    (gone,) = delete
    assert isinstance(gone, Change)
    assert (gone.kind, gone.new) == (ChangeKind.DELETE, None)
    (emptied,) = truncate
    assert isinstance(emptied, Truncate)
    assert [relation.name for relation in emptied.relations] == ["t"]
    assert message == [LogicalMessage("pgbridge", b"17")]
    ends = [transaction.end_lsn for transaction in transactions]
    assert ends == sorted(set(ends))


async def test_xids_are_those_that_wrote(database: str) -> None:
    settings = prepare(database, TABLE)
    ((xid,),) = execute(
        database,
        "insert into t values (1, 'a')",
        "select xmin::text::bigint from t where id = 1",
    )
    async with capturing(settings) as thread:
        (transaction,) = await take(thread, 1)
    assert transaction.xid == xid


async def test_a_partitioned_table_is_its_root(any_database: str) -> None:
    settings = prepare(
        any_database,
        "create table t (id int primary key, body text) partition by range (id)",
        "create table t_low partition of t for values from (0) to (10)",
        # The same columns in another order.
        "create table t_high (body text, id int not null)",
        "alter table t attach partition t_high for values from (10) to (20)",
    )
    execute(any_database, "insert into t values (1, 'low'), (11, 'high')")
    async with capturing(settings) as thread:
        transactions = await take(thread, 1)
    relations = {
        event.relation.name
        for event in transactions[0].events
        if isinstance(event, Change)
    }
    assert relations == {"t"}
    assert news(transactions) == [(b"1", b"low"), (b"11", b"high")]


async def test_a_changed_description_is_told(database: str) -> None:
    settings = prepare(database, TABLE)
    execute(
        database,
        "insert into t values (1, 'a')",
        "insert into t values (2, 'b')",
        "alter table t add more int",
        "insert into t values (3, 'c', 4)",
    )
    async with capturing(settings) as thread:
        first, second, third = await take(thread, 3)
    assert [len(described.columns) for described in first.described] == [2]
    assert second.described == ()
    assert [len(described.columns) for described in third.described] == [3]
    assert news([third]) == [(b"3", b"c", b"4")]


async def test_settings_of_role_and_database_change_no_value(database: str) -> None:
    name = database.rpartition("/")[2]
    settings = prepare(
        database,
        "create table t (id int primary key, at timestamptz, span interval,"
        " bytes bytea, price float8, cash money)",
        f"alter database {name} set timezone = 'Asia/Tokyo'",
        f"alter database {name} set datestyle = 'German'",
        f"alter database {name} set intervalstyle = 'sql_standard'",
        f"alter database {name} set bytea_output = 'escape'",
        f"alter database {name} set extra_float_digits = -15",
        f"alter database {name} set client_encoding = 'latin1'",
    )
    execute(
        database,
        "insert into t values (1, '2024-03-04 05:06:07+00', '1 day 2 hours',"
        " '\\x00ff', 0.1::float8 + 0.2::float8, '3.5')",
    )
    async with capturing(settings) as thread:
        transactions = await take(thread, 1)
    assert news(transactions) == [
        (
            b"1",
            b"2024-03-04 05:06:07+00",
            b"P1DT2H",
            b"\\x00ff",
            b"0.30000000000000004",
            b"$3.50",
        )
    ]


async def test_what_was_acknowledged_is_not_sent_again_the_rest_is(
    any_database: str,
) -> None:
    settings = prepare(any_database, TABLE)
    execute(any_database, *(f"insert into t values ({n}, 'a')" for n in range(4)))
    async with capturing(settings) as thread:
        first = await take(thread, 4)
        thread.acknowledge(first[1].end_lsn)
        await eventually(lambda: confirmed(settings) == first[1].end_lsn)
    async with capturing(settings) as thread:
        opening = await thread.opened()
        assert opening.confirmed_lsn == first[1].end_lsn
        again = await take(thread, 2)
        assert [each.end_lsn for each in again] == [each.end_lsn for each in first[2:]]
        # Told on the way out, too, however soon that is.
        thread.acknowledge(again[-1].end_lsn)
    assert confirmed(settings) == again[-1].end_lsn


async def test_nothing_above_what_was_received_can_be_acknowledged(
    database: str,
) -> None:
    settings = prepare(database, TABLE)
    before = confirmed(settings)
    async with capturing(settings) as thread:
        with pytest.raises(AssertionError):
            thread.acknowledge(thread.received + 1_000_000_000)
    assert confirmed(settings) == before


async def test_asked_the_server_says_how_far_it_has_sent(any_database: str) -> None:
    settings = prepare(any_database, TABLE)
    async with capturing(settings) as thread:
        # Log that this slot has no part in.
        ((lsn,),) = execute(
            any_database,
            "create table other (id int)",
            "insert into other select generate_series(1, 1000)",
            "select pg_current_wal_flush_lsn()::text",
        )
        thread.ask()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                item = await thread.get()
                assert isinstance(item, Keepalive)
                if item.wal_end >= parse_lsn(lsn):
                    break
                thread.ask()
        assert thread.received >= item.wal_end
        thread.acknowledge(item.wal_end)
        await eventually(lambda: confirmed(settings) >= parse_lsn(lsn))


async def test_a_keepalive_comes_after_what_it_covers(database: str) -> None:
    settings = prepare(database, TABLE)
    execute(database, *(f"insert into t values ({n}, 'a')" for n in range(300)))
    async with capturing(settings, limits=CaptureLimits(batch_rows_max=7)) as thread:
        highest, count = 0, 0
        async with asyncio.timeout(DEADLINE_S):
            while count < 300:
                item = await thread.get()
                thread.ask()
                if isinstance(item, Keepalive):
                    highest = max(highest, item.wal_end)
                else:
                    # Whatever ended before a keepalive had come before it.
                    assert all(each.end_lsn > highest for each in item)
                    highest = item[-1].end_lsn
                    count += len(item)


async def test_a_backlog_comes_in_large_batches_and_a_single_change_alone(
    database: str,
) -> None:
    settings = prepare(database, TABLE)
    many = 400
    execute(database, *(f"insert into t values ({n}, 'a')" for n in range(many)))
    sizes: list[int] = []

    def digest(transactions: list[Transaction]) -> list[Transaction]:
        sizes.append(len(transactions))
        return list(transactions)

    limits = CaptureLimits(batch_rows_max=100, queue_count_max=1)
    async with capturing(settings, digest=digest, limits=limits) as thread:
        # Nobody takes yet: one batch is queued, and beside it the next is gathered.
        await eventually(lambda: sizes)
        await take(thread, many)
        assert max(sizes) == 100
        assert len(sizes) <= many / 100 + 2
        execute(database, "insert into t values (-1, 'alone')")
        (alone,) = await take(thread, 1)
        assert news([alone]) == [(b"-1", b"alone")]
        assert sizes[-1] == 1


async def test_an_error_of_digest_surfaces_everywhere(database: str) -> None:
    settings = prepare(database, TABLE)
    execute(database, "insert into t values (1, 'a')")

    def digest(_: list[Transaction]) -> list[Transaction]:
        raise ZeroDivisionError

    async with capturing(settings, digest=digest) as thread:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await ended(thread)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(thread.lost(), DEADLINE_S)


async def test_after_close_there_is_nothing_to_get(database: str) -> None:
    settings = prepare(database, TABLE)
    async with capturing(settings) as thread:
        waiting = asyncio.create_task(ended(thread))
    with pytest.raises(CaptureClosed):
        await waiting
    await asyncio.wait_for(thread.lost(), DEADLINE_S)
    await thread.close()


async def test_the_slot_is_free_when_close_returns(database: str) -> None:
    settings = prepare(database, TABLE)
    for n in range(5):
        execute(database, f"insert into t values ({n}, 'a')")
        async with capturing(settings) as thread:
            (transaction,) = await take(thread, 1)
            thread.acknowledge(transaction.end_lsn)
