"""What goes wrong with the source is told apart: wait, or stop and say why."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.capture.connection import StreamSettings
from bridge.capture.failures import (
    HistoryChanged,
    PublicationMissing,
    SlotActive,
    SlotLost,
    SlotMissing,
    Standby,
)
from bridge.capture.thread import CaptureClosed, CaptureLimits, CaptureThread
from bridge.changes import Transaction
from bridge.decode.transactions import DecodeLimits, TransactionAssembler
from bridge.dev import PostgresServer
from bridge.errors import BridgeError, Halt, Transient
from tests.fixtures.private import MakePostgres
from tests.fixtures.proxy import MakeProxy, Way
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.integration.capturing import (
    TABLE,
    Batches,
    at,
    capturing,
    execute,
    news,
    prepare,
    take,
)

TIMEOUT_S = 2.0
IMPATIENT = {"wal_sender_timeout": "2s", "log_replication_commands": "on"}


async def failure(settings: StreamSettings) -> BridgeError:
    """The error with which capture ends or does not begin."""
    with pytest.raises(BridgeError) as caught:
        async with capturing(settings) as thread:
            await asyncio.wait_for(thread.lost(), DEADLINE_S)
    assert caught.value.hint
    return caught.value


async def lost(thread: Batches) -> BridgeError:
    """The error with which this thread ends, the same everywhere."""
    with pytest.raises(BridgeError) as caught:
        await asyncio.wait_for(thread.lost(), DEADLINE_S)
    with pytest.raises(type(caught.value)):
        await asyncio.wait_for(thread.get(), DEADLINE_S)
    return caught.value


def replied(dsn: str) -> float:
    """When the walsender last heard its client, in its own seconds; 0: none there."""
    rows = execute(
        dsn,
        "select extract(epoch from reply_time)::float8 from pg_stat_replication"
        " where reply_time is not null",
    )
    return float(rows[0][0]) if rows else 0.0


async def test_nobody_takes_for_longer_than_the_timeout(
    make_postgres: MakePostgres,
) -> None:
    dsn = make_postgres(settings=IMPATIENT).dsn
    settings = prepare(dsn, TABLE)
    rows = 2_000
    execute(
        dsn, *(f"insert into t values ({n}, repeat('x', 9999))" for n in range(rows))
    )
    digested = 0

    def digest(transactions: list[Transaction]) -> list[Transaction]:
        nonlocal digested
        digested += 1
        return list(transactions)

    limits = CaptureLimits(batch_rows_max=1, queue_count_max=2)
    async with capturing(settings, digest=digest, limits=limits) as thread:
        await eventually(lambda: digested == limits.queue_count_max)
        began = await eventually(lambda: replied(dsn))
        await eventually(lambda: replied(dsn) > began + 2 * TIMEOUT_S)
        assert digested == limits.queue_count_max, "nothing was taken, nothing is made"
        assert len(await take(thread, rows)) == rows


async def test_a_long_digest_of_a_spilled_transaction_outlasts_the_timeout(
    make_postgres: MakePostgres,
) -> None:
    dsn = make_postgres(settings=IMPATIENT).dsn
    settings = prepare(dsn, TABLE)
    rows = 20_000
    execute(dsn, f"insert into t select n, 'x' from generate_series(1, {rows}) n")
    held = asyncio.Event()
    loop = asyncio.get_running_loop()
    seen = 0

    def digest(transactions: list[Transaction]) -> list[Transaction]:
        """Iterates again and again until the timeout is twice over."""
        nonlocal seen
        (transaction,) = transactions
        assert transaction.spilled
        while not held.is_set():
            seen = sum(1 for _ in transaction.events)
        return list(transactions)

    small = DecodeLimits(transaction_bytes_max=1 << 16, spill_memory_bytes_max=0)
    async with capturing(settings, digest=digest, decode=small) as thread:
        began = await eventually(lambda: replied(dsn))
        await eventually(lambda: replied(dsn) > began + 2 * TIMEOUT_S)
        loop.call_soon(held.set)
        (transaction,) = await take(thread, 1)
        assert seen == transaction.count == rows
        assert news([transaction])[-1] == (b"20000", b"x")


async def test_a_terminated_walsender_is_transient_and_all_comes_again(
    database: str,
) -> None:
    settings = prepare(database, TABLE)
    execute(database, "insert into t values (1, 'a')")
    async with capturing(settings) as thread:
        (before,) = await take(thread, 1)
        execute(
            database,
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            f" where slot_name = '{settings.slot}'",
        )
        assert isinstance(await lost(thread), Transient)
    async with capturing(settings) as thread:
        (after,) = await take(thread, 1)
    assert (after.end_lsn, news([after])) == (before.end_lsn, news([before]))


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
async def test_a_stopped_server_is_transient(
    mode: str, private_postgres: PostgresServer
) -> None:
    server = private_postgres
    settings = prepare(server.dsn, TABLE)
    async with capturing(settings) as thread:
        match mode:
            case "kill":
                await asyncio.to_thread(server.kill)
            case "fast":
                await asyncio.to_thread(server.stop, "fast")
            case _:
                await asyncio.to_thread(server.stop, "immediate")
        assert type(await lost(thread)) is Transient
    assert type(await failure(settings)) is Transient
    await asyncio.to_thread(server.start)
    execute(server.dsn, "insert into t values (1, 'a')")
    async with capturing(settings) as thread:
        assert news(await take(thread, 1)) == [(b"1", b"a")]


async def test_a_cut_connection_is_transient(database: str, proxy: MakeProxy) -> None:
    settings = prepare(database, TABLE)
    between = await proxy(database)
    async with capturing(at(settings, between.url)) as thread:
        await between.cut()
        assert type(await lost(thread)) is Transient


async def test_a_silent_server_is_given_up(
    make_postgres: MakePostgres, proxy: MakeProxy
) -> None:
    dsn = make_postgres(settings={"wal_sender_timeout": "600ms"}).dsn
    between = await proxy(dsn)
    settings = replace(at(prepare(dsn, TABLE), between.url), silence_max_s=1.0)
    async with capturing(settings) as thread:
        thread.ask()
        await asyncio.wait_for(thread.get(), DEADLINE_S)
        await between.stall()
        error = await lost(thread)
    assert type(error) is Transient
    assert "said nothing" in error.message


async def test_an_idle_server_is_not_given_up(make_postgres: MakePostgres) -> None:
    """It answers what it is asked with every feedback."""
    dsn = make_postgres(settings={"wal_sender_timeout": "600ms"}).dsn
    settings = replace(prepare(dsn, TABLE), silence_max_s=1.0)
    async with capturing(settings) as thread:
        began = await eventually(lambda: replied(dsn))
        await eventually(lambda: replied(dsn) > began + 3)
        execute(dsn, "insert into t values (1, 'a')")
        assert news(await take(thread, 1)) == [(b"1", b"a")]


async def test_closing_ends_a_connection_that_hangs(
    database: str, proxy: MakeProxy
) -> None:
    settings = prepare(database, TABLE)
    between = await proxy(database)
    await between.stall()
    patient = replace(at(settings, between.url), connect_timeout_s=10 * DEADLINE_S)
    thread: Batches = CaptureThread(patient, TransactionAssembler(), list)
    thread.start()
    await eventually(lambda: between.connections)
    await asyncio.wait_for(thread.close(), DEADLINE_S)
    with pytest.raises(CaptureClosed):
        await thread.opened()


@pytest.mark.parametrize("less", [100, 200, 300])
async def test_a_server_that_stops_answering_while_it_is_asked(
    database: str, proxy: MakeProxy, less: int
) -> None:
    """It is given up, and whoever closes does not wait for that."""
    settings = prepare(database, TABLE)
    between = await proxy(database)
    async with capturing(at(settings, between.url)):
        answered = between.forwarded[Way.DOWN] - less
    await between.stall_after(answered)
    hasty = replace(at(settings, between.url), silence_max_s=0.5)
    error = await failure(hasty)
    assert type(error) is Transient
    assert "said nothing when it was asked" in error.message
    await between.heal()
    await between.stall_after(answered)
    patient = replace(at(settings, between.url), silence_max_s=10 * DEADLINE_S)
    thread: Batches = CaptureThread(patient, TransactionAssembler(), list)
    thread.start()
    before = between.forwarded[Way.DOWN]
    await eventually(lambda: between.forwarded[Way.DOWN] == before + answered)
    await asyncio.wait_for(thread.close(), DEADLINE_S)


async def test_a_server_that_does_not_answer_is_transient(
    database: str, proxy: MakeProxy
) -> None:
    settings = prepare(database, TABLE)
    between = await proxy(database)
    await between.stall()
    hasty = replace(at(settings, between.url), connect_timeout_s=0.2)
    assert type(await failure(hasty)) is Transient


async def test_no_server_is_transient(database: str, proxy: MakeProxy) -> None:
    settings = prepare(database, TABLE)
    between = await proxy(database)
    await between.refuse()
    assert type(await failure(at(settings, between.url))) is Transient


async def test_a_slot_that_somebody_reads(database: str) -> None:
    settings = prepare(database, TABLE)
    async with capturing(settings):
        assert type(await failure(settings)) is SlotActive


async def test_a_slot_that_is_missing(database: str) -> None:
    settings = replace(prepare(database, TABLE), slot="nosuch")
    assert type(await failure(settings)) is SlotMissing


async def test_a_publication_that_is_missing(any_database: str) -> None:
    settings = replace(prepare(any_database, TABLE), publication="nosuch")
    assert type(await failure(settings)) is PublicationMissing


async def test_a_publication_that_goes_missing(database15: str) -> None:
    """On 15; Postgres 18 goes on without a word, which a fingerprint has to see."""
    settings = prepare(database15, TABLE)
    async with capturing(settings) as thread:
        execute(
            database15,
            f"drop publication {settings.publication}",
            "insert into t values (1, 'a')",
        )
        assert type(await lost(thread)) is PublicationMissing


async def test_a_lost_slot(make_postgres: MakePostgres) -> None:
    dsn = make_postgres(
        settings={
            "max_slot_wal_keep_size": "1MB",
            "min_wal_size": "32MB",
            "max_wal_size": "32MB",
        }
    ).dsn
    settings = prepare(dsn, TABLE)

    def is_lost() -> bool:
        execute(
            dsn,
            "insert into t select n, repeat('x', 500) from generate_series(1, 20000) n",
            "truncate t",
            "select pg_switch_wal()",
            "checkpoint",
        )
        ((status,),) = execute(dsn, "select wal_status from pg_replication_slots")
        return bool(status == "lost")

    await eventually(is_lost)
    assert type(await failure(settings)) is SlotLost


async def test_a_slot_of_another_database(database: str) -> None:
    settings = prepare(database, TABLE)
    elsewhere = database.rpartition("/")[0] + "/postgres"
    execute(
        elsewhere,
        f"create publication {settings.publication}",
    )
    try:
        error = await failure(at(settings, elsewhere))
    finally:
        execute(elsewhere, f"drop publication {settings.publication}")
    assert type(error) is Halt
    assert "not of this database" in error.message


async def test_unsafe_names_never_reach_the_server(database: str) -> None:
    settings = StreamSettings(database, 'x" LOGICAL 0/0 --', "p")
    assert type(await failure(settings)) is Halt


async def test_a_standby_and_another_timeline(make_postgres: MakePostgres) -> None:
    primary = make_postgres()
    settings = prepare(primary.dsn, TABLE)
    async with capturing(settings) as thread:
        identity = (await thread.opened()).identity
    assert identity.timeline == 1
    standby = await asyncio.to_thread(make_postgres, standby_of=primary)
    there = replace(settings, dsn=standby.dsn, expected=identity)
    assert type(await failure(there)) is Standby
    await asyncio.to_thread(standby.promote)
    error = await failure(there)
    assert type(error) is HistoryChanged
    assert "timeline 2" in error.message


async def test_another_cluster(make_postgres: MakePostgres, database: str) -> None:
    settings = prepare(database, TABLE)
    async with capturing(settings) as thread:
        identity = (await thread.opened()).identity
    other = prepare(make_postgres(other=True).dsn, TABLE)
    error = await failure(replace(other, expected=identity))
    assert type(error) is HistoryChanged
    assert "another cluster" in error.message


def demand_passwords(server: PostgresServer) -> None:
    """From now on `alice` needs one."""
    rules: Path = server.pgdata / "pg_hba.conf"
    rules.write_text("host all alice all scram-sha-256\n" + rules.read_text())
    execute(
        server.dsn,
        "create role alice login replication password 'right'",
        "select pg_reload_conf()",
    )


async def test_refused_logins_halt_and_keep_the_password_to_themselves(
    private_postgres: PostgresServer,
) -> None:
    server = private_postgres
    settings = prepare(server.dsn, TABLE)
    demand_passwords(server)
    execute(server.dsn, "create role bob login")
    for user in ("alice:wrong-secret", "alice", "nobody", "bob"):
        error = await failure(
            at(settings, server.dsn.replace("postgres@", f"{user}@", 1))
        )
        assert type(error) is Halt, error
        assert "secret" not in error.message + error.hint
        assert "secret" not in repr(settings)
    missing = await failure(at(settings, server.dsn_of("nosuch")))
    assert type(missing) is Halt
    async with capturing(
        at(settings, server.dsn.replace("postgres@", "alice:right@", 1))
    ):
        pass
