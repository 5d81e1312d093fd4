"""A listing of all documents: of one server, and whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from bridge.sink import Transient
from tests.fixtures.private import MakeValkey
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.redis_sinks import OWNER, OpenRedis, generation, put
from tests.fixtures.waiting import DEADLINE_S
from tests.integration.test_redis_sink_losses import (
    audit,
    lead_to,
    promote,
    replicated,
)

ONE = generation()


@pytest.mark.parametrize("way", ["restarted", "failed over"])
async def test_a_listing_is_of_one_server(
    way: str, make_valkey: MakeValkey, proxy: MakeProxy, open_redis: OpenRedis
) -> None:
    """Each has its own order of keys, and a place in it is none in another's: a listing
    that went on there was short of hundreds, and nobody was told."""
    server = await asyncio.to_thread(make_valkey, "--appendonly", "yes")
    replica = await asyncio.to_thread(make_valkey, replica_of=server)
    through = await proxy(server.url)
    sink = await open_redis(through.url)
    await sink.prepare(ONE, OWNER)
    everything = {f"k{number}" for number in range(2500)}
    await sink.write(ONE, [put(key, 1) for key in everything])
    await replicated(server)
    pages = sink.scan(ONE, documents=False)
    found = {stored.key for stored in await anext(pages)}
    assert len(found) < len(everything)
    if way == "restarted":
        await asyncio.to_thread(server.restart)
    else:
        await promote(replica)
        await lead_to(through, replica)
    await audit(sink, [ONE])
    with pytest.raises(Transient):
        async for page in pages:
            found |= {stored.key for stored in page}
    async with asyncio.timeout(DEADLINE_S):
        while found != everything:
            with suppress(Transient):
                pages = sink.scan(ONE, documents=False)
                found = {stored.key async for page in pages for stored in page}
