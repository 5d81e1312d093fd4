"""What a plug-in gives to the suite, and the fixtures that are made of it.

The one thing to know: `fresh` and `again` open; what they make is closed and removed
by the same context manager, also when the test failed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest_asyncio

from bridge.keys import key_text
from bridge.operations import Operation
from bridge.shape import Shape
from bridge.sink import Generation, Sink, Target
from bridge.sink.conformance.material import EPOCH, OWNER, SINGLE


class Hooks:
    """Hooks that raise are to be given, the others may be."""

    target_options: Mapping[str, Any] = {}
    """Options of the target under test."""
    refused: Operation | None = None
    """An operation that the sink refuses for good, if it knows any."""

    def fresh(self) -> AbstractAsyncContextManager[Sink]:
        """An open sink over empty storage, which is removed afterwards."""
        raise NotImplementedError

    def again(self, sink: Sink) -> AbstractAsyncContextManager[Sink]:
        """Another open sink over the same storage: a daemon started again."""
        raise NotImplementedError

    def cut_off(self, sink: Sink) -> AbstractAsyncContextManager[None]:
        """Inside, the sink's server cannot be reached; afterwards it can."""
        raise NotImplementedError

    def target(self, shape: Shape = SINGLE, name: str = "conformance") -> Target:
        """The target under test."""
        return Target("conformance", "conformance", name, shape, self.target_options)

    @pytest_asyncio.fixture
    async def sink(self) -> AsyncIterator[Sink]:
        """A sink that its owner has claimed."""
        async with self.fresh() as sink:
            await sink.claim(OWNER, EPOCH)
            yield sink

    @pytest_asyncio.fixture
    async def one(self, sink: Sink) -> Generation:
        """A prepared generation."""
        return await self.prepared(sink, Generation(self.target(), 1))

    async def prepared(self, sink: Sink, generation: Generation) -> Generation:
        """The generation, made ready to be written."""
        await sink.prepare(generation, OWNER)
        return generation

    async def body(self, sink: Sink, generation: Generation, key: str) -> str | None:
        """What the sink holds under the key: the body of its document."""
        found = (await sink.read(generation, [(key,)])).get(key_text((key,)))
        if found is None or found.document is None:
            return None
        return str(json.loads(found.document)["body"])
