"""The source goes on in another history: promoted, recovered, set back, replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from bridge.dev import PostgresServer
from tests.fixtures.private import MakePostgres
from tests.fixtures.proxy import FaultProxy, MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic, pgbridge
from tests.scenario.histories import (
    configure,
    goes_on,
    halts,
    in_next_epoch,
    started,
)
from tests.scenario.world import GRANTS, Bridge

pytestmark = pytest.mark.scenario


def built(bridge: Bridge) -> list[tuple[str, str, int]]:
    """Every generation that there is."""
    with psycopg.connect(bridge.dsn) as connection:
        cursor = connection.execute(
            "select sink, name, number from bridge.generation order by 1, 2, 3"
        )
        return [(str(sink), str(name), int(n)) for sink, name, n in cursor]


async def behind(bridge: Bridge, between: FaultProxy) -> None:
    """Started, with its source behind the proxy."""
    bridge.execute(*SCHEMA.split(";"))
    configure(bridge, between.url, "")
    bridge.daemon.start()
    await bridge.ready()


async def takes_over(
    bridge: Bridge, between: FaultProxy, old: PostgresServer, new: PostgresServer
) -> None:
    """The address of the source leads to the other server from now on."""
    await asyncio.to_thread(old.stop, "immediate")
    await between.refuse()
    if new.execute("select pg_is_in_recovery()") == [(True,)]:
        await asyncio.to_thread(new.promote)
    bridge.dsn = new.dsn
    await between.lead_to(new.dsn)
    await between.accept()


async def test_a_standby_with_the_slot_is_promoted(
    make_postgres: MakePostgres, make_bridge: MakeBridge, proxy: MakeProxy, seed: int
) -> None:
    """Nobody is asked and nothing is built anew: the slot is read on in another epoch,
    and what only the old primary had committed is gone from the documents."""
    primary = make_postgres()
    primary.execute("select pg_create_physical_replication_slot('standby', true)")
    standby = await asyncio.to_thread(make_postgres, standby_of=primary)
    await asyncio.to_thread(
        standby.alter_system,
        primary_conninfo=f"host=127.0.0.1 port={primary.port} user=postgres "
        "dbname=postgres",
        primary_slot_name="standby",
        hot_standby_feedback="on",
        sync_replication_slots="on",
    )
    between = await proxy(primary.dsn)
    bridge = make_bridge(primary.dsn)
    await behind(bridge, between)
    before = built(bridge)
    traffic = Traffic(primary.dsn, seed)

    def synchronised() -> bool:
        # What lets the slot's oldest log move on; else it is written each 15 s.
        primary.execute("select pg_log_standby_snapshot()")
        return bool(
            standby.execute(
                "select 1 from pg_replication_slots where failover and synced"
                f" and not temporary and slot_name = '{bridge.slot}'"
            )
        )

    await eventually(lambda: traffic.committed > 100)
    await traffic.stop()
    await eventually(synchronised, every_s=0.5)
    await asyncio.to_thread(standby.alter_system, primary_conninfo="")
    receivers = "select count(*) from pg_stat_wal_receiver"
    await eventually(lambda: standby.execute(receivers) == [(0,)])
    with psycopg.connect(primary.dsn, autocommit=True) as lost:
        lost.execute("insert into item (id, name, n) values (-1, 'lost', 2)")
        lost.execute("update item set name = 'lost too' where id between 1 and 50")
    await eventually(lambda: bridge.value("item", "-1"))
    await takes_over(bridge, between, primary, standby)
    await in_next_epoch(bridge)
    await goes_on(bridge)
    assert built(bridge) == before
    assert bridge.value("item", "-1") is None
    await bridge.ends_exact()
    # The old primary comes back, and somebody starts a bridge on it.
    await asyncio.to_thread(primary.start)
    await between.lead_to(primary.dsn)
    bridge.daemon.start()
    await halts(bridge, "a former primary", "apply --take-over")


async def test_it_is_recovered_to_a_point_in_time(
    make_postgres: MakePostgres, make_bridge: MakeBridge
) -> None:
    """From a base backup, which has no slot: documents of what came after are gone."""
    server = make_postgres(
        settings={
            "archive_mode": "on",
            "archive_command": "mkdir -p ../archive && cp %p ../archive/%f",
        }
    )
    bridge = await started(make_bridge(server.dsn))
    backup = server.pgdata.with_name("backup")
    server.place.run(
        *(server.bin / "pg_basebackup", "-D", backup, "-d", server.dsn),
        *("-X", "none", "--no-sync", "--checkpoint=fast"),
        cwd=backup.parent,
    )
    bridge.execute("update item set name = 'before the point' where id = 2")
    point = bridge.one("select pg_current_wal_insert_lsn()::text")
    # So that numbers of generations are used twice.
    rebuild = pgbridge, bridge.daemon.config, "backfill", "item", "--rebuild"
    code, _, said = await asyncio.to_thread(*rebuild)
    assert code == 0, said
    bridge.execute(
        "insert into item (id, name, n) values (-1, 'after', 2)",
        "update item set name = 'after the point' where id % 5 = 0",
        "delete from item where id % 7 = 0",
    )
    file = bridge.one("select pg_walfile_name(pg_switch_wal())")
    await eventually(lambda: bridge.value("item", "-1"))
    archived = "select last_archived_wal >= %s from pg_stat_archiver"
    await eventually(lambda: bridge.one(archived, file))
    assert await bridge.daemon.stop() == 0
    await asyncio.to_thread(server.stop)
    put_back(server, backup)
    (server.pgdata / "recovery.signal").touch()
    server.settings = {
        **server.settings,
        "restore_command": "cp ../archive/%f %p",
        "recovery_target_lsn": point,
        "recovery_target_action": "promote",
    }
    await asyncio.to_thread(server.start)
    await eventually(lambda: bridge.one("select not pg_is_in_recovery()"))
    bridge.daemon.start()
    await halts(bridge, "is gone")
    code, _, said = await asyncio.to_thread(pgbridge, bridge.daemon.config, "apply")
    assert code == 0, said
    bridge.daemon.start()
    await goes_on(bridge)
    assert bridge.value("item", "-1") is None
    found = bridge.value("item", "2")
    assert found["name"] == "before the point"
    await bridge.ends_exact()


def put_back(server: PostgresServer, copy: Path) -> None:
    """The data of a server that is stopped are those of the copy from now on."""
    server.place.remove(server.pgdata)
    server.place.run("/bin/cp", "-a", copy, server.pgdata, cwd=copy.parent)


@pytest.mark.parametrize("alive", [False, True], ids=["stopped", "running"])
async def test_its_data_are_put_back_as_they_were(
    make_postgres: MakePostgres, make_bridge: MakeBridge, alive: bool
) -> None:
    """The same cluster, on the same timeline, whose log has grown past what the sinks
    hold before anybody looks: nothing but what was noted tells it."""
    server = make_postgres()
    bridge = await started(make_bridge(server.dsn))
    assert await bridge.daemon.stop() == 0
    await asyncio.to_thread(server.stop)
    copy = server.pgdata.with_name("copy")
    server.place.run("/bin/cp", "-a", server.pgdata, copy, cwd=copy.parent)
    await asyncio.to_thread(server.start)
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "insert into item (id, name, n) values (-1, 'forgotten', 2)",
        "update item set name = 'forgotten' where id % 5 = 0",
        "delete from item where id % 7 = 0",
    )
    await eventually(lambda: bridge.value("item", "-1"))
    noted = "select noted_lsn > %s from bridge.source"
    before = bridge.one("select noted_lsn from bridge.source")
    await eventually(lambda: bridge.one(noted, before))
    if not alive:
        assert await bridge.daemon.stop() == 0
    end = bridge.one("select pg_current_wal_insert_lsn()::text")
    await asyncio.to_thread(server.stop, "immediate")
    put_back(server, copy)
    await asyncio.to_thread(server.start)
    bridge.execute("update item set name = 'the only one' where id % 5 = 0")
    while bridge.one("select pg_current_wal_insert_lsn() < %s::pg_lsn", end):
        bridge.execute(
            "select pg_logical_emit_message(false, 'fill', repeat('x', 100000))"
        )
    if not alive:
        bridge.daemon.start()
    await halts(bridge, "set back to an earlier state", "apply --take-over")
    code, _, said = await asyncio.to_thread(pgbridge, bridge.daemon.config, "apply")
    assert code == 1
    assert "apply --take-over" in said
    take_over = pgbridge, bridge.daemon.config, "apply", "--take-over"
    code, _, said = await asyncio.to_thread(*take_over)
    assert code == 0, said
    bridge.daemon.start()
    await goes_on(bridge)
    assert bridge.value("item", "-1") is None
    await bridge.ends_exact()


async def keeps_out(bridge: Bridge) -> bool:
    """Whether the daemon halts wherever another bridge has written."""
    status = await bridge.daemon.status()
    targets, sinks = status.get("targets") or [], status.get("sinks") or []
    return {s["name"]: s["state"] for s in sinks}.get("cache") == "halted" and all(
        target["state"] == "halted" for target in targets if target["sink"] == "search"
    )


@pytest.mark.slow
async def test_another_cluster_stands_behind_the_address(
    make_postgres: MakePostgres, make_bridge: MakeBridge, proxy: MakeProxy
) -> None:
    """An empty one is kept from the sinks; one that was made from a dump halts, until
    the operator says that it takes the place of the first."""
    first, second = make_postgres(), make_postgres(other=True)
    between = await proxy(first.dsn)
    bridge = make_bridge(first.dsn)
    await behind(bridge, between)
    dump = first.pgdata.with_name("dump.sql")
    tool = first.bin / "pg_dump"
    first.place.run(tool, "-d", first.dsn, "-f", dump, cwd=dump.parent)
    bridge.execute("update item set name = 'of the first alone' where id % 3 = 0")
    found = bridge.one("select name from item where id = 3")
    await eventually(lambda: bridge.value("item", "3")["name"] == found)
    second.execute(SCHEMA)
    second.execute(GRANTS.decode())  # roles are in no dump
    await takes_over(bridge, between, first, second)
    await eventually(lambda: keeps_out(bridge))
    assert bridge.value("item", "3")["name"] == found
    assert await bridge.daemon.stop() == 0
    drop = pgbridge, bridge.daemon.config, "drop", "--yes"
    code, _, said = await asyncio.to_thread(*drop)
    assert code == 0, said
    second.execute("drop table item")
    second.place.run(
        *(second.bin / "psql", "-d", second.dsn, "-q", "-f", dump), cwd=dump.parent
    )
    bridge.execute("delete from item where id % 11 = 0")
    bridge.daemon.start()
    await halts(bridge, "is another cluster", "apply --take-over")
    take_over = pgbridge, bridge.daemon.config, "apply", "--take-over"
    code, _, said = await asyncio.to_thread(*take_over)
    assert code == 0, said
    bridge.daemon.start()
    await goes_on(bridge)
    assert bridge.value("item", "11") is None
    await bridge.ends_exact()
