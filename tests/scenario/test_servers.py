"""Servers that crash, vanish, refuse and forget, under load: nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pytest
import redis

from bridge.dev import ElasticsearchServer, ValkeyServer
from tests.fixtures.private import MakePostgres
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

VIEWS = {
    "item": 'table = "item"',
    "small": 'query = "select id, name as label, n from item where n % 2 = 0"',
}
IMPATIENT = {"wal_sender_timeout": "2s"}
DURABLE = {"fsync": "on", "full_page_writes": "on"}


async def started(bridge: Bridge, options: Mapping[str, str] | None = None) -> Bridge:
    """The bridge, with rows, streaming."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, options=options)
    bridge.daemon.start()
    await bridge.ready()
    return bridge


async def more(traffic: Traffic, count: int = 100) -> None:
    """Wait for some more commits."""
    goal = traffic.committed + count
    await eventually(lambda: traffic.committed >= goal)


async def test_postgres_crashes_under_load(
    make_postgres: MakePostgres, make_bridge: MakeBridge, seed: int
) -> None:
    """Three times, with commits that were acknowledged and some that were not."""
    server = make_postgres(settings=DURABLE | IMPATIENT)
    bridge = await started(make_bridge(server.dsn))
    traffic = Traffic(server.dsn, seed)
    for _ in range(3):
        await more(traffic)
        await asyncio.to_thread(server.restart, "immediate")
    await more(traffic)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_the_walsender_is_terminated(bridge: Bridge, seed: int) -> None:
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    seen = set()

    def walsender() -> int:
        query = "select active_pid from pg_replication_slots where slot_name = %s"
        return bridge.one(query, bridge.slot) or 0

    for _ in range(4):
        pid = await eventually(walsender)
        assert pid not in seen, "the same connection still streams"
        seen.add(pid)
        await more(traffic, 50)
        assert bridge.one("select pg_terminate_backend(%s, 10000)", pid)
    await more(traffic, 50)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_elasticsearch_is_killed_and_comes_back(
    database: str,
    make_bridge: MakeBridge,
    private_elasticsearch: ElasticsearchServer,
    seed: int,
) -> None:
    """Meanwhile the cache goes on; what was sent and not answered is sent again."""
    server = private_elasticsearch
    bridge = await started(make_bridge(database, es=server.url))
    traffic = Traffic(database, seed)
    await more(traffic)
    await asyncio.to_thread(server.kill)
    await more(traffic)
    await eventually(lambda: sink_is(bridge, "search", "down"))
    bridge.execute("insert into item (id, name, n) values (-1, 'while away', 2)")
    await eventually(lambda: bridge.value("item", "-1"))
    await asyncio.to_thread(server.start)
    await traffic.stop()
    await eventually(lambda: sink_is(bridge, "search", "ok"))
    await bridge.settled()
    await bridge.ends_exact()


async def sink_is(bridge: Bridge, name: str, state: str) -> bool:
    status = await bridge.daemon.status()
    return any((s["name"], s["state"]) == (name, state) for s in status["sinks"])


async def test_redis_comes_back_empty(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer, seed: int
) -> None:
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    traffic = Traffic(database, seed)
    for _ in range(2):
        await more(traffic)
        await asyncio.to_thread(private_valkey.kill)
        await more(traffic, 20)
        await asyncio.to_thread(private_valkey.start)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_redis_is_flushed_while_nothing_is_written(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    """No connection breaks and no write follows: the audit alone can see it."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    await bridge.settled()
    with redis.Redis.from_url(private_valkey.url) as client:
        client.flushall()
        assert not client.dbsize()
    await bridge.settled()
    await bridge.ends_exact()


async def test_redis_is_flushed_under_load(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer, seed: int
) -> None:
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    traffic = Traffic(database, seed)
    await more(traffic)
    with redis.Redis.from_url(private_valkey.url) as client:
        client.flushall()
    await more(traffic)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_an_index_is_deleted_while_running(bridge: Bridge, seed: int) -> None:
    """Both targets, one written to and one at rest; each is built again."""
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    await more(traffic)
    with httpx.Client(base_url=bridge.es, trust_env=False) as client:
        for view in VIEWS:
            client.delete(f"/{bridge.prefix}{view}--g1").raise_for_status()
    await more(traffic)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_both_sinks_fail_for_a_while(
    database: str,
    make_bridge: MakeBridge,
    es_url: str,
    redis_url: str,
    proxy: MakeProxy,
    seed: int,
) -> None:
    """The stream waits for them, and goes on by itself when they are: closed ports,
    broken connections, no answer to what was sent, and none to who connects."""
    search, cache = await proxy(es_url), await proxy(redis_url)
    bridge = await started(
        make_bridge(database, es=search.url, redis=cache.url),
        dict.fromkeys(("search", "cache"), 'request_timeout = "5s"'),
    )
    traffic = Traffic(database, seed)
    for fault in ("refuse", "cut", "stall", "deaf"):
        await more(traffic, 40)
        for way in (search, cache):
            await getattr(way, fault)()
        await more(traffic, 80)
        if fault != "cut":
            for name in ("search", "cache"):
                await eventually(lambda name=name: sink_is(bridge, name, "down"))
        for way in (search, cache):
            await way.heal()
        for name in ("search", "cache"):
            await eventually(lambda name=name: sink_is(bridge, name, "ok"))
    await more(traffic, 40)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_the_source_comes_after_the_daemon(
    database: str, make_bridge: MakeBridge, proxy: MakeProxy
) -> None:
    """Live and not ready while it is unreachable; then as if it had always been."""
    source = await proxy(database)
    bridge = make_bridge(database)
    bridge.execute(*SCHEMA.split(";"))
    await source.refuse()
    bridge.configure(VIEWS, via=source.url)
    bridge.daemon.start()
    await eventually(lambda: answers(bridge, "live", 200))
    await eventually(lambda: answers(bridge, "ready", 503))
    assert bridge.daemon.running
    await source.accept()
    await bridge.ready()
    await eventually(lambda: answers(bridge, "ready", 200))
    bridge.execute("update item set n = n + 1")
    await bridge.settled()
    await bridge.ends_exact()


async def answers(bridge: Bridge, page: str, code: int) -> bool:
    answer = await bridge.daemon.page(page)
    return answer is not None and answer.status_code == code


async def test_killed_just_after_a_change_nothing_is_built_again(
    bridge: Bridge,
) -> None:
    """Its position is written down here, and the sinks were not told of it yet: that
    they say less is no loss."""
    await started(bridge)
    written = "select min(lsn) - '0/0' from bridge.progress"
    for n in range(2):
        before = int(bridge.one("select pg_current_wal_flush_lsn() - '0/0'"))
        bridge.execute(f"update item set name = 'round {n}' where id = 2")
        await eventually(lambda at=before: int(bridge.one(written)) > at)
        await bridge.daemon.kill()
        bridge.daemon.start()
        await bridge.ready()
        await bridge.settled()
    assert "sink lost documents" not in bridge.daemon.log.read_text()
    await bridge.ends_exact()
