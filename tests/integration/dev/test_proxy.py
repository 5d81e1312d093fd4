"""The fault proxy does to a real connection what each fault says."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio as redis
from redis.exceptions import ConnectionError as Refused

from tests.fixtures.proxy import FaultProxy, MakeProxy, Way
from tests.fixtures.waiting import eventually


async def connect(cache: FaultProxy) -> redis.Redis:
    client = redis.Redis.from_url(
        cache.url, single_connection_client=True, retry=None, socket_timeout=None
    )
    await client.initialize()
    return client


@pytest.fixture
async def cache(proxy: MakeProxy, redis_url: str) -> FaultProxy:
    return await proxy(redis_url)


async def test_forwards_both_ways(cache: FaultProxy) -> None:
    async with await connect(cache) as client:
        await client.set("k", b"x" * 300_000)
        assert await client.get("k") == b"x" * 300_000
    assert cache.connections == 1
    assert min(cache.forwarded.values()) > 300_000
    await eventually(lambda: cache.open == 0)


async def test_cut_resets_what_is_open_and_welcomes_what_is_new(
    cache: FaultProxy,
) -> None:
    async with await connect(cache) as client:
        await cache.cut()
        with pytest.raises((Refused, ConnectionError)):
            await client.ping()
    async with await connect(cache) as client:
        assert await client.ping()


async def test_refused_until_healed_on_the_same_port(cache: FaultProxy) -> None:
    port = cache.port
    await cache.refuse()
    with pytest.raises(Refused):
        await connect(cache)
    await cache.heal()
    assert cache.port == port
    async with await connect(cache) as client:
        assert await client.ping()


async def test_stalled_answers_come_after_all(cache: FaultProxy) -> None:
    async with await connect(cache) as client:
        await cache.stall(Way.DOWN)
        before = cache.forwarded[Way.UP]
        asked = asyncio.create_task(client.ping())
        await eventually(lambda: cache.forwarded[Way.UP] > before)
        assert not asked.done()
        await cache.flow()
        assert await asked


async def test_deaf_port_accepts_and_says_nothing(cache: FaultProxy) -> None:
    await cache.deaf()
    reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
    writer.write(b"PING\r\n")
    await writer.drain()
    await eventually(lambda: cache.open == 1)
    answer = asyncio.create_task(reader.read(1))
    done, _ = await asyncio.wait([answer], timeout=0.05)
    assert not done
    answer.cancel()
    writer.close()


async def test_half_closed_connection_still_carries_the_other_way(
    cache: FaultProxy,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
    await eventually(lambda: cache.open == 1)
    await cache.half_close(Way.DOWN)
    assert await reader.read() == b""
    writer.write(b"PING\r\n")
    await writer.drain()
    await eventually(lambda: cache.forwarded[Way.UP] == len(b"PING\r\n"))
    writer.close()


async def test_truncated_in_the_midst_of_an_answer(cache: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
    await cache.truncate(3)
    writer.write(b"PING\r\n")
    assert await reader.readexactly(3) == b"+PO"
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()


async def test_slow_is_a_rate(cache: FaultProxy) -> None:
    async with await connect(cache) as client:
        await cache.slow(bytes_per_s=10_000)
        asked = asyncio.create_task(client.set("k", b"x" * 5_000))
        done, _ = await asyncio.wait([asked], timeout=0.1)
        assert not done
        await cache.heal()
        assert await asked
