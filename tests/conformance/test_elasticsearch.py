"""The Elasticsearch sink keeps every promise of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.sink import Operation, Sink
from bridge.sink.conformance import SinkConformance
from sinks.elasticsearch import Plugin
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.servers import delete_indices


class TestElasticsearch(SinkConformance):
    @pytest.fixture(autouse=True)
    def server(self, es_url: str) -> None:
        self.url = es_url

    refused = Operation("refused", ("refused",), 1, b'{"a":"refused","no":1}')

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Sink]:
        await asyncio.to_thread(delete_indices, self.url, "conformance*")
        self.proxy = FaultProxy(self.url)
        await self.proxy.start()
        sink = await Plugin.open("es", {"url": self.proxy.url})
        yield sink
        await sink.close()
        await self.proxy.close()
        await asyncio.to_thread(delete_indices, self.url, "conformance*")

    @asynccontextmanager
    async def again(self, sink: Sink) -> AsyncIterator[Sink]:
        later = await Plugin.open("es", {"url": self.proxy.url})
        yield later
        await later.close()

    @asynccontextmanager
    async def cut_off(self, sink: Sink) -> AsyncIterator[None]:
        await self.proxy.refuse()
        yield
        await self.proxy.heal()
