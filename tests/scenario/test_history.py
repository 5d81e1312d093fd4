"""The log was lost, or goes on from another place: said, and built anew on request."""

from __future__ import annotations

import asyncio
import signal

import psycopg
import pytest
import redis

from tests.fixtures.private import MakePostgres
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic, pgbridge
from tests.scenario.histories import (
    REBUILD,
    VIEWS,
    configure,
    goes_on,
    halts,
    in_next_epoch,
    started,
)
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("how", ["by itself", "by hand", "while building", "made anew"])
async def test_the_slot_is_dropped_while_nobody_runs(bridge: Bridge, how: str) -> None:
    """Rows deleted meanwhile are in no stream: no document of them is left, whoever has
    it built again, in what was live and in what was half built; nor where somebody has
    made a slot of the same name."""
    await started(bridge)
    if how == "while building":
        bridge.configure(VIEWS, daemon="backfill_rate = 100")
        bridge.execute("select bridge.backfill('item', rebuild => true)")
        begun = "select count(*) from bridge.backfill_range where done"
        await eventually(lambda: bridge.one(begun) > 1)
    await bridge.daemon.stop()
    assert bridge.value("item", "7")
    bridge.execute(
        f"select pg_drop_replication_slot('{bridge.slot}')",
        "delete from item where id % 7 = 0",
        "update item set name = 'changed meanwhile' where id % 5 = 0",
    )
    if how == "made anew":
        make = "select pg_create_logical_replication_slot"
        bridge.execute(f"{make}('{bridge.slot}', 'pgoutput')")
    else:
        bridge.daemon.start()
        await halts(bridge, "is gone")
        if how == "by hand":
            code, _, told = pgbridge(bridge.daemon.config, "apply")
            assert code == 0, told
        bridge.configure(VIEWS, daemon="" if how == "by hand" else REBUILD)
    bridge.daemon.start()
    if how == "made anew":
        await bridge.settled()
    else:
        await in_next_epoch(bridge)
        await goes_on(bridge)
    assert bridge.value("item", "7") is None
    assert await bridge.document("item", "7") is None
    with redis.Redis.from_url(bridge.redis) as client:
        kept = sum(1 for _ in client.scan_iter(f"{bridge.prefix}item:*"))
    assert kept == bridge.one("select count(*) from item")
    await bridge.ends_exact()


async def test_the_slot_is_lost_to_the_limit_on_its_log(
    make_postgres: MakePostgres, make_bridge: MakeBridge
) -> None:
    server = make_postgres(
        settings={"max_slot_wal_keep_size": "16MB", "max_wal_size": "32MB"}
    )
    bridge = await started(make_bridge(server.dsn))
    await bridge.daemon.stop()
    bridge.execute("delete from item where id % 3 = 0")
    for _ in range(6):
        bridge.execute(
            "select pg_logical_emit_message(false, 'fill', repeat('x', 12000000))",
            "select pg_switch_wal()",
            "checkpoint",
        )
    assert (
        bridge.one(
            "select wal_status from pg_replication_slots where slot_name = %s",
            bridge.slot,
        )
        == "lost"
    )
    bridge.daemon.start()
    await halts(bridge, "is lost")
    bridge.configure(VIEWS, daemon=REBUILD)
    bridge.daemon.start()
    await in_next_epoch(bridge)
    await goes_on(bridge)
    await bridge.ends_exact()


@pytest.mark.parametrize(
    "daemon",
    [
        pytest.param("", marks=pytest.mark.slow, id="halt"),
        pytest.param(REBUILD, id="rebuild"),
    ],
)
async def test_a_standby_is_promoted(
    make_postgres: MakePostgres,
    make_bridge: MakeBridge,
    proxy: MakeProxy,
    seed: int,
    daemon: str,
) -> None:
    """What only the old primary had committed is gone from the documents too."""
    primary = make_postgres(settings={"wal_level": "logical"})
    standby = await asyncio.to_thread(make_postgres, standby_of=primary)
    between = await proxy(primary.dsn)
    bridge = make_bridge(primary.dsn)
    bridge.execute(*SCHEMA.split(";"))
    configure(bridge, between.url, daemon)
    bridge.daemon.start()
    await bridge.ready()
    traffic = Traffic(primary.dsn, seed)
    await eventually(lambda: traffic.committed > 100)
    await traffic.stop()
    await asyncio.to_thread(standby.alter_system, primary_conninfo="")
    receivers = "select count(*) from pg_stat_wal_receiver"
    await eventually(lambda: standby.execute(receivers) == [(0,)])
    with psycopg.connect(primary.dsn, autocommit=True) as lost:
        lost.execute("insert into item (id, name, n) values (-1, 'lost', 2)")
    await eventually(lambda: bridge.value("item", "-1"))
    await asyncio.to_thread(primary.stop, "immediate")
    await between.refuse()
    await asyncio.to_thread(standby.promote)
    bridge.dsn = standby.dsn
    await between.lead_to(standby.dsn)
    await between.accept()
    if not daemon:
        await halts(bridge, "changes were missed")
        configure(bridge, between.url, REBUILD)
        bridge.daemon.start()
    await in_next_epoch(bridge)
    await goes_on(bridge)
    assert bridge.value("item", "-1") is None
    await bridge.ends_exact()


async def beside(bridge: Bridge, make_bridge: MakeBridge) -> Bridge:
    """A second daemon of the same bridge, which stands by."""
    second = make_bridge(bridge.dsn)
    second.directory = bridge.directory / "second"
    second.directory.mkdir()
    second.__post_init__()
    second.configure(VIEWS)
    second.daemon.start()
    await eventually(lambda: stands_by(second))
    return second


async def stands_by(bridge: Bridge) -> bool:
    """Whether its daemon says that another one runs."""
    status = await bridge.daemon.status()
    return status.get("source", {}).get("state") == "standby"


async def test_a_second_daemon_takes_over(
    bridge: Bridge, make_bridge: MakeBridge
) -> None:
    """It stands by while the first lives, and writes soon after that was killed."""
    await started(bridge)
    second = await beside(bridge, make_bridge)
    bridge.execute("insert into item (id, name, n) values (-1, 'first', 2)")
    await eventually(lambda: bridge.value("item", "-1"))
    assert await stands_by(second)
    await bridge.daemon.kill()
    bridge.execute("insert into item (id, name, n) values (-2, 'second', 2)")
    await eventually(lambda: bridge.value("item", "-2"))
    assert "lost documents" not in second.daemon.log.read_text()
    await second.settled()
    await second.ends_exact()


@pytest.mark.parametrize("how", ["frozen", "cut off"])
async def test_a_daemon_that_comes_back_writes_nothing(
    bridge: Bridge,
    make_bridge: MakeBridge,
    proxy: MakeProxy,
    redis_url: str,
    how: str,
) -> None:
    """Frozen or cut off from its source with writes to be sent, it has lost its lease
    and its slot when it comes back: it stands by, and another one has gone on."""
    source, cache = await proxy(bridge.dsn), await proxy(redis_url)
    bridge.execute(*SCHEMA.split(";"))
    own, bridge.redis = bridge.redis, cache.url
    configure(bridge, source.url, "")
    bridge.redis = own
    bridge.daemon.start()
    await bridge.ready()
    second = await beside(bridge, make_bridge)
    await cache.stall()
    bridge.execute("update item set name = 'waits' where id <= 200")
    process = bridge.daemon.process
    assert process is not None
    if how == "frozen":
        process.send_signal(signal.SIGSTOP)
    else:
        await source.stall()
    await eventually(lambda: second.value("item", "7")["name"] == "waits")
    assert process.poll() is None
    bridge.execute("update item set name = 'later' where id <= 100")
    await second.settled()
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("commandstats")["cmdstat_fcall"]["calls"]
        await cache.cut()  # what was under way never arrives
        await cache.flow()
        if how == "frozen":
            process.send_signal(signal.SIGCONT)
        else:
            await source.cut()
            await source.flow()
        await eventually(lambda: stands_by(bridge))
        assert client.info("commandstats")["cmdstat_fcall"]["calls"] == before
    assert bridge.value("item", "7")["name"] == "later"
    assert await bridge.daemon.stop() == 0
    bridge.execute("insert into item (id, name, n) values (-2, 'second', 2)")
    await eventually(lambda: second.value("item", "-2"))
    await second.settled()
    await second.ends_exact()
