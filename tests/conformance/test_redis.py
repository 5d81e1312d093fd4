"""The Redis sink keeps every promise of the contract, in each of its encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from bridge.sink import Operation, Shape, Sink, Target
from bridge.sink.conformance import SinkConformance
from bridge.sink.conformance.material import COMPOSITE, SINGLE, version
from sinks.redis import Plugin
from sinks.redis.options import read_options
from sinks.redis.sink import RedisSink
from tests.fixtures.proxy import FaultProxy, MakeProxy

NAME = "conformance"
IN_THE_WAY = "in-the-way"


class _Redis(SinkConformance):
    """Over a proxy, which is how the server becomes unreachable."""

    functions = True
    refused = Operation(IN_THE_WAY, (IN_THE_WAY,), version(10), b'{"a":"in-the-way"}')
    proxy: FaultProxy
    url: str

    @pytest.fixture(autouse=True)
    async def _server(self, redis_url: str, proxy: MakeProxy) -> None:
        self.url = redis_url
        self.proxy = await proxy(redis_url)

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Sink]:
        async with Redis.from_url(self.url) as client, self.again(None) as sink:
            await client.sadd(self.taken(), "somebody's")
            yield sink

    @asynccontextmanager
    async def again(self, sink: Sink | None) -> AsyncIterator[Sink]:
        options = read_options({"type": "redis", "url": self.proxy.url})
        made = RedisSink(NAME, options, functions=self.functions)
        yield made
        await made.close()

    @asynccontextmanager
    async def cut_off(self, sink: Sink) -> AsyncIterator[None]:
        await self.proxy.refuse()
        yield
        await self.proxy.heal()

    def target(self, shape: Shape = SINGLE, name: str = "conformance") -> Target:
        made = super().target(shape, name)
        options = dict(self.target_options)
        if "key" in options:
            # No two targets may name their values alike.
            key = f"{name}:{options['key']}"
            both = "{b}:at:{a}" if shape is COMPOSITE else "{a}"
            options["key"] = key.replace("{a}", both)
        return replace(made, options=options)

    def taken(self) -> str:
        """The name of the value of the operation that is refused."""
        return f"other:{IN_THE_WAY}"


class TestJson(_Redis):
    def taken(self) -> str:
        return f"conformance:{IN_THE_WAY}"

    @pytest.fixture(autouse=True)
    def _unexamined(self, request: pytest.FixtureRequest) -> None:
        """What is in the way of a write is a finding of `examine` as well."""
        if "examine" in request.node.name:
            self.taken = lambda: "elsewhere"  # type: ignore[method-assign]


class TestScript(TestJson):
    functions = False


class TestGenerations(_Redis):
    refused = None
    target_options: Mapping[str, Any] = {"key": "docs:{generation}:{a}"}


class TestHash(_Redis):
    refused = None
    target_options: Mapping[str, Any] = {"key": "{a}:docs", "encoding": "hash"}


class TestExpiring(_Redis):
    refused = None
    target_options: Mapping[str, Any] = {"ttl": "1h", "publish": "changes"}


async def test_the_plugin_opens_without_a_server() -> None:
    sink = await Plugin.open(NAME, {"type": "redis", "url": "redis://127.0.0.1:1/0"})
    await sink.close()
