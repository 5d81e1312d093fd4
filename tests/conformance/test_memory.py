"""The memory sink keeps every promise of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.sink import Sink
from bridge.sink.conformance import SinkConformance
from sinks.memory import MemorySink, Plugin, store

NAME = "conformance"


class TestMemory(SinkConformance):
    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Sink]:
        store(NAME).clear()
        yield await Plugin.open(NAME, {"type": "memory"})
        store(NAME).clear()

    @asynccontextmanager
    async def again(self, sink: Sink) -> AsyncIterator[Sink]:
        yield MemorySink(NAME)

    @asynccontextmanager
    async def cut_off(self, sink: Sink) -> AsyncIterator[None]:
        store(NAME).available = False
        try:
            yield
        finally:
            store(NAME).available = True
