"""What the Redis sink stores, as an application sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from bridge.sink import (
    WHOLE,
    Generation,
    Halt,
    Level,
    Part,
    Position,
    Refusal,
    Transient,
)
from sinks.redis.places import Places
from sinks.redis.reading import EXPIRED
from sinks.redis.request import TOMBSTONE_S
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.redis_sinks import (
    EPOCH,
    OWNER,
    OpenRedis,
    delete,
    generation,
    put,
    target,
    version,
)
from tests.fixtures.waiting import eventually


async def stored_keys(server: Redis) -> set[str]:
    return {name.decode() for name in await server.keys("*")}


async def test_a_document_is_a_string_of_just_its_bytes(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation(key="product:{id}")
    await sink.prepare(one, OWNER)
    operation = put("7", 10, price=1.50)._replace(document=b'{"id":"7","price":1.50}')
    await sink.write(one, [operation])
    assert await server.get("product:7") == operation.document
    versions = [name async for name in server.scan_iter("pgbridge:v:products:*:7")]
    assert len(versions) == 1
    assert await server.get(versions[0]) == b"%019d" % version(10)
    assert await server.ttl(versions[0]) == await server.ttl("product:7") == -1


async def test_a_hash_has_a_field_a_column(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation(encoding="hash")
    await sink.prepare(one, OWNER)
    document = (
        b'{"id":"7","text":"a\\n\\"b\\" \\u00fc","n":1.5000000000000000000000001,'
        b'"on":true,"none":null,"tags":[1, {"x": null}],"empty":""}'
    )
    await sink.write(one, [put("7", 9, old="gone")])
    await sink.write(one, [put("7", 10)._replace(document=document)])
    assert await server.hgetall("products:7") == {
        b"id": b"7",
        b"text": 'a\n"b" ü'.encode(),
        b"n": b"1.5000000000000000000000001",
        b"on": b"true",
        b"tags": b'[1, {"x": null}]',
        b"empty": b"",
    }
    await sink.write(one, [delete("7", 11)])
    assert await server.exists("products:7") == 0


async def test_a_document_of_nulls_is_no_hash_and_not_missing(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation(encoding="hash")
    await sink.prepare(one, OWNER)
    nulls = b'{"id":null,"body":null}'
    await sink.write(one, [put("7", 10)._replace(document=nulls)])
    assert await server.exists("products:7") == 0
    found = (await sink.read(one, [("7",)]))["7"].document
    assert found is not None
    assert sink.same(one.target, nulls, found)
    assert not sink.same(one.target, b'{"id":"7","body":null}', found)


async def test_none_deletes_the_key_at_each_change(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    options = {"key": "product:{id}", "encoding": "none", "publish": "changes"}
    sink, one = await open_redis(redis_url), generation(**options)
    await sink.prepare(one, OWNER)
    await sink.publish(one)
    async with server.pubsub() as listener:
        await listener.subscribe("changes")
        await listener.get_message(timeout=10)
        for operation in (put("7", 10), delete("7", 9)):
            await server.set("product:7", "filled by the application")
            report = await sink.write(one, [operation])
            assert report.kept == 1
            assert await server.exists("product:7") == 0
            message = await listener.get_message(timeout=10)
            assert message
            assert json.loads(message["data"]) == {
                "key": "7",
                "version": str(operation.version),
                "deleted": True,
            }
    assert await sink.read(one, [("7",)]) == {}
    assert await sink.count(one) == 0
    assert not [page async for page in sink.scan(one, documents=True)]
    assert not [name for name in await stored_keys(server) if "pgbridge:v:" in name]


async def test_deletes_are_remembered_for_a_day(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation()
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    await sink.write(one, [delete("7", 11), delete("never", 11)])
    for key in ("7", "never"):
        (name,) = [name async for name in server.scan_iter(f"pgbridge:v:*:{key}")]
        assert await server.get(name) == b"%019d-" % version(11)
        assert TOMBSTONE_S - 60 < await server.ttl(name) <= TOMBSTONE_S
    await sink.write(one, [put("7", 12)])
    (name,) = [name async for name in server.scan_iter("pgbridge:v:*:7")]
    assert await server.ttl(name) == -1, "a document's version does not expire"


@pytest.mark.parametrize("encoding", ["json", "hash"])
async def test_an_expired_value_is_not_missing_and_stays_ordered(
    redis_url: str, server: Redis, open_redis: OpenRedis, encoding: str
) -> None:
    sink = await open_redis(redis_url)
    one = generation(ttl="1h", encoding=encoding)
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    assert 3_500_000 < await server.pttl("products:7") <= 3_600_000
    await server.pexpire("products:7", 1)
    await eventually(lambda: _is_gone(server, "products:7"))
    found = (await sink.read(one, [("7",)]))["7"]
    assert (found.version, found.document) == (version(10), EXPIRED)
    assert sink.same(one.target, b'{"id":"anything"}', EXPIRED)
    assert await sink.count(one) == 1
    bare = found._replace(document=None)
    assert [page async for page in sink.scan(one, documents=True)] == [[bare]]
    assert (await sink.write(one, [put("7", 9)])).superseded == 1
    assert await server.exists("products:7") == 0
    await sink.write(one, [put("7", 11)])
    assert await server.pttl("products:7") > 0


async def _is_gone(server: Redis, key: str) -> bool:
    return not await server.exists(key)


async def test_a_removed_value_is_missing(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation()
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10), put("8", 10)])
    await server.delete("products:7")
    assert (await sink.read(one, [("7",)]))["7"].document is None
    pages = [page async for page in sink.scan(one, documents=True)]
    assert [stored.key for page in pages for stored in page] == ["8"]


async def test_published_messages_are_of_the_live_generation(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    options = {"key": "p:{generation}:{id}", "publish": "changes"}
    sink = await open_redis(redis_url)
    one, two = generation(1, **options), generation(2, **options)
    async with server.pubsub() as listener:
        await listener.subscribe("changes")
        await listener.get_message(timeout=10)
        for each in (one, two):
            await sink.prepare(each, OWNER)
            await sink.write(each, [put("silent", 10)])
        await sink.publish(one)
        await sink.write(two, [put("of two", 11)])
        await sink.write(one, [put("7", 11), put("silent", 9), delete("ü", 11)])
        heard = [await listener.get_message(timeout=10) for _ in range(2)]
        assert [json.loads(message["data"]) for message in heard if message] == [
            {"key": "7", "version": str(version(11)), "deleted": False},
            {"key": "ü", "version": str(version(11)), "deleted": True},
        ]
        await sink.publish(two)
        assert await server.get("pgbridge:products:live") == b"2"
        await sink.write(one, [put("7", 12)])
        await sink.write(two, [put("8", 12)])
        last = await listener.get_message(timeout=10)
        assert last
        assert json.loads(last["data"])["key"] == "8"


async def test_composite_keys_are_named_by_their_template(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    long = "x" * 600

    one = Generation(target(columns=("id", "lang"), key="{lang}:of:{id}"), 1)
    sink = await open_redis(redis_url)
    await sink.prepare(one, OWNER)
    keys = [("a:b", "de"), (None, "en"), (long, "fr")]
    await sink.write(one, [put(parts, 10) for parts in keys])
    values = {name for name in await stored_keys(server) if "pgbridge" not in name}
    assert values == {"de:of:a%3Ab", "en:of:%00", f"fr:of:{long}"}
    assert len(await sink.read(one, keys)) == 3
    await sink.write(one, [delete((long, "fr"), 11)])
    await sink.write(one, [put((long, "fr"), 12)])
    await sink.drop(one)
    assert await stored_keys(server) == {"pgbridge:owner", "pgbridge:cache:mark"}


async def test_drop_removes_what_is_its_own_and_nothing_else(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    one, other = generation(), Generation(target("products-too"), 1)
    for each in (one, other):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put(str(key), 10) for key in range(1_500)])
        await sink.record(each, Position(EPOCH, 10))
        await sink.publish(each)
    await sink.write(one, [delete("0", 11)])
    await server.set("products:foreign", "stays")
    await sink.drop(one)
    left = await stored_keys(server)
    assert "products:foreign" in left
    assert len([name for name in left if name.startswith("products-too:")]) == 1_500
    assert not [name for name in left if ":products:" in name]
    assert await sink.count(other) == 1_500


async def test_an_interrupted_drop_goes_on(
    redis_url: str, server: Redis, open_redis: OpenRedis, proxy: MakeProxy
) -> None:
    through = await proxy(redis_url)
    sink, one = await open_redis(through.url), generation()
    await sink.prepare(one, OWNER)
    await sink.write(one, [put(str(key), 10) for key in range(5_000)])
    await through.truncate(60_000)  # of some 200,000 that the drop reads
    with pytest.raises(Transient):
        await sink.drop(one)
    await through.heal()
    left = len(await stored_keys(server))
    assert 100 < left < 10_000, "the test means to stop it halfway"
    assert not await sink.exists(one)
    await sink.drop(one)
    assert await stored_keys(server) == {"pgbridge:owner", "pgbridge:cache:mark"}


async def test_preparing_where_a_drop_was_interrupted_begins_empty(
    redis_url: str, open_redis: OpenRedis, proxy: MakeProxy
) -> None:
    through = await proxy(redis_url)
    sink, one, two = await open_redis(through.url), generation(1), generation(2)
    await sink.prepare(one, OWNER)
    await sink.write(one, [put(str(key), 10) for key in range(5_000)])
    await through.truncate(60_000)
    with pytest.raises(Transient):
        await sink.drop(one)
    await through.heal()
    await sink.prepare(two, OWNER)
    assert await sink.count(two) == 0
    assert not [page async for page in sink.scan(two, documents=False)]


async def test_what_is_being_dropped_takes_nothing_of_its_successor(
    redis_url: str, open_redis: OpenRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that is wanted again while its keys are being removed: a page that was
    read before is not removed after somebody has written it."""
    sink, one, two = await open_redis(redis_url), generation(1), generation(2)
    await sink.prepare(one, OWNER)
    documents = [put(str(key), 10) for key in range(100)]
    await sink.write(one, documents)
    pages, read, go = Places.pages, asyncio.Event(), asyncio.Event()

    async def held(
        places: Places, prefix: str, part: Part = WHOLE
    ) -> AsyncIterator[Any]:
        async for page in pages(places, prefix, part):
            if not read.is_set():
                read.set()
                await go.wait()
            yield page

    monkeypatch.setattr(Places, "pages", held)

    async def again() -> None:
        await sink.prepare(two, OWNER)
        await sink.write(two, documents)

    dropping = asyncio.create_task(sink.drop(one))
    await read.wait()
    writing = asyncio.create_task(again())
    await asyncio.wait({writing}, timeout=0.5)  # it ends, or waits for the drop
    go.set()
    await asyncio.gather(dropping, writing)
    assert await sink.count(two) == 100
    assert len(await sink.read(two, [each.parts for each in documents])) == 100


async def test_generations_in_place_share_values_and_versions(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink, one, two = await open_redis(redis_url), generation(1), generation(2)
    assert not sink.side_by_side(one.target)
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 12), put("8", 10)])
    await sink.prepare(two, OWNER)
    assert (await sink.write(two, [put("7", 11), put("8", 11)])).superseded == 1
    assert json.loads(await server.get("products:7") or "")["body"] == "at 12"
    await sink.publish(two)
    await sink.drop(one)
    assert await sink.published(one.target) == 2
    assert await sink.count(two) == 2
    await sink.drop(two)
    assert await stored_keys(server) == {"pgbridge:owner", "pgbridge:cache:mark"}


async def test_a_changed_template_is_another_place(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)
    one, two = generation(1), generation(2, key="p:{id}")
    assert sink.fingerprint(one.target) != sink.fingerprint(two.target)
    for each in (one, two):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put("7", 10)])
    assert await server.exists("products:7", "p:7") == 2
    later = Generation(two.target, 1)  # as the configuration reads by then
    await sink.drop(later)
    assert await server.exists("products:7") == 0
    assert await server.exists("p:7") == 1


async def test_what_becomes_a_cache_leaves_no_values(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    """Its keys are only removed from then on: what was there of them is gone too."""
    sink = await open_redis(redis_url)
    one, two = generation(1), generation(2, encoding="none")
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    await sink.prepare(two, OWNER)
    await sink.publish(two)
    await sink.drop(one)
    assert not await server.exists("products:7")
    with pytest.raises(Halt, match="are those of target products"):
        await sink.prepare(generation(name="other", key="products:{id}"), OWNER)
    await sink.drop(two)
    assert await stored_keys(server) == {"pgbridge:owner", "pgbridge:cache:mark"}


async def test_what_is_named_alike_is_told_before_it_is_mixed(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    """Another target's values are not taken; of one target another key is beside."""
    sink = await open_redis(redis_url)
    one, other = generation(key="p:{id}"), generation(name="others", key="p:{id}")
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    with pytest.raises(Halt, match=r"the keys p:\{\} are those of target products"):
        await sink.prepare(other, OWNER)
    found = await sink.examine(other.target, OWNER)
    assert ["those of target products" in each.what for each in found] == [True]
    assert await server.exists("p:7") == 1
    await sink.drop(one)
    await sink.prepare(other, OWNER)
    beside = target(key="p:{id}")
    for template, stands in (("p:{id}", False), ("q:{id}", True), ("", True)):
        was = target(key=template) if template else target()
        assert sink.side_by_side(was, beside) is stands
    numbered = target(key="p:{generation}:{id}")
    assert sink.side_by_side(numbered)
    assert sink.side_by_side(numbered, beside)
    assert not sink.side_by_side(target(), target(key="products:{id}"))


async def test_writes_at_once_from_many_callers_keep_the_order_of_each_key(
    redis_url: str, open_redis: OpenRedis
) -> None:
    sink, one = await open_redis(redis_url), generation()
    await sink.prepare(one, OWNER)

    async def caller(number: int) -> None:
        for lsn in range(1, 20):
            batch = [put(f"{number}-{key}", lsn) for key in range(600)]
            report = await sink.write(one, batch)
            assert report.kept == len(batch)

    await asyncio.gather(*map(caller, range(4)))
    assert await sink.count(one) == 2_400


async def test_a_cancelled_write_does_not_shift_the_answers(
    redis_url: str, open_redis: OpenRedis, proxy: MakeProxy
) -> None:
    through = await proxy(redis_url)
    sink, one = await open_redis(through.url), generation()
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    await through.stall()
    first = asyncio.create_task(sink.write(one, [put("7", 9)]))
    second = asyncio.create_task(sink.write(one, [put("8", 10)]))
    await eventually(lambda: sink._writer.journal._next == 3, what="both are sent")
    first.cancel()
    await through.flow()
    report = await second
    assert (report.kept, report.superseded) == (1, 0)


async def test_examine_finds_what_is_in_the_way(
    redis_url: str, server: Redis, open_redis: OpenRedis
) -> None:
    sink = await open_redis(redis_url)

    async def errors(**options: str) -> list[str]:
        found = await sink.examine(target(**options), OWNER)
        return [each.what for each in found if each.level is Level.ERROR]

    assert await errors() == []
    await server.set("products:7", "an application's")
    (found,) = await errors()
    assert "the bridge did not write" in found
    assert "7" not in found
    assert await errors(key="other:{id}") == []
    assert await errors(encoding="none") == []
    with pytest.raises(Refusal, match=r"\{idd\}"):
        await errors(key="p:{idd}")

    one = generation(key="other:{id}")
    await sink.prepare(one, OWNER)
    await sink.write(one, [put("7", 10)])
    assert await errors(key="other:{id}") == []
    assert await sink.examine(target(view="customer", key="x:{id}"), OWNER) == []
    taken = replace(target(key="x:{id}"), sink="more")
    found_too = await sink.examine(taken, OWNER)
    assert ["is taken by the view product" in each.what for each in found_too] == [True]
