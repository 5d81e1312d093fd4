"""Redis' bad days: what a server forgot, refused or never had is there in the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.dev import ValkeyServer
from sinks.redis.health import durable_offset
from tests.fixtures.private import MakeValkey
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

VIEWS = {
    "item": 'table = "item"',
    "small": 'query = "select id, name as label, n from item where n % 2 = 0"',
}
CACHE = ("cache",)
CHANGE = "update item set name = name || ' again', n = n + 1 where id % 3 = 0"
REMOVE = "delete from item where id % 7 = 0"
MORE = (
    "insert into item (id, name, n, note)"
    " select g, 'more ' || g, 2, repeat('more ', 600)"
    " from generate_series(1001, 2000) g"
)
SIDE_BY_SIDE = {"small/cache": 'key = "s{generation}:{id}"\nencoding = "hash"'}


async def started(bridge: Bridge) -> Bridge:
    """With rows, streaming into Redis alone: one target whose rebuild is in place, one
    whose generations stand side by side."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, sinks=CACHE, options=SIDE_BY_SIDE)
    bridge.daemon.start()
    await bridge.ready()
    await bridge.settled()
    return bridge


def told(url: str, *command: str) -> Any:
    with redis.Redis.from_url(url) as client:
        return client.execute_command(*command)


async def in_state(bridge: Bridge, state: str, *said: str) -> None:
    """Wait until the sink is in that state, for a reason that says these words."""

    async def there() -> bool:
        status = await bridge.daemon.status()
        (sink,) = status["sinks"]
        return sink["state"] == state and all(w in sink["reason"] for w in said)

    await eventually(there)


async def mended(bridge: Bridge) -> None:
    """Equal to SQL, with what is committed from now on too."""
    await bridge.settled()
    bridge.execute("insert into item (id, name, n) values (-9, 'after', 2)")
    await eventually(lambda: bridge.value("item", "-9"))
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize(
    "how", [pytest.param("FLUSHDB", marks=pytest.mark.slow), "FLUSHALL", "restart"]
)
async def test_everything_is_forgotten(
    database: str,
    make_bridge: MakeBridge,
    private_valkey: ValkeyServer,
    how: str,
    running: bool,
) -> None:
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    if not running:
        await bridge.daemon.stop()
    bridge.execute(REMOVE)
    if how == "restart":
        await asyncio.to_thread(private_valkey.kill)
        await asyncio.to_thread(private_valkey.start)
    else:
        told(bridge.redis, how)
    if not running:
        bridge.daemon.start()
        await bridge.ready()
    await mended(bridge)


@pytest.mark.parametrize("probe", ["backfill.kept", "generation.built"])
async def test_a_build_is_forgotten(
    database: str,
    make_bridge: MakeBridge,
    private_valkey: ValkeyServer,
    tmp_path: Path,
    probe: str,
) -> None:
    """Where it is filled, and just before it is compared: it is built once more."""
    bridge = make_bridge(database, redis=private_valkey.url)
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, sinks=CACHE, options=SIDE_BY_SIDE)
    (tmp_path / "armed").write_text(probe)
    bridge.daemon.start(hold=tmp_path)
    await eventually((tmp_path / "reached").exists)
    told(bridge.redis, "FLUSHALL")
    bridge.execute(REMOVE)
    (tmp_path / "reached").unlink()
    await bridge.ready()
    await mended(bridge)


@pytest.mark.parametrize("flush", [("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH")])
async def test_scripts_are_flushed(
    database: str,
    make_bridge: MakeBridge,
    private_valkey: ValkeyServer,
    flush: tuple[str, str],
) -> None:
    """Loaded again, and not a document is derived for it."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    told(bridge.redis, *flush)
    bridge.execute(CHANGE, REMOVE)
    await mended(bridge)
    assert "sink lost documents" not in bridge.daemon.log.read_text()


async def test_memory_is_full_for_a_while(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    """What does not fit waits; nothing of it is a dead letter, or half written."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    used = int(told(bridge.redis, "INFO", "memory")["used_memory"])
    told(bridge.redis, "CONFIG", "SET", "maxmemory", str(used + (256 << 10)))
    bridge.execute(MORE, CHANGE, REMOVE)
    await in_state(bridge, "down", "memory")
    told(bridge.redis, "CONFIG", "SET", "maxmemory", "0")
    await in_state(bridge, "ok")
    await mended(bridge)


async def test_keys_are_evicted(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    """Somebody lets the server evict any key: what it took is derived again."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    told(bridge.redis, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    used = int(told(bridge.redis, "INFO", "memory")["used_memory"])
    told(bridge.redis, "CONFIG", "SET", "maxmemory", str(used - (256 << 10)))

    def evicted() -> int:
        return int(told(bridge.redis, "INFO", "stats")["evicted_keys"])

    await eventually(lambda: evicted() > 10)
    told(bridge.redis, "CONFIG", "SET", "maxmemory", "0")
    await mended(bridge)


@pytest.mark.slow
async def test_keys_are_evicted_while_nobody_runs(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    await bridge.daemon.stop()
    with redis.Redis.from_url(bridge.redis) as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
        await eventually(lambda: client.info("stats")["evicted_keys"] > 10)
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    bridge.daemon.start()
    await bridge.ready()
    await mended(bridge)


async def test_a_failover_to_a_replica_that_lacks_writes(
    database: str, make_bridge: MakeBridge, make_valkey: MakeValkey, proxy: MakeProxy
) -> None:
    """The server had acknowledged them; only those keys are derived again."""
    primary = await asyncio.to_thread(make_valkey)
    replica = await asyncio.to_thread(make_valkey, replica_of=primary)
    through = await proxy(primary.url)
    bridge = await started(make_bridge(database, redis=through.url))
    with redis.Redis.from_url(primary.url) as client:

        def level() -> bool:
            found = client.info("replication")
            return durable_offset(found) == found["master_repl_offset"]

        await eventually(level)
    told(replica.url, "REPLICAOF", "127.0.0.1", "1")  # cut off, with what it has
    bridge.execute(CHANGE, REMOVE, "insert into item (id, name, n) values (-1, 'x', 2)")
    await bridge.settled()
    await asyncio.to_thread(primary.kill)
    told(replica.url, "REPLICAOF", "NO", "ONE")
    with redis.Redis.from_url(replica.url) as client:
        assert client.get(f"{bridge.prefix}item:-1") is None, "nothing was lost"
    await through.lead_to(replica.url)
    bridge.redis = replica.url  # for the test's own looks, which block its loop
    await mended(bridge)


@pytest.mark.parametrize("job", ["truncate", "backfill"])
async def test_daemon_and_server_go_together_and_lose_what_a_job_wrote(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer, job: str
) -> None:
    """No change brings it again, and no position in the server tells of it."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    name = f"{bridge.prefix}item:5"
    own = told(bridge.redis, "GET", name)
    if job == "backfill":
        told(bridge.redis, "SET", name, "{}")
    await recorded(bridge)
    told(bridge.redis, "SAVE")
    if job == "truncate":
        bridge.execute("truncate item")
        await bridge.settled(empty=True)
    else:
        code, said, _ = await asyncio.to_thread(
            pgbridge, bridge.daemon.config, "backfill", "item"
        )
        assert code == 0, said
        assert told(bridge.redis, "GET", name) == own
    await passed(bridge)
    await bridge.daemon.kill()
    await asyncio.to_thread(private_valkey.kill)
    await asyncio.to_thread(private_valkey.start)
    there = told(bridge.redis, "GET", name)
    assert there == (own if job == "truncate" else b"{}"), "nothing was lost"
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute("insert into item (id, name, n) values (-8, 'one', 2)")
    await mended(bridge)


async def recorded(bridge: Bridge) -> None:
    """Wait until the server itself says that it has all that was committed."""
    before = bridge.one("select pg_current_wal_insert_lsn()::text")
    bridge.execute("update item set n = n + 2 where id % 2 = 0")
    query = "select min(content_lsn) >= %s::pg_lsn from bridge.progress"
    await eventually(lambda: bridge.one(query, before))


async def passed(bridge: Bridge) -> None:
    """Wait until the slot is behind all that was committed."""
    lsn = bridge.one("select pg_current_wal_insert_lsn()::text")
    query = (
        "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
        " where slot_name = %s"
    )
    bridge.execute("select pg_logical_emit_message(true, 'other', '')")
    await eventually(lambda: bridge.one(query, lsn, bridge.slot))


async def test_the_server_becomes_a_replica_and_a_primary_again(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    """READONLY is waited out."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    told(bridge.redis, "REPLICAOF", "127.0.0.1", "1")
    bridge.execute(CHANGE, REMOVE)
    await in_state(bridge, "down", "replica")
    told(bridge.redis, "REPLICAOF", "NO", "ONE")
    await in_state(bridge, "ok")
    await mended(bridge)


async def test_the_number_of_the_live_generation_is_deleted(
    database: str, make_bridge: MakeBridge, private_valkey: ValkeyServer
) -> None:
    """Applications find the keys by it; it is put back."""
    bridge = await started(make_bridge(database, redis=private_valkey.url))
    name = f"pgbridge:{bridge.prefix}small:live"
    with redis.Redis.from_url(bridge.redis) as client:
        assert client.getdel(name) == b"1"
        await eventually(lambda: client.get(name) == b"1")
    await mended(bridge)
