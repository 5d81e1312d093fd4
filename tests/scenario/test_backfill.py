"""Deriving again what is there: whole, in part, beside; refused, cancelled, resumed."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, exact
from tests.scenario.test_life import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

VIEW = {"item": 'query = "select id, name, n from item"'}
SLOW = "backfill_rate = 50"
"""Documents per second: the 500 rows of the table take seconds."""


async def started(bridge: Bridge, daemon: str = "") -> None:
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEW, sinks=["search"], daemon=daemon)
    bridge.daemon.start()
    await bridge.ready()


def outcome(bridge: Bridge, command: int) -> str:
    query = "select state from bridge.command where id = %s"
    return str(bridge.one(query, command))


async def ended(bridge: Bridge, command: int) -> str:
    """Wait for the end of a command; how it ended."""
    await eventually(lambda: outcome(bridge, command) not in {"pending", "running"})
    return outcome(bridge, command)


def plant(bridge: Bridge, ghost: int) -> None:
    """A document that is wrong, one that is missing, and one of no row."""
    version = {"version_type": "external_gte", "refresh": "true"}
    with httpx.Client(base_url=bridge.es, trust_env=False) as client:
        for key, number in (("1", 1), (str(ghost), ghost)):
            found = client.get(f"/{bridge.prefix}item/_doc/{key}").json()
            client.put(
                f"/{bridge.prefix}item--g1/_doc/{key}",
                params=version | {"version": str(found.get("_version", 1))},
                json={"id": number, "name": "planted", "n": 0},
            ).raise_for_status()
        client.delete(
            f"/{bridge.prefix}item--g1/_doc/2",
            params=version
            | {
                "version": client.get(f"/{bridge.prefix}item/_doc/2").json()["_version"]
            },
        ).raise_for_status()


CANNOT_BE_DONE = (
    ("--where", "id = 'abc'", "the condition cannot be used"),
    ("--where", "no_such_column = 1", "no_such_column"),
    ("--where", "1 / (id - id) = 1", "the condition cannot be used"),
    ("--where", "id = 1) or (id = 2", "it is not one expression"),
    (
        "--where",
        "true); commit; create table planted (); select (true",
        "the condition cannot be used",
    ),
    ("--keys", "abc", "cannot be a key of view item"),
)


async def test_what_cannot_be_done_fails_alone(bridge: Bridge) -> None:
    """A bad condition or key fails its command, and the daemon goes on."""
    await started(bridge)
    for option, value, said in CANNOT_BE_DONE:
        code, told = await pgbridge(bridge, "backfill", "item", option, value)
        assert code == 1, value
        assert said in told
    assert bridge.one("select to_regclass('planted')") is None
    bridge.execute("update item set name = 'later' where id = 3")
    await bridge.settled()
    assert (await bridge.daemon.status())["targets"][0]["dead_letters"] == 0
    await bridge.ends_exact()


async def test_a_backfill_makes_right_what_it_covers(bridge: Bridge) -> None:
    """However it is ordered; a rebuild comes last, which leaves the planted behind."""
    await started(bridge)
    ways = {
        "whole": [],
        "keys": ["--keys", "1", "2", "7001"],
        "where": ["--where", "id <= 2"],
        "sql": [],
        "rebuild": ["--rebuild"],
    }
    for ghost, (way, options) in enumerate(ways.items(), 7000):
        plant(bridge, ghost)
        if way == "sql":
            command = bridge.one("select bridge.backfill('item')")
            assert await ended(bridge, command) == "done"
        else:
            code, told = await pgbridge(bridge, "backfill", "item", *options)
            assert code == 0, told
        if way == "where":  # what no row says anything of is left alone
            assert await bridge.document("item", str(ghost)) is not None
            assert (await pgbridge(bridge, "backfill", "item"))[0] == 0
        assert await bridge.document("item", str(ghost)) is None, way
        await exact(bridge.daemon.config)
    await bridge.ends_exact()


async def test_a_rebuild_is_cancelled_and_dropped(bridge: Bridge) -> None:
    """Readers keep the generation they had, and what was begun is removed."""
    await started(bridge, SLOW)
    command = bridge.one("select bridge.backfill('item', rebuild => true)")
    states = "select count(*) from bridge.generation where state = 'building'"
    await eventually(lambda: bridge.one(states) == 1)
    code, told = await pgbridge(bridge, "backfill", "item", "--cancel")
    assert code == 0, told
    assert await ended(bridge, command) == "cancelled"
    kept = "select count(*) from bridge.generation"
    await eventually(lambda: bridge.one(kept) == 1)
    await bridge.ends_exact()


async def moving(bridge: Bridge, view: str) -> dict[str, Any] | None:
    """What status tells of a view's backfill under way, once it tells how fast."""
    targets = (await bridge.daemon.status()).get("targets") or []
    found = next((t for t in targets if t["view"] == view), {})
    return found if found.get("rate") and found["left_seconds"] else None


async def test_several_at_once_are_told_and_cancelled(bridge: Bridge) -> None:
    """As slow as the file says, with rate and time left wherever one looks; one is
    cancelled from SQL and one from the command line, each alone."""
    views = VIEW | {"other": 'query = "select id, n from item"'}
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(views, sinks=["search"])
    bridge.daemon.start()
    await bridge.ready()
    bridge.configure(views, sinks=["search"], daemon=SLOW)
    edited = "select bool_and(state = 'done') from bridge.command"
    await eventually(lambda: bridge.one(edited))

    one = bridge.one("select bridge.backfill('item')")
    followed = asyncio.create_task(pgbridge(bridge, "backfill", "other"))
    for view in views:
        found = await eventually(lambda view=view: moving(bridge, view))  # type: ignore[misc]
        assert 0 < found["progress"] < 1
        assert (found["state"], found["building"]) == ("live", None)
    code, told = await pgbridge(bridge, "status", "--json")
    assert code == 0
    for target in json.loads(told)["targets"]:
        assert 0 < target["progress"] < 1
        assert target["rate"] > 0
        assert target["left_seconds"] > 0
    _, told = await pgbridge(bridge, "status")
    line = r"backfill: \d+ %, [\d,]+/s, [\d.]+ \w+ left"
    assert len(re.findall(line, told)) == 2, told

    bridge.execute(f"select bridge.cancel({one})")
    assert await ended(bridge, one) == "cancelled"
    assert await moving(bridge, "other")
    assert not followed.done()
    code, told = await pgbridge(bridge, "backfill", "other", "--cancel")
    assert code == 0, told
    code, told = await followed
    assert code == 1
    assert "cancelled" in told
    line = r"backfill of other: \d+ %, [\d,]+ documents, [\d,]+/s, [\d.]+ \w+ left"
    assert re.search(line, told), told
    open_ones = "select count(*) from bridge.backfill where state = 'running'"
    assert bridge.one(open_ones) == 0
    assert (await pgbridge(bridge, "backfill", "other", "--cancel"))[1].startswith(
        "view other has no backfill under way"
    )

    bridge.configure(views, sinks=["search"])
    target = f"search/{bridge.prefix}item"
    code, told = await pgbridge(bridge, "backfill", "item", "--target", target)
    assert code == 0, told
    await bridge.ends_exact()
