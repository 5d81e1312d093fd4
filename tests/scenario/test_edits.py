"""Edits of the file under a running daemon: what is new is done, the rest untouched."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.harness import Daemon
from tests.scenario.test_life import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

ITEM = 'query = "select id, name, n from item"'
TITLE = 'query = "select id, upper(name) as title, n from item"'
LABEL = 'query = "select id, name as label from item"'
OTHER = 'query = "select id, n from item"'
RAW = 'mappings = { name = { type = "text", fields = { raw = { type = "keyword" } } } }'
NAME_AS_TEXT = 'mappings = { name = { type = "text" } }'
SLOW = "backfill_rate = 30"


def rows(bridge: Bridge) -> None:
    bridge.execute(
        "create table item (id bigint primary key, name text, n integer)",
        "insert into item select g, 'Item ' || g, g from generate_series(1, 60) g",
    )


async def get(bridge: Bridge, path: str, **body: Any) -> Any:
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        answer = await client.request(
            "GET", f"/{bridge.prefix}{path}", json=body or None
        )
        answer.raise_for_status()
        return answer.json()


async def versions(bridge: Bridge, view: str) -> dict[str, int]:
    found = await get(bridge, f"{view}/_search", size=100, version=True)
    return {hit["_id"]: hit["_version"] for hit in found["hits"]["hits"]}


async def settled(bridge: Bridge, **generations: int) -> None:
    """Wait until these generations are live, nothing is building, and all is right."""

    async def live() -> bool:
        bridge.daemon.must_run()
        targets = (await bridge.daemon.status()).get("targets") or []
        return {t["view"] for t in targets} == set(generations) and all(
            t["generation"] == generations[t["view"]]
            and not t["building"]
            and t["state"] == "live"
            for t in targets
        )

    await eventually(live, what=str(generations))
    await bridge.settled()


async def steps(bridge: Bridge, *edit: str) -> dict[str, tuple[str, str]]:
    """What `plan` says of targets; of a copy of the file, in which the first of two
    texts is edited into the second."""
    copy = bridge.daemon.config.parent / "edited" / "pgbridge.toml"
    copy.parent.mkdir(exist_ok=True)
    text = bridge.daemon.config.read_text()
    copy.write_text(text.replace(*edit) if edit else text)
    _, told, _ = await asyncio.to_thread(harness.pgbridge, copy, "plan", "--json")
    return {
        step["name"]: (step["action"], step["why"])
        for step in json.loads(told)["steps"]
        if step["kind"] == "target"
    }


# long: one daemon, one edit after the other
async def test_what_an_edit_does_not_name_is_untouched(bridge: Bridge) -> None:
    """In place what can be, beside what cannot, nothing of what is refused."""
    rows(bridge)
    options = {"item/search": NAME_AS_TEXT}
    views = {"item": ITEM, "other": OTHER}
    bridge.configure(views, options=options)
    bridge.daemon.start()
    await settled(bridge, item=1, other=1)
    before = await versions(bridge, "other")

    # A field more, and a time to live: in place, for all documents.
    name = f"{bridge.prefix}item"
    planned = await steps(bridge, NAME_AS_TEXT, RAW)
    assert planned[f"search/{name}"] == (
        "update",
        "field name.raw is added, in place; every document is written again",
    )
    assert {action for action, _ in planned.values()} == {"update", "keep"}
    options = {"item/search": RAW, "item/cache": 'ttl = "1h"'}
    bridge.configure(views, options=options)

    async def found_by_the_new_field() -> bool:
        term = {"term": {"name.raw": "Item 7"}}
        found = await get(bridge, "item/_search", query=term)
        return [hit["_id"] for hit in found["hits"]["hits"]] == ["7"]

    await eventually(found_by_the_new_field)
    with redis.Redis.from_url(bridge.redis) as client:
        await eventually(lambda: client.ttl(f"{name}:7") > 0)
    await settled(bridge, item=1, other=1)
    assert (await pgbridge(bridge, "plan"))[0] == 0

    # A setting alone: in place, and no document is written.
    at = await versions(bridge, "item")
    options["item/search"] += '\nsettings = { refresh_interval = "500ms" }'
    bridge.configure(views, options=options)

    async def set_so() -> bool:
        found = await get(bridge, "item/_settings?flat_settings=true")
        (index,) = found.values()
        return bool(index["settings"].get("index.refresh_interval") == "500ms")

    await eventually(set_so)
    await settled(bridge, item=1, other=1)
    assert await versions(bridge, "item") == at

    # What cannot be in place says why.
    action, why = (await steps(bridge, RAW, NAME_AS_TEXT))[f"search/{name}"]
    assert (action, why.partition(";")[0]) == ("rebuild", "field name.raw is removed")

    # Refused: the daemon goes on as it was, and says so.
    bridge.configure(views | {"bad": 'query = "select now()"'}, options=options)
    await eventually(lambda: bridge.daemon.metric("pgbridge_configuration_refused"))
    assert (await bridge.daemon.status())["source"]["configuration_refused"]

    async def told() -> bool:
        return "the edited file is refused" in (await pgbridge(bridge, "status"))[1]

    await eventually(told)
    assert "configuration is refused" in bridge.daemon.log.read_text()
    bridge.execute("update item set n = 700 where id = 7")

    async def streamed() -> bool:
        found = await bridge.document("other", "7")
        return found is not None and found.source["n"] == 700

    await eventually(streamed)

    # Two edits, one after the other: the last holds.
    del options["item/search"]
    bridge.configure(views | {"item": TITLE}, options=options)
    bridge.configure(views | {"item": LABEL, "more": OTHER}, options=options)

    async def labelled() -> bool:
        found = await bridge.document("item", "7")
        return found is not None and set(found.source) == {"id", "label"}

    await eventually(labelled)
    assert await bridge.daemon.metric("pgbridge_configuration_refused") == 0
    targets = {t["view"]: t for t in (await bridge.daemon.status())["targets"]}
    assert targets["other"]["generation"] == 1

    # An edit, and a crash at once.
    bridge.configure({"item": ITEM, "other": OTHER}, options=options)
    await bridge.daemon.kill()
    bridge.daemon.start()

    async def named() -> bool:
        found = await bridge.document("item", "7")
        return found is not None and set(found.source) == {"id", "name", "n"}

    await eventually(named)
    await bridge.settled()
    after = await versions(bridge, "other")
    assert {key for key in before if before[key] != after[key]} == {"7"}
    await bridge.ends_exact()


async def test_a_target_that_was_taken_out_is_not_stale_when_it_is_back(
    bridge: Bridge,
) -> None:
    """Fed no more, kept, built anew when it is back; dropped by `apply --prune`."""
    rows(bridge)
    both = {"item": ITEM, "other": OTHER}
    bridge.configure(both, sinks=["search"], daemon=SLOW)
    bridge.daemon.start()

    async def begun() -> bool:
        found = (await bridge.daemon.status()).get("targets") or []
        return any(t["view"] == "other" and t["building"] for t in found)

    await eventually(begun)
    # Taken out while it is being built: what was built misses what comes.
    bridge.configure({"item": ITEM}, sinks=["search"])
    await settled(bridge, item=1)
    bridge.execute("update item set n = n + 1000", "delete from item where id = 3")
    bridge.configure(both, sinks=["search"])
    await settled(bridge, item=1, other=2)
    # Taken out when it is live: what readers had stays, and is replaced.
    bridge.configure({"item": ITEM}, sinks=["search"])
    await settled(bridge, item=1)
    bridge.execute("update item set n = n + 1000", "delete from item where id = 4")
    assert (await bridge.document("other", "4")) is not None
    bridge.configure(both, sinks=["search"], daemon='keep_previous = "1s"')
    await settled(bridge, item=1, other=3)

    async def kept() -> bool:
        found = await get(bridge, "other--*")
        return list(found) == [f"{bridge.prefix}other--g3"]

    await eventually(kept)
    bridge.configure({"item": ITEM}, sinks=["search"])
    await settled(bridge, item=1)
    assert (await steps(bridge))[f"search/{bridge.prefix}other"][0] == "keep"
    assert (await pgbridge(bridge, "apply", "--prune"))[0] == 0
    assert await get(bridge, "other--*") == {}
    await bridge.ends_exact()


async def test_a_signal_has_the_file_read_again(bridge: Bridge, tmp_path: Path) -> None:
    """Where watching shows nothing: the folder of the file is another one now."""
    rows(bridge)
    one, two, link = (tmp_path / name for name in ("one", "two", "link"))
    one.mkdir()
    link.symlink_to(one)
    bridge.daemon = Daemon(link / "pgbridge.toml", bridge.daemon.http)
    bridge.configure({"item": ITEM}, sinks=["cache"])
    bridge.daemon.start()
    await settled(bridge, item=1)
    log = bridge.daemon.log
    shutil.copytree(one, two)
    (tmp_path / "new").symlink_to(two)
    (tmp_path / "new").replace(link)
    bridge.configure({"item": ITEM, "other": OTHER}, sinks=["cache"])
    process = bridge.daemon.process
    assert process is not None
    assert "taken up" not in (one / log.name).read_text()
    process.send_signal(signal.SIGHUP)
    await settled(bridge, item=1, other=1)
    await bridge.ends_exact()
