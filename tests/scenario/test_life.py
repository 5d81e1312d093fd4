"""The life of a derived view while applications read and write it all the time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.readers import reading
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

OLD = 'query = "select id, name, n from item"'
NEW = 'query = "select id, upper(name) as title, n, note from item"'
STILL = 300
"""Rows that nobody deletes: an index with fewer is half an index."""
QUIET = (
    "insert into item (id, name, n)"
    " select -g, 'still', 0 from generate_series(0, 300) g"
)


async def started(bridge: Bridge, template: str = "item:{generation}:{id}") -> str:
    """A bridge with the view `item` in both sinks; the Redis template."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    configure(bridge, OLD, template)
    bridge.daemon.start()
    await bridge.ready()
    return template


def configure(bridge: Bridge, query: str, template: str, daemon: str = "") -> None:
    bridge.configure(
        {"item": query}, options={"item/cache": f'key = "{template}"'}, daemon=daemon
    )


async def pgbridge(bridge: Bridge, *arguments: str) -> tuple[int, str]:
    """One command; its exit code and all that it printed."""
    command = [str(Path(sys.executable).with_name("pgbridge")), *arguments]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "-c", str(bridge.daemon.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    return done.returncode, done.stdout + done.stderr


async def generation_is(bridge: Bridge, number: int) -> None:
    """Wait until that generation is live in every target, and nothing is building."""

    async def live() -> bool:
        bridge.daemon.must_run()
        targets = (await bridge.daemon.status()).get("targets") or []
        return bool(targets) and all(
            t["generation"] == number and not t["building"] for t in targets
        )

    await eventually(live)


async def test_an_edited_query_is_built_beside_and_rolled_back(
    bridge: Bridge, seed: int
) -> None:
    """Readers see the old shape, current, until the new one is complete; and back."""
    template = await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    async with reading(bridge, "item", STILL, template=template) as readers:
        configure(bridge, NEW, template)
        await generation_is(bridge, 2)
        assert readers.shapes >= {("id", "name", "n"), ("id", "title", "n", "note")}
        assert (await pgbridge(bridge, "rollback", "item"))[0] == 0
        await generation_is(bridge, 1)
        readers.shapes.clear()
        found = await bridge.document("item", "0")
        assert found is not None
        assert set(found.source) == {"id", "name", "n"}
        assert (await pgbridge(bridge, "rollback", "item"))[0] == 0
        await generation_is(bridge, 2)
        status = await bridge.daemon.status()
        assert all(t["dead_letters"] == 0 for t in status["targets"])
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()
