"""Edits of everything that a target is made of, commands and kills, in any order.

The one thing to know: whatever was asked for on the way, it comes to rest by itself,
every document is what SQL says in the end, and a `drop` leaves nothing behind: not a
value of a place that was given up.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from typing import NamedTuple

import httpx
import pytest
import redis
from psycopg.errors import ObjectNotInPrerequisiteState, UndefinedObject

from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.deaths import at_rest
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.world import Bridge

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

STEPS = int(os.environ.get("PGBRIDGE_TEST_STEPS", "15"))
SHAPES = (
    ("id", "select id, name, n from item"),
    ("id", "select id, upper(name) as title, n from item"),
    ("id", "select id, name, n from item where n % 3 > 0"),
    ("code", "select id as code, name, n from item"),
    ("n", "select n, count(*) as items, max(id) as last from item group by n"),
)
"""The key's column, and the query."""
TEMPLATES = ("a:{%s}", "b:{%s}", "c:{generation}:{%s}", "d:{%s}:{generation}", "")
ENCODINGS = ("", 'encoding = "hash"', 'ttl = "1h"')
MAPPINGS = ("", 'mappings = { n = { type = "keyword" } }')
SINKS = (("search", "cache"), ("search", "cache"), ("search",), ("cache",))
COMMANDS = {
    "rebuild": "select bridge.backfill('item', rebuild => true)",
    "sweep": "select bridge.backfill('item')",
    "rollback": "select bridge.rollback('item')",
    "promote": "select bridge.promote('item')",
    "cancel": "select bridge.cancel(max(id)) from bridge.command"
    " where kind = 'backfill'",
    "pause": "select bridge.pause('cache')",
    "resume": "select bridge.resume('cache')",
    "pause search": "select bridge.pause('search')",
    "resume search": "select bridge.resume('search')",
}
LAST = ("resume", "resume search")


class Edit(NamedTuple):
    """One configuration of the view `item`."""

    shape: tuple[str, str]
    template: str
    encoding: str
    mapping: str
    sinks: tuple[str, ...]

    def write(self, bridge: Bridge) -> None:
        column, query = self.shape
        key = f'key = "{self.template % column}"' if self.template else ""
        bridge.configure(
            {"item": f'query = "{query}"'},
            options={
                "item/cache": f"{key}\n{self.encoding}",
                "item/search": self.mapping,
            },
            only={"item": self.sinks},
        )


def edit(dice: random.Random, before: Edit | None = None) -> Edit:
    """Another one; of one before it, one part is another."""
    every = (SHAPES, TEMPLATES, ENCODINGS, MAPPINGS, SINKS)
    drawn = [dice.choice(each) for each in every]
    if before is not None:
        at = dice.randrange(len(every))
        drawn = [*before[:at], drawn[at], *before[at + 1 :]]
    return Edit(*drawn)


async def step(bridge: Bridge, dice: random.Random, now: Edit) -> Edit:
    """Something is asked for, or goes wrong; the configuration from then on."""
    match dice.choice(("edit", "edit", "command", "command", "kill", "stop", "prune")):
        case "edit":
            now = edit(dice, dice.choice((now, None)))
            print("edit", now)
            now.write(bridge)
        case "command":
            name = dice.choice(list(COMMANDS))
            print(name)
            with suppress(ObjectNotInPrerequisiteState, UndefinedObject):
                await asyncio.to_thread(bridge.execute, COMMANDS[name])
        case "kill":
            print("kill")
            await bridge.daemon.kill()
            bridge.daemon.start()
        case "stop":
            print("stop")
            # One that was started a moment ago may not listen to signals yet.
            assert await bridge.daemon.stop() in (0, -signal.SIGTERM)
            now = edit(dice, now)
            now.write(bridge)
            bridge.daemon.start()
        case _:
            print("prune")
            await asyncio.to_thread(
                harness.pgbridge, bridge.daemon.config, "apply", "--prune"
            )
    await asyncio.sleep(dice.random() ** 3 * 3)
    bridge.daemon.must_run()
    return now


async def test_it_comes_to_rest_whatever_was_asked_for(
    bridge: Bridge, seed: int
) -> None:
    """See above."""
    dice = random.Random(seed)
    bridge.execute(*SCHEMA.split(";"), "alter table item replica identity full")
    now = edit(dice)._replace(sinks=SINKS[0])
    now.write(bridge)
    bridge.daemon.start()
    await bridge.ready()
    traffic = Traffic(bridge.dsn, seed, rows=300, pause_s=0.05)
    for _ in range(STEPS):
        now = await step(bridge, dice, now)
    now = now._replace(sinks=SINKS[0])
    print("last", now)
    now.write(bridge)
    for name in LAST:
        await asyncio.to_thread(bridge.execute, COMMANDS[name])
    await eventually(bridge.daemon.well, deadline_s=120.0, every_s=0.1)
    await at_rest(bridge)
    assert await traffic.stop() > 0
    await bridge.settled(former=True)
    await bridge.ends_exact(former=True)
    code, out, err = harness.pgbridge(
        bridge.daemon.config, "drop", "--targets", "--yes"
    )
    assert code == 0, (out, err)
    with redis.Redis.from_url(bridge.redis) as client:
        assert list(client.scan_iter(count=1000)) == []
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as search:
        found = await search.get(f"/{bridge.prefix}*", params={"features": "aliases"})
    assert found.json() == {}
