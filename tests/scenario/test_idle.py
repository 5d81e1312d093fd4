"""Where nothing is done the bridge does nothing, and the log is let go all the same.

Positions are written down into the log that they are about: a bridge that follows its
own records never comes to rest. One that follows nothing but its own database's
changes holds the log of a server whose other databases are busy.
"""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

QUIET = {"autovacuum": "off", "checkpoint_timeout": "1d", "max_wal_size": "10GB"}
"""Nobody else writes into the log."""
LOOKS = 100
"""Statements of the daemon: some of each kind that it repeats, several times."""
IDLE_BYTES_MAX = 1500
"""A sign of life a minute, and what the server notes of itself; looks that wrote
something each would make many times as much."""
BUSY = """
create table if not exists busy (text text);
insert into busy select repeat('x', 1000) from generate_series(1, 6000)
"""
"""6 MB: more than is left alone, since it could be the bridge's own records."""
LEFT_ALONE = 128 << 10


def standing(bridge: Bridge, what: str) -> int:
    """Where the bridge's slot stands, in bytes of log."""
    found = bridge.one(
        f"select ({what} - '0/0')::bigint from pg_replication_slots"
        " where slot_name = %s",
        bridge.slot,
    )
    return int(found)


async def grown(other: psycopg.Connection, name: str) -> int:
    """Bytes of log that were written while the daemon has looked so many times."""

    def look() -> tuple[int, int]:
        row = other.execute(
            "select pg_current_wal_insert_lsn() - '0/0', xact_commit"
            " from pg_stat_database where datname = %s",
            [name],
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    begins, before = look()
    await eventually(lambda: look()[1] >= before + LOOKS)
    return look()[0] - begins


async def is_let_go(bridge: Bridge, other: psycopg.Connection) -> int:
    """Wait until the slot has passed what another database writes; where that began."""
    begins = bridge.one("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
    other.execute(BUSY)
    ends = bridge.one("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
    await eventually(
        lambda: standing(bridge, "confirmed_flush_lsn") > ends - LEFT_ALONE,
    )
    other.execute("select pg_log_standby_snapshot()")  # as the server does in time
    return int(begins)


async def test_an_idle_bridge_writes_no_log_and_lets_go_of_that_of_others(
    make_postgres: MakePostgres, make_bridge: MakeBridge
) -> None:
    server = make_postgres(settings=QUIET)
    bridge = make_bridge(server.dsn)
    bridge.execute("create table item (id int primary key, name text)")
    bridge.execute("insert into item values (1, 'one')", "create database beside")
    bridge.configure({"item": 'table = "item"'}, sinks=("cache",))
    bridge.daemon.start()
    await bridge.ready()
    await bridge.settled()
    name = bridge.one("select current_database()")
    beside = make_conninfo(server.dsn, dbname="beside")
    with psycopg.connect(beside, autocommit=True) as other:
        first = await is_let_go(bridge, other)
        await is_let_go(bridge, other)
        # And the server may remove it: it is not only said to be read.
        await eventually(lambda: standing(bridge, "restart_lsn") > first)
        assert await grown(other, name) < IDLE_BYTES_MAX
    await bridge.ends_exact()
