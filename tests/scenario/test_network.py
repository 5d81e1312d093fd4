"""Each way in which a network breaks, between the daemon and each of its servers, under
traffic: the other sink goes on meanwhile, and in the end nothing is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.faults import NETWORK
from tests.scenario.shop import SCHEMA, VIEWS, Shop
from tests.scenario.world import Bridge

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

SERVERS = ("postgres", "elasticsearch", "redis")


async def arrived(direct: Bridge, sink: str, key: int) -> bool:
    """Whether a reader of the sink, without a proxy, finds the row."""
    if sink == "search":
        return await direct.document("item", str(key)) is not None
    return direct.value("item", str(key)) is not None


@pytest.mark.parametrize("server", SERVERS)
async def test_a_network_that_breaks_loses_nothing(
    server: str,
    database: str,
    es_url: str,
    redis_url: str,
    es_prefix: str,
    tmp_path: Path,
    proxy: MakeProxy,
    make_bridge: MakeBridge,
    seed: int,
) -> None:
    addresses = dict(zip(SERVERS, (database, es_url, redis_url), strict=True))
    proxies = {name: await proxy(address) for name, address in addresses.items()}
    dsn, es, cache = (proxies[name].url for name in SERVERS)
    bridge = make_bridge(dsn, es=es, redis=cache)
    direct = Bridge(tmp_path, database, es_url, redis_url, es_prefix)
    direct.execute(*SCHEMA.split(";\n"))
    await asyncio.to_thread(bridge.configure, VIEWS)
    bridge.daemon.start()
    await bridge.ready()
    shop, dice = Shop(database, seed), random.Random(seed)
    shop.truncates = False  # the rows that are looked for have to stay
    broken = {"elasticsearch": "search", "redis": "cache"}.get(server)
    for number, (name, inflict) in enumerate(NETWORK.items(), start=1):
        await inflict(proxies[server], dice)
        key = -number
        direct.execute(f"insert into item values ({key}, 1, '{name}', 1, null)")
        for sink in {"search", "cache"} - {broken} if broken else ():
            await eventually(lambda s=sink, k=key: arrived(direct, s, k), what=name)
        await proxies[server].heal()
        for sink in ("search", "cache"):
            await eventually(lambda s=sink, k=key: arrived(direct, s, k), what=name)
    assert await shop.stop() > 0
    await bridge.settled()
    await bridge.ends_exact()
