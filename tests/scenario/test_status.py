"""What `pgbridge status` tells of a sink that is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.conftest import MakeBridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario


async def shown(bridge: Bridge) -> tuple[str, dict[str, Any]]:
    """How the sink is, and its one target."""
    code, out, err = await asyncio.to_thread(
        harness.pgbridge, bridge.daemon.config, "status", "--json"
    )
    assert code == 0, err
    status = json.loads(out)
    return status["sinks"][0]["state"], status["targets"][0]


async def test_the_lag_of_a_sink_that_is_away_is_that_of_what_it_lacks(
    database: str, make_bridge: MakeBridge, redis_url: str, proxy: MakeProxy
) -> None:
    """None while nothing is written for it, whatever else is; else its age."""
    cache = await proxy(redis_url)
    bridge = make_bridge(database, redis=cache.url)
    bridge.execute(
        "create table item (id int primary key, name text)",
        "create table unread (id int)",
        "insert into item select g, 'item ' || g from generate_series(1, 50) g",
    )
    bridge.configure({"item": 'table = "item"'}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    await cache.refuse()

    async def is_down() -> bool:
        return (await shown(bridge))[0] == "down"

    async def lacks_nothing() -> bool:
        return float((await shown(bridge))[1]["lag_seconds"]) == 0

    await eventually(is_down)
    for _ in range(3):
        bridge.execute("insert into unread values (1)")
        await eventually(lacks_nothing)
    bridge.execute("update item set name = 'waits' where id = 1")

    async def lags() -> bool:
        return not await lacks_nothing()

    await eventually(lags)
    bridge.execute("insert into unread values (1)")
    assert await lags()
    await cache.heal()

    async def is_ok() -> bool:
        return (await shown(bridge))[0] == "ok"

    await eventually(is_ok)
    await eventually(lacks_nothing)
    await bridge.ends_exact()
