"""In the log and not yet visible: what is read then must wait, and so must the slot.

A synchronous standby that does not answer keeps a commit in that state for as long as
the test wants. Each test is made once more with the part of the gate that it is about
taken out of the daemon, and must then find a document that stays wrong for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from bridge.dev import PostgresServer
from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import Differs
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

TIMEOUT_S = 2.0
SCHEMA = (
    "create table item (id bigint primary key, name text, n integer not null)",
    "insert into item select g, 'item ' || g, g from generate_series(1, 20) g",
)
DIRECT = {"item": 'table = "item"'}
EVEN = {"even": 'query = "select id, name, n from item where n % 2 = 0"'}


@pytest.fixture
def server(make_postgres: MakePostgres) -> PostgresServer:
    """A Postgres that gives a silent client up soon."""
    return make_postgres(settings={"wal_sender_timeout": f"{TIMEOUT_S:g}s"})


@asynccontextmanager
async def absent_standby(server: PostgresServer) -> AsyncIterator[None]:
    """Commits wait for a standby that does not exist, until the end of the block."""
    server.alter_system(synchronous_standby_names="nosuch")
    query = "select current_setting('synchronous_standby_names')"
    await eventually(lambda: server.execute(query) == [("nosuch",)])
    try:
        yield
    finally:
        server.alter_system(synchronous_standby_names=None)


def walsender(bridge: Bridge) -> int:
    query = "select active_pid from pg_replication_slots where slot_name = %s"
    return int(bridge.one(query, bridge.slot) or 0)


def confirmed(bridge: Bridge) -> int:
    """Where the slot stands."""
    query = (
        "select confirmed_flush_lsn - '0/0' from pg_replication_slots"
        " where slot_name = %s"
    )
    return int(bridge.one(query, bridge.slot))


async def passed(bridge: Bridge, key: str, number: int) -> None:
    """Wait until the sink holds that change, and the server was then told twice where
    the daemon stands: what it would acknowledge, it has."""

    def replied() -> float:
        query = (
            "select extract(epoch from reply_time) from pg_stat_replication"
            " where pid = %s"
        )
        return float(bridge.one(query, walsender(bridge)) or 0.0)

    await eventually(lambda: bridge.value("item", key)["n"] == number)
    for _ in range(2):
        before = replied()
        await eventually(lambda at=before: replied() > at)


# — streamed while invisible —


async def streamed_while_invisible(
    server: PostgresServer, bridge: Bridge, mutant: str = ""
) -> bool:
    """An update of a view that is read back; whether anything was written too soon."""
    bridge.execute(*SCHEMA)
    bridge.configure(EVEN)
    bridge.daemon.start(mutant=mutant)
    await bridge.ready()
    before = await bridge.document("even", "2")
    sender = walsender(bridge)
    early = False

    async def long_enough() -> bool:
        nonlocal early
        early = await bridge.document("even", "2") != before
        waited = await bridge.daemon.metric("pgbridge_gate_wait_seconds")
        return early or waited > 2 * TIMEOUT_S

    async with absent_standby(server), asyncio.timeout(DEADLINE_S):
        update = "update item set name = 'later' where id = 2"
        async with bridge.committing(update, "update item set n = 4 where id = 3"):
            await eventually(long_enough)
            assert walsender(bridge) == sender, "the connection was lost"
            if not early:
                assert bridge.value("even", "2") == {"id": 2, "name": "item 2", "n": 2}
            server.alter_system(synchronous_standby_names=None)
    await bridge.ends_exact()
    found = await bridge.document("even", "2")
    assert found is not None and found.source["name"] == "later"
    return early


async def test_what_is_streamed_while_invisible_is_read_later(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    assert not await streamed_while_invisible(server, make_bridge(server.dsn))


async def test_what_is_streamed_while_invisible_needs_the_gate(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    with pytest.raises(Differs):
        await streamed_while_invisible(
            server, make_bridge(server.dsn), mutant="reads-at-once"
        )


# — before the slot's start —


async def committed_before_the_slot(
    server: PostgresServer, bridge: Bridge, mutant: str = ""
) -> None:
    """The slot waits for two transactions in turn. What begins after the first has
    ended, and is in the log before the second has, is neither streamed nor visible."""
    bridge.execute(*SCHEMA, "create table other (id integer primary key)")
    bridge.configure(DIRECT | EVEN)
    async with (
        await psycopg.AsyncConnection.connect(server.dsn) as first,
        await psycopg.AsyncConnection.connect(server.dsn) as second,
        absent_standby(server),
        asyncio.timeout(DEADLINE_S),
    ):
        await first.execute("insert into other values (1)")
        bridge.daemon.start(mutant=mutant)
        await eventually(lambda: slot_waits_for(bridge, first))
        await second.execute("insert into other values (2)")
        await first.rollback()
        await eventually(lambda: slot_waits_for(bridge, second))
        async with bridge.committing("update item set name = 'x', n = 4 where id < 4"):
            await second.rollback()
            if mutant:
                await bridge.ready()
            else:
                await eventually(lambda: gate_waits(bridge))
                targets = (await bridge.daemon.status())["targets"]
                assert {target["state"] for target in targets} == {"building"}
            server.alter_system(synchronous_standby_names=None)
    await bridge.ready()
    await bridge.ends_exact()


def slot_waits_for(bridge: Bridge, own: psycopg.AsyncConnection[object]) -> bool:
    """Whether the making of the slot waits for the transaction of this session."""
    query = (
        "select exists (select from pg_stat_activity where %s = any("
        "pg_blocking_pids(pid)) and query ~ 'create_logical_replication_slot')"
    )
    return bool(bridge.one(query, own.info.backend_pid))


async def gate_waits(bridge: Bridge) -> bool:
    return await bridge.daemon.metric("pgbridge_gate_wait_seconds") > 0


async def test_what_committed_before_the_slot_is_waited_for(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    await committed_before_the_slot(server, make_bridge(server.dsn))


async def test_what_committed_before_the_slot_needs_the_barrier(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    with pytest.raises(Differs):
        await committed_before_the_slot(
            server, make_bridge(server.dsn), mutant="no-barrier"
        )


# — over a restart —


async def invisible_over_a_restart(
    server: PostgresServer, bridge: Bridge, mutant: str = ""
) -> bool:
    """Documents from the log are written while invisible; the slot must not move.
    Else the next daemon never sees the change, and reads for a new target without it.
    Whether the slot has moved."""
    bridge.execute(*SCHEMA)
    bridge.configure(DIRECT)
    bridge.daemon.start(mutant=mutant)
    await bridge.ready()
    async with absent_standby(server), asyncio.timeout(DEADLINE_S):
        update = "update item set name = 'later', n = 4 where id < 4"
        async with bridge.committing(update):
            await eventually(lambda: bridge.value("item", "1")["name"] == "later")
            after = int(bridge.one("select pg_current_wal_flush_lsn() - '0/0'"))
            with psycopg.connect(bridge.dsn) as own:
                own.execute("set synchronous_commit = off")
                own.execute("update item set n = 20 where id = 20")
            if mutant:
                await eventually(lambda: confirmed(bridge) >= after)
            else:
                await passed(bridge, "20", 20)
            moved = confirmed(bridge) >= after
            await bridge.daemon.kill()
            bridge.configure(DIRECT | EVEN)
            bridge.daemon.start(mutant=mutant)
            if mutant:
                await bridge.ready()
            else:
                await eventually(lambda: gate_waits(bridge))
            server.alter_system(synchronous_standby_names=None)
    await bridge.ready()
    await bridge.ends_exact()
    return moved


async def test_the_slot_waits_for_what_is_invisible_over_a_restart(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    assert not await invisible_over_a_restart(server, make_bridge(server.dsn))


async def test_what_is_invisible_over_a_restart_needs_the_acknowledgement_to_wait(
    server: PostgresServer, make_bridge: MakeBridge
) -> None:
    with pytest.raises(Differs):
        await invisible_over_a_restart(
            server, make_bridge(server.dsn), mutant="acknowledges-invisible"
        )


# — a table published while a writer is open on it —


async def published_under_a_writer(bridge: Bridge, how: str, mutant: str = "") -> None:
    """What the writer wrote before is in no stream, nor in a snapshot until it ends."""
    bridge.execute(*SCHEMA, "create table other (id integer primary key, word text)")
    bridge.configure(DIRECT)
    bridge.daemon.start(mutant=mutant)
    await bridge.ready()
    async with (
        await psycopg.AsyncConnection.connect(bridge.dsn) as writer,
        asyncio.timeout(DEADLINE_S),
    ):
        await writer.execute("insert into other values (1, 'before')")
        if how == "published by hand":
            bridge.execute(f"alter publication {bridge.slot} add table other")
        elif how == "restarted":
            assert await bridge.daemon.stop() == 0
        bridge.configure(DIRECT | {"other": 'table = "other"'})
        if how == "restarted":
            bridge.daemon.start(mutant=mutant)
        await eventually(lambda: is_published(bridge, "other"))
        await writer.execute("insert into other values (2, 'after')")
        if mutant:
            await eventually(lambda: has_targets(bridge, 4))
            await bridge.ready()
        else:
            await eventually(lambda: gate_waits(bridge))
            # Documents that come straight from the log do not wait.
            bridge.execute("update item set name = 'meanwhile' where id = 1")
            await eventually(lambda: bridge.value("item", "1")["name"] == "meanwhile")
            assert bridge.value("other", "1") is None
        await writer.commit()
    await bridge.ready()
    await bridge.ends_exact()


def is_published(bridge: Bridge, table: str) -> bool:
    query = (
        "select exists (select from pg_publication_tables"
        " where pubname = %s and tablename = %s)"
    )
    return bool(bridge.one(query, bridge.slot, table))


async def has_targets(bridge: Bridge, count: int) -> bool:
    return len((await bridge.daemon.status()).get("targets", [])) == count


PUBLISHED = ("edited", "restarted", "published by hand")


@pytest.mark.parametrize("how", PUBLISHED)
async def test_a_table_published_under_a_writer_is_read_when_it_has_ended(
    bridge: Bridge, how: str
) -> None:
    await published_under_a_writer(bridge, how)


@pytest.mark.parametrize("how", PUBLISHED)
async def test_a_table_published_under_a_writer_needs_the_barrier(
    bridge: Bridge, how: str
) -> None:
    with pytest.raises(Differs):
        await published_under_a_writer(bridge, how, mutant="no-publication-barrier")
