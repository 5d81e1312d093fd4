"""What a server refuses: waited for, rejected for one document, or halted on."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis.asyncio import Redis

from bridge.dev import ValkeyServer
from bridge.sink import (
    Build,
    Generation,
    Halt,
    Level,
    Operation,
    Owner,
    Parts,
    Refusal,
    Transient,
)
from sinks.redis import Plugin
from sinks.redis.request import CALL_BYTES_MAX
from tests.fixtures.private import MakeValkey
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
SECRET = "a-marker-that-must-not-be-told"


@pytest.mark.parametrize("functions", [True, False], ids=["function", "script"])
@pytest.mark.parametrize("encoding", ["json", "hash"])
async def test_a_full_server_is_waited_for_and_changes_nothing(
    private_valkey: ValkeyServer, open_redis: OpenRedis, functions: bool, encoding: str
) -> None:
    sink = await open_redis(private_valkey.url, functions=functions)
    one = generation(encoding=encoding)
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("k", 1), put("gone", 1)])
    batch = [put("k", 2, big="x" * 100_000), delete("gone", 2), put("new", 2)]
    async with Redis.from_url(private_valkey.url) as client:
        await client.config_set("maxmemory", 1)
        with pytest.raises(Transient, match="maxmemory"):
            await sink.write(one, batch)
        (finding,) = await sink.room([Build(one.target, 10, 1000)])
        assert finding.level is Level.ERROR
        found = await sink.read(one, [("k",), ("gone",), ("new",)])
        assert {key: json.loads(each.document or b"0") for key, each in found.items()}
        assert {key: each.version for key, each in found.items()} == {
            "k": put("k", 1).version,
            "gone": put("gone", 1).version,
        }
        for key, each in found.items():
            assert each.document
            assert json.loads(each.document) == {"id": key, "body": "at 1"}
        await client.config_set("maxmemory", 0)
    assert await sink.room([Build(one.target, 10, 1000)]) == []
    assert (await sink.write(one, batch)).kept == 3
    assert await sink.count(one) == 2
    assert await sink.audit([one]) == []


async def test_a_replica_is_waited_for(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(make_valkey)
    other = await asyncio.to_thread(make_valkey)
    sink = await open_redis(server.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    async with Redis.from_url(server.url) as client:
        await client.execute_command("REPLICAOF", "127.0.0.1", str(other.port))
        with pytest.raises(Transient, match="replica"):
            await sink.write(ONE, [put("k", 2)])
        findings = await sink.check()
        assert ["is a replica" in each.what for each in findings].count(True) == 1
        await client.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_busy_server_is_waited_for(
    private_valkey: ValkeyServer, open_redis: OpenRedis
) -> None:
    sink = await open_redis(private_valkey.url)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    async with (
        Redis.from_url(private_valkey.url) as runner,
        Redis.from_url(private_valkey.url) as client,
    ):
        await client.config_set("busy-reply-threshold", 1)
        endless = asyncio.create_task(runner.eval("while true do end", 0))

        async def refused() -> bool:
            try:
                await sink.write(ONE, [put("k", 2)])
            except Transient as error:
                return "busy" in error.message
            return False

        await eventually(refused)
        await client.script_kill()
        await asyncio.gather(endless, return_exceptions=True)
    await sink.write(ONE, [put("k", 3)])


async def test_a_wrong_password_halts_and_is_not_told(
    private_valkey: ValkeyServer,
) -> None:
    server = private_valkey
    async with Redis.from_url(server.url) as client:
        await client.config_set("requirepass", "right")
    for password in ("", SECRET):
        sink = await Plugin.open("cache", {"url": server.url, "password": password})
        with pytest.raises(Halt) as caught:
            await sink.claim(OWNER, EPOCH)
        assert SECRET not in f"{caught.value} {caught.value.hint} {sink!r}"
        await sink.close()
    sink = await Plugin.open("cache", {"url": server.url, "password": "right"})
    await sink.claim(OWNER, EPOCH)
    await sink.close()


async def test_a_missing_right_halts(
    private_valkey: ValkeyServer, open_redis: OpenRedis
) -> None:
    rights = ("~pgbridge:*", "~products:*", "+@all", "-fcall", "-evalsha")
    async with Redis.from_url(private_valkey.url) as client:
        await client.execute_command("ACL", "SETUSER", "b", "on", f">{SECRET}", *rights)
    sink = await open_redis(private_valkey.url, username="b", password=SECRET)
    await sink.prepare(ONE, OWNER)
    with pytest.raises(Halt) as caught:
        await sink.write(ONE, [put("k", 1)])
    assert SECRET not in f"{caught.value} {caught.value.hint}"


async def test_the_rights_that_are_documented_are_enough(
    private_valkey: ValkeyServer, open_redis: OpenRedis
) -> None:
    text = (await asyncio.to_thread(open, "docs/redis.md")).read()
    line = next(line for line in text.splitlines() if line.startswith("acl setuser"))
    words = line.format(password=SECRET).split()[2:]
    async with Redis.from_url(private_valkey.url) as client:
        await client.execute_command("ACL", "SETUSER", *words)
    sink = await open_redis(private_valkey.url, username=words[0], password=SECRET)
    for options in ({}, {"encoding": "hash"}, {"ttl": "1h", "publish": "changes"}):
        one = generation(key="product:{id}", **options)
        assert not [
            each
            for each in await sink.examine(one.target, OWNER)
            if each.level is Level.ERROR
        ]
        await sink.prepare(one, OWNER)
        await sink.write(one, [put("k", 1), put("l", 1)])
        await sink.write(one, [delete("k", 2)])
        await sink.publish(one)
        assert await sink.published(one.target) == 1
        assert [len(page) async for page in sink.scan(one, documents=True)] == [1]
        assert len(await sink.read(one, [("k",), ("l",)])) == 2
        assert await sink.count(one) == 1
        assert await sink.audit([one]) == []
        await sink.drop(one)
    await sink.check()


@pytest.mark.parametrize("encoding", ["json", "hash"])
async def test_a_key_of_another_type_is_a_rejection_of_that_document(
    redis_url: str, server: Redis, open_redis: OpenRedis, encoding: str
) -> None:
    sink, one = await open_redis(redis_url), generation(encoding=encoding)
    await sink.prepare(one, OWNER)
    await server.lpush("products:b", SECRET)
    await server.lpush("products:c", SECRET)
    batch = [put("a", 1), put("b", 1), delete("c", 1), put("d", 1)]
    report = await sink.write(one, batch)
    assert report.kept == 2
    assert {at: each.key for at, each in report.rejections.items()} == {1: "b", 2: "c"}
    assert SECRET not in str(report)
    assert await server.lrange("products:b", 0, -1) == [SECRET.encode()]
    assert await server.lrange("products:c", 0, -1) == [SECRET.encode()]
    assert await sink.count(one) == 2
    await server.delete("products:b")
    assert (await sink.write(one, batch)).kept == 1, "taken once it is out of the way"


NAMED_LIKE_THE_BRIDGES_OWN: list[tuple[str, list[Parts]]] = [
    ("{id}", [("pgbridge:cache:mark",), ("pgbridge:owner",), ("pgbridge:",)]),
    ("{id}", [("pgbridge:v:products:p0:7",), ("pgbridge:products:generations",)]),
    ("p{id}", [("gbridge:cache:mark",), ("gbridge:names",)]),
    ("{id}:mark", [("pgbridge:cache",)]),
    ("{a}:{b}", [("pgbridge", "owner"), ("pgbridge", "names")]),
    ("{b}:x{a}", [("y", "pgbridge")]),
]


@pytest.mark.parametrize("encoding", ["json", "hash", "none"])
@pytest.mark.parametrize(("template", "keys"), NAMED_LIKE_THE_BRIDGES_OWN)
async def test_no_row_writes_the_bridges_own_keys(
    redis_url: str,
    server: Redis,
    open_redis: OpenRedis,
    template: str,
    keys: list[Parts],
    encoding: str,
) -> None:
    columns = ("a", "b") if len(keys[0]) == 2 else ("id",)
    fine: Parts = ("pgbridge.", "x")[: len(columns)]
    made = target(columns=columns, key=template, encoding=encoding)
    sink, one = await open_redis(redis_url), Generation(made, 1)
    await sink.prepare(one, OWNER)
    await sink.write(one, [put(fine, 1)])
    before = await own_keys(server)

    async def written(*operations: Operation) -> None:
        report = await sink.write(one, operations)
        assert {at: each.key for at, each in report.rejections.items()} == {
            at: operations[at].key for at in range(1, len(operations))
        }
        assert report.kept == 1
        for rejection in report.rejections.values():
            assert "begins with `pgbridge:`" in rejection.reason
            assert SECRET not in rejection.reason

    await written(put(fine, 2), *(put(key, 2, body=SECRET) for key in keys))
    await written(put(fine, 3), *(delete(key, 3) for key in keys))
    after = await own_keys(server)
    assert after.keys() == before.keys()
    assert int(after.pop(b"pgbridge:cache:mark")) == 3
    assert all(
        before[name] == value for name, value in after.items() if b":v:" not in name
    )
    assert await sink.audit([one]) == []
    assert {*await sink.read(one, [fine, *keys])} <= {put(fine, 1).key}
    await sink.drop(one)
    assert await server.exists("pgbridge:owner", "pgbridge:cache:mark") == 2


async def own_keys(server: Redis) -> dict[bytes, bytes]:
    """What the bridge keeps for itself."""
    return {
        name: await server.dump(name)
        if await server.type(name) != b"string"
        else await server.get(name)
        for name in await server.keys("pgbridge:*")
    }


async def test_a_target_of_the_bridges_name_needs_a_template(
    redis_url: str, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    with pytest.raises(Refusal, match="would begin with `pgbridge:`") as caught:
        await sink.examine(target("pgbridge"), OWNER)
    assert caught.value.hint
    assert await sink.examine(target("pgbridge", key="p:{id}"), OWNER) == []


async def test_large_documents_go_in_calls_of_their_own(
    redis_url: str, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    await sink.prepare(ONE, OWNER)
    big = "x" * (CALL_BYTES_MAX + 1)
    batch = [put(str(key), 1, big=big if key % 2 else "") for key in range(7)]
    assert (await sink.write(ONE, batch)).kept == 7
    found = await sink.read(ONE, [operation.parts for operation in batch])
    assert {key: each.document for key, each in found.items()} == {
        operation.key: operation.document for operation in batch
    }


async def test_two_owners_of_one_database(
    redis_url: str, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    other = await open_redis(redis_url, claim=False)
    stranger = Owner("7000000000000000002", "shop", "pgbridge")
    with pytest.raises(Halt, match="belongs to 7000000000000000001/shop/pgbridge"):
        await other.claim(stranger, 1)
    assert await other.highest_epoch(stranger) == 0
    assert await sink.highest_epoch(OWNER) == EPOCH


async def test_two_sinks_under_one_name(redis_url: str, open_redis: OpenRedis) -> None:
    """A view that gets another name has its target on; another sink does not."""
    sink, other = await open_redis(redis_url), await open_redis(redis_url, name="more")
    await sink.prepare(ONE, OWNER)
    with pytest.raises(Halt, match="taken by the view product of the sink cache"):
        await other.prepare(generation(2, key="c:{id}"), OWNER)
    assert not await sink.exists(generation(2))
    renamed = generation(3, view="customer", key="c:{id}")
    await sink.prepare(renamed, OWNER)
    assert await sink.exists(renamed)


async def test_eviction_is_refused_for_what_does_not_expire(
    make_valkey: MakeValkey, open_redis: OpenRedis
) -> None:
    server = await asyncio.to_thread(
        make_valkey, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    )
    sink = await open_redis(server.url)

    async def errors(**options: str) -> list[str]:
        found = await sink.examine(target(**options), OWNER)
        return [each.fix for each in found if each.level is Level.ERROR]

    (fix,) = await errors()
    assert fix.startswith("config set maxmemory-policy noeviction")
    assert await errors(ttl="1h") == []
    assert await errors(encoding="none") == []
    levels = {each.level for each in await sink.check()}
    assert Level.WARNING in levels
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory-policy", "volatile-ttl")
    assert await errors() == []
