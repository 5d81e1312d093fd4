"""The life of a derived view while applications read and write it all the time."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import redis

from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.readers import reading
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

OLD = 'query = "select id, name, n from item"'
NEW = 'query = "select id, upper(name) as title, n, note from item"'
KEPT_S = 6
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
    code, out, err = await asyncio.to_thread(
        harness.pgbridge, bridge.daemon.config, *arguments
    )
    return code, out + err


async def carried_out(bridge: Bridge, call: str) -> None:
    """Issue a command from SQL, and wait until it is done."""
    command = bridge.one(f"select {call}")
    state = "select state from bridge.command where id = %s and finished_at is not null"
    assert await eventually(lambda: bridge.one(state, command)) == "done", call


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
        # The next look may be a moment after the switch.
        shapes = {("id", "name", "n"), ("id", "title", "n", "note")}
        await eventually(lambda: readers.shapes >= shapes)
        assert (await pgbridge(bridge, "rollback", "item"))[0] == 0
        await generation_is(bridge, 1)
        readers.shapes.clear()
        found = await bridge.document("item", "0")
        assert found is not None
        assert set(found.source) == {"id", "name", "n"}
        # It is compared with what it was built from, not with what the file says.
        code, told = await pgbridge(bridge, "verify", "item")
        assert code == 0, told
        assert "g1 is not of the file's definition" in " ".join(told.split()), told
        # It holds over a restart: what the file says is kept, and shown by a rollback.
        assert await bridge.daemon.stop() == 0
        code, told = await pgbridge(bridge, "plan")
        assert (code, told.count("rolled back to g1")) == (0, 2), told
        bridge.daemon.start()
        await bridge.ready()
        await generation_is(bridge, 1)
        assert bridge.one("select count(*) from bridge.generation") == 4
        assert (await pgbridge(bridge, "rollback", "item"))[0] == 0
        await generation_is(bridge, 2)
        status = await bridge.daemon.status()
        assert all(t["dead_letters"] == 0 for t in status["targets"])
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.slow
@pytest.mark.parametrize("template", ["item:{generation}:{id}", "item:{id}"])
async def test_no_reader_is_ever_shown_less_than_before(
    bridge: Bridge, seed: int, template: str
) -> None:
    """Through build, rebuild, sweep, repair, rollback, a pause and a kill; under load,
    by the alias, by a number in the key, and by plain keys."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    configure(bridge, OLD, template)
    traffic = Traffic(bridge.dsn, seed, writers=4)
    async with reading(bridge, "item", STILL, template=template, first=True):
        bridge.daemon.start()
        await bridge.ready()
        for command in (["backfill", "--rebuild"], ["backfill"]):
            code, told = await pgbridge(bridge, command[0], "item", *command[1:])
            assert code == 0, told
        await lose(bridge, template, -7)
        await pgbridge(bridge, "verify", "item", "--repair")
        code, told = await pgbridge(bridge, "verify", "item")
        assert code == 0, told
        for command in ("rollback", "rollback"):
            code, told = await pgbridge(bridge, command, "item")
            assert code == 0, told
        assert (await pgbridge(bridge, "pause", "cache"))[0] == 0
        assert (await pgbridge(bridge, "resume", "cache"))[0] == 0
        await bridge.daemon.kill()
        bridge.daemon.start()
        await bridge.ready()
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.slow
async def test_what_is_kept_for_a_rollback_is_kept_for_long_enough(
    bridge: Bridge,
) -> None:
    """From the last switch on, also of those that went back and forth; then it is gone.
    What readers were rolled back from is kept until the next takes its place."""
    bridge.execute(*SCHEMA.split(";"))
    keep = f'keep_previous = "{KEPT_S}s"'
    bridge.configure({"item": OLD}, sinks=["search"], daemon=keep)
    bridge.daemon.start()
    await bridge.ready()
    await generation_is(bridge, 1)
    await carried_out(bridge, "bridge.backfill('item', rebuild => true)")
    states = "select json_object_agg(number, state) from bridge.generation"
    assert bridge.one(states) == {"1": "previous", "2": "live"}
    for shown in (1, 2):
        await carried_out(bridge, "bridge.rollback('item')")
        await generation_is(bridge, shown)
    since = "select extract(epoch from clock_timestamp() - published_at)"
    live = f"{since} from bridge.generation where state = 'live'"
    await eventually(lambda: bridge.one(states).get("1") != "previous", every_s=0.02)
    assert float(bridge.one(live)) >= KEPT_S
    await eventually(lambda: bridge.one(states) == {"2": "live"})

    # The newer one, from which readers were rolled back, stays for as long as it takes.
    await carried_out(bridge, "bridge.backfill('item', rebuild => true)")
    await carried_out(bridge, "bridge.rollback('item')")
    await eventually(lambda: float(bridge.one(live)) > KEPT_S)
    assert bridge.one(states) == {"2": "live", "3": "previous"}
    # Over a restart as well; and it is current.
    assert await bridge.daemon.stop() == 0
    bridge.execute("update item set name = 'while away' where id = 1")
    bridge.daemon.start()
    await bridge.ready()
    await carried_out(bridge, "bridge.rollback('item')")
    found = await bridge.document("item", "1")
    assert found is not None
    assert found.source["name"] == "while away"
    await eventually(lambda: bridge.one(states) == {"3": "live"})
    await bridge.ends_exact()


async def lose(bridge: Bridge, template: str, key: int) -> None:
    """Take a document away behind the bridge's back, in both sinks."""
    status = await bridge.daemon.status()
    live = {t["sink"]: t["generation"] for t in status["targets"]}
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        index = f"{bridge.prefix}item--g{live['search']}"
        version = (await client.get(f"/{index}/_doc/{key}")).json()["_version"]
        params = {"version": version, "version_type": "external_gte"}
        (await client.delete(f"/{index}/_doc/{key}", params=params)).raise_for_status()
    with redis.Redis.from_url(bridge.redis) as client:
        name = template.replace("{generation}", str(live["cache"]))
        assert client.delete(name.replace("{id}", str(key)))
