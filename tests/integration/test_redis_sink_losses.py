"""What a server loses is noticed, told until repaired, and never covered up."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from bridge.dev import ValkeyServer
from bridge.sink import Generation, Loss, Parts, Position, Transient
from sinks.redis import health
from sinks.redis.sink import RedisSink
from tests.fixtures.private import MakeValkey
from tests.fixtures.proxy import FaultProxy, MakeProxy
from tests.fixtures.redis_sinks import (
    EPOCH,
    OWNER,
    OpenRedis,
    delete,
    generation,
    put,
    target,
)
from tests.fixtures.waiting import eventually

ONE = generation()
TWO = Generation(target("customers", view="customer"), 1)


async def lead_to(proxy: FaultProxy, server: ValkeyServer) -> None:
    """The address is another server's from now on, as after a failover."""
    proxy._server = ("127.0.0.1", urlsplit(server.url).port or 0)
    await proxy.cut()


async def replicated(primary: ValkeyServer) -> None:
    """Wait until the replica has all that the primary was told."""
    async with Redis.from_url(primary.url) as client:
        await eventually(lambda: _level(client), what="the replica is level")


async def _level(client: Redis) -> bool:
    found = await client.info("replication")
    return health.durable_offset(found) == found["master_repl_offset"]


async def promote(replica: ValkeyServer) -> None:
    async with Redis.from_url(replica.url) as client:
        await client.execute_command("REPLICAOF", "NO", "ONE")


def lost_keys(losses: list[Loss]) -> dict[str, set[Parts]]:
    found: dict[str, set[Parts]] = {}
    for loss in losses:
        assert loss.keys is not None
        found.setdefault(loss.generation.target.name, set()).update(loss.keys)
    return found


@pytest.mark.parametrize("audited", [True, False], ids=["audited", "written first"])
@pytest.mark.parametrize("before", [0, 1, 5, 8])
async def test_a_failover_tells_just_the_writes_that_the_replica_had_not(
    make_valkey: MakeValkey,
    proxy: MakeProxy,
    open_redis: OpenRedis,
    before: int,
    audited: bool,
) -> None:
    primary = await asyncio.to_thread(make_valkey)
    replica = await asyncio.to_thread(make_valkey, replica_of=primary)
    through = await proxy(primary.url)
    sink = await open_redis(through.url)
    for each in (ONE, TWO):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put("first", 1)])
    for lsn in range(2, 2 + before):
        await sink.write(ONE, [put(f"k{lsn}", 100 - lsn)])  # not in order of versions
    await replicated(primary)
    await promote(replica)
    lost = {f"k{lsn}" for lsn in range(2 + before, 10)}
    for key in lost:
        await sink.write(ONE, [put(key, 50)])
    await sink.write(TWO, [delete("first", 2)])
    await asyncio.to_thread(primary.kill)
    await lead_to(through, replica)
    if not audited:
        await until_written(sink, TWO, "later")

    async with Redis.from_url(replica.url) as client:
        assert await client.exists("pgbridge:cache:lost") == (0 if audited else 1)
    expected = {"products": {(key,) for key in lost}, "customers": {("first",)}}
    told = await audit(sink, [ONE, TWO])
    assert lost_keys(told) == {name: keys for name, keys in expected.items() if keys}
    assert await sink.audit([ONE, TWO]) == told, "told until it is repaired"
    for loss in told:
        await sink.repaired(loss)
    assert await sink.audit([ONE, TWO]) == []


async def until_written(sink: RedisSink, one: Generation, key: str) -> None:
    async def written() -> bool:
        try:
            report = await sink.write(one, [put(key, 60)])
        except Transient:
            return False
        return report.kept + report.superseded == 1

    await eventually(written)


async def audit(sink: RedisSink, generations: list[Generation]) -> list[Loss]:
    """The first audit that reaches the server."""

    async def reached() -> tuple[list[Loss]] | None:
        try:
            return (await sink.audit(generations),)
        except Transient:
            return None

    (losses,) = await eventually(reached)
    return losses


async def test_nothing_is_told_after_a_failover_that_lost_nothing(
    make_valkey: MakeValkey, proxy: MakeProxy, open_redis: OpenRedis
) -> None:
    primary = await asyncio.to_thread(make_valkey)
    replica = await asyncio.to_thread(make_valkey, replica_of=primary)
    through = await proxy(primary.url)
    sink = await open_redis(through.url)
    await sink.prepare(ONE, OWNER)
    for lsn in range(1, 6):
        await sink.write(ONE, [put("k", lsn)])
    await replicated(primary)
    await promote(replica)
    await asyncio.to_thread(primary.kill)
    await lead_to(through, replica)
    assert await audit(sink, [ONE]) == []
    await until_written(sink, ONE, "k")
    assert await sink.audit([ONE]) == []


async def test_a_demoted_server_is_left_for_the_one_at_the_address(
    make_valkey: MakeValkey, proxy: MakeProxy, open_redis: OpenRedis
) -> None:
    primary = await asyncio.to_thread(make_valkey)
    replica = await asyncio.to_thread(make_valkey, replica_of=primary)
    through = await proxy(primary.url)
    sink = await open_redis(through.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await replicated(primary)
    await promote(replica)
    async with Redis.from_url(primary.url) as client:  # no connection is cut
        await client.execute_command("REPLICAOF", "127.0.0.1", str(replica.port))
    through._server = ("127.0.0.1", replica.port)
    with pytest.raises(Transient, match="replica"):
        await sink.audit([ONE])
    assert await sink.audit([ONE]) == []
    assert (await sink.write(ONE, [put("k", 2)])).kept == 1
    await sink.record(ONE, Position(EPOCH, 2))


@pytest.mark.parametrize("audited", [True, False], ids=["audited", "written first"])
async def test_a_flushed_server_is_lost_as_a_whole(
    redis_url: str, server: Redis, open_redis: OpenRedis, audited: bool
) -> None:
    sink = await open_redis(redis_url)
    for each in (ONE, TWO):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put("k", 1), put("l", 1)])
    await server.flushdb()
    if not audited:
        report = await sink.write(ONE, [put("k", 2)])
        assert report.kept == 1, "writing goes on meanwhile"
    told = await sink.audit([ONE, TWO])
    assert {(loss.generation, loss.keys) for loss in told} == {(ONE, None), (TWO, None)}
    assert await sink.audit([ONE, TWO]) == told

    for each in (ONE, TWO):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put("k", 3), put("l", 3)])
    for loss in told:
        await sink.repaired(loss)
    assert await sink.audit([ONE, TWO]) == []
    assert await sink.count(ONE) == await sink.count(TWO) == 2
    assert await sink.highest_epoch(OWNER) == EPOCH, "the epoch is back as well"
    assert await server.exists("pgbridge:cache:lost") == 0


async def test_a_restart_without_persistence_is_lost_as_a_whole(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await asyncio.to_thread(server.restart)
    await until_written(sink, ONE, "k")
    (loss,) = await audit(sink, [ONE])
    assert (loss.generation, loss.keys) == (ONE, None)


async def test_a_restart_with_an_append_only_file_loses_nothing(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(
        make_valkey, "--appendonly", "yes", "--appendfsync", "always"
    )
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await until_written(sink, ONE, "k")
    assert await audit(sink, [ONE]) == []
    assert await sink.count(ONE) == 1


async def test_a_server_back_from_an_old_snapshot_tells_what_came_after_it(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("before", 1)])
    async with Redis.from_url(server.url) as client:
        await client.save()
    await sink.write(ONE, [put("after", 2)])
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert lost_keys(await audit(sink, [ONE])) == {"products": {("after",)}}


async def test_a_loss_beyond_what_is_remembered_is_of_everything(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    async with Redis.from_url(server.url) as client:
        await client.save()
    sink._writer.journal.bytes_max = 1_000
    for lsn in range(1, 5):
        await sink.write(ONE, [put(f"{lsn}-{key}", lsn) for key in range(5)])
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    told = await audit(sink, [ONE])
    assert [loss.keys for loss in told] == [None]


async def test_a_daemon_that_dies_before_the_repair_leaves_word_of_the_loss(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await server.set("pgbridge:cache:mark", "0")  # as a failover would leave it
    await sink.write(ONE, [put("l", 2)])  # hides the gap
    await sink.close()
    later = await open_redis(redis_url)
    (loss,) = await later.audit([ONE])
    assert (loss.generation, loss.keys) == (ONE, None)
    await later.repaired(loss)
    last = await open_redis(redis_url)
    assert await last.audit([ONE]) == []


@pytest.mark.parametrize("audited", [True, False], ids=["audited", "written first"])
async def test_a_server_that_lacks_what_an_earlier_daemon_knew_of_has_lost_it(
    redis_url: str, open_redis: OpenRedis, audited: bool
) -> None:
    """Until that is repaired, whoever comes next is told; the count goes on above."""
    first = await open_redis(redis_url)
    await first.prepare(ONE, OWNER)
    for at in range(3):
        await first.write(ONE, [put(f"k{at}", 10)])
    assert first.answered == 3
    same = await open_redis(redis_url)
    same.expect(3)
    assert await same.audit([ONE]) == []
    second = await open_redis(redis_url)
    second.expect(5)
    if audited:
        assert [loss.keys for loss in await second.audit([ONE])] == [None]
    await second.write(ONE, [put("k3", 11)])
    assert second.answered == 6
    third = await open_redis(redis_url)
    third.expect(6)
    assert [loss.keys for loss in await third.audit([ONE])] == [None]
    [loss] = await second.audit([ONE])
    await second.repaired(loss)
    last = await open_redis(redis_url)
    last.expect(6)
    assert await last.audit([ONE]) == []


async def test_the_answer_that_covers_a_gap_tells_just_what_it_covered(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    await sink.prepare(ONE, OWNER)
    for key in ("k", "l", "m"):
        await sink.write(ONE, [put(key, 1)])
    await server.set("pgbridge:cache:mark", "1")
    await sink.write(ONE, [put("n", 1)])
    assert lost_keys(await sink.audit([ONE])) == {"products": {("l",), ("m",)}}


async def test_a_new_connection_tells_a_gap_before_anything_is_sent_on_it(
    redis_url: str, server: Redis, open_redis: OpenRedis, proxy: MakeProxy
) -> None:
    through = await proxy(redis_url)
    sink = await open_redis(through.url)
    await sink.prepare(ONE, OWNER)
    for key in ("k", "l", "m"):
        await sink.write(ONE, [put(key, 1)])
    await server.set("pgbridge:cache:mark", "1")
    await sink._writer.close()
    await sink._writer._line._connected()
    assert lost_keys(sink._losses.told([ONE])) == {"products": {("l",), ("m",)}}
    assert await server.get("pgbridge:cache:lost") == b"0"


async def test_a_removed_generation_is_lost(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    for each in (ONE, TWO):
        await sink.prepare(each, OWNER)
    await server.delete("pgbridge:products:generations")
    told = await sink.audit([ONE, TWO])
    assert [(loss.generation, loss.keys) for loss in told] == [(ONE, None)]


async def test_what_was_dropped_is_not_written_again(
    redis_url: str, open_redis: OpenRedis, server: Redis
) -> None:
    sink = await open_redis(redis_url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await sink.drop(ONE)
    with pytest.raises(Transient):
        await sink.write(ONE, [put("late", 1)])
    assert await server.exists("products:late") == 0


@pytest.mark.parametrize("functions", [True, False], ids=["function", "script"])
async def test_a_function_that_is_gone_is_loaded_again(
    make_valkey: MakeValkey, open_redis: OpenRedis, functions: bool
) -> None:
    server = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url, functions=functions)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    async with Redis.from_url(server.url) as client:
        await client.execute_command("FUNCTION", "FLUSH", "SYNC")
        await client.script_flush()
    batch = [put(str(key), 2) for key in range(3_000)]
    assert (await sink.write(ONE, batch)).kept == 3_000
    assert await sink.audit([ONE]) == []


async def test_keys_are_forgotten_once_every_replica_has_them(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    primary = await asyncio.to_thread(make_valkey)
    replica = await asyncio.to_thread(make_valkey, replica_of=primary)
    sink = await open_redis(primary.url)
    await sink.prepare(ONE, OWNER)
    await replicated(primary)
    await asyncio.to_thread(replica.pause)
    await sink.write(ONE, [put("k", 1)])
    await sink.audit([ONE])
    await sink.audit([ONE])
    assert sink._writer.journal.unsettled == 1
    await asyncio.to_thread(replica.resume)
    await eventually(lambda: _settled(sink), what="settled by the replica")


async def _settled(sink: RedisSink) -> bool:
    await sink.audit([ONE])
    return sink._writer.journal.unsettled == 0


async def test_keys_are_forgotten_once_they_are_in_the_append_only_file(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey, "--appendonly", "yes")
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    assert sink._writer.journal.unsettled == 1
    await eventually(lambda: _settled(sink), what="settled by WAITAOF")


async def test_a_frozen_server_is_waited_for_and_nothing_is_lost(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url, request_timeout="1s")
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await asyncio.to_thread(server.pause)
    with pytest.raises(Transient):
        await sink.write(ONE, [put("k", 2), put("l", 2)])
    await asyncio.to_thread(server.resume)
    await until_written(sink, ONE, "m")
    assert await audit(sink, [ONE]) == []
    assert (await sink.write(ONE, [put("k", 2), put("l", 2)])).rejections == {}
    assert await sink.count(ONE) == 3


async def test_what_is_prepared_during_a_write_was_not_lost(
    private_valkey: ValkeyServer,
    open_redis: OpenRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write that came before its place is made again, and tells no loss: what was
    called lost would be built anew."""
    sink = await open_redis(private_valkey.url)
    await sink.prepare(TWO, OWNER)
    write = sink._writer.write

    async def prepared_meanwhile(*given: Any) -> Any:
        *others, restore = given

        async def late() -> None:
            await sink.prepare(ONE, OWNER)
            await restore()

        return await write(*others, late)

    monkeypatch.setattr(sink._writer, "write", prepared_meanwhile)
    with pytest.raises(Transient, match="not there"):
        await sink.write(ONE, [put("first", 1)])
    assert (await sink.write(ONE, [put("first", 1)])).kept == 1
    assert await sink.audit([ONE, TWO]) == []


@pytest.mark.parametrize("functions", [True, False], ids=["function", "script"])
@pytest.mark.parametrize(
    "found", ["{}", "", " 9", "1e9", "0x10", "nan", "-1", "9" * 400, ["a", "list"]]
)
async def test_a_mark_that_is_no_number_is_a_lost_one(
    redis_url: str, server: Redis, open_redis: OpenRedis, functions: bool, found: Any
) -> None:
    async def spoil(name: str) -> None:
        await server.delete(name)
        await (
            server.set(name, found)
            if isinstance(found, str)
            else server.rpush(name, *found)
        )

    sink = await open_redis(redis_url, functions=functions)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    await spoil("pgbridge:cache:mark")
    (loss,) = await sink.audit([ONE])
    assert loss.keys is None
    assert (await sink.write(ONE, [put("k", 2)])).kept == 1
    await sink.repaired(loss)
    assert await sink.audit([ONE]) == []
    assert int(await server.get("pgbridge:cache:mark")) == 2

    await spoil("pgbridge:cache:mark")
    assert (await sink.write(ONE, [put("k", 3)])).kept == 1, "tells it in its answer"
    (loss,) = await sink.audit([ONE])
    await sink.repaired(loss)

    await spoil("pgbridge:cache:mark")
    await spoil("pgbridge:cache:lost")
    later = await open_redis(redis_url, functions=functions)
    later.expect(sink.answered)
    assert await later.exists(ONE)
    assert (await later.write(ONE, [put("k", 4)])).kept == 1
    (loss,) = await later.audit([ONE])
    assert loss.keys is None
    await later.repaired(loss)
    assert await later.audit([ONE]) == []
    assert not await server.exists("pgbridge:cache:lost")


async def test_a_live_number_that_is_none_is_put_back(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    await sink.prepare(ONE, OWNER)
    await server.set("pgbridge:products:live", "many")
    assert await sink.published(ONE.target) is None
