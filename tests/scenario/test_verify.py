"""Comparing while writers write: no false alarm, every planted fault, nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis

from bridge.config import load
from bridge.errors import Halt
from bridge.store import Store
from bridge.store.rows import GenerationKey
from bridge.verify import verify as verifying
from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.test_life import pgbridge
from tests.scenario.test_visibility import absent_standby
from tests.scenario.world import SINKS, Bridge

pytestmark = pytest.mark.scenario

VIEWS = {
    "item": 'query = "select id, name, n from item"',
    "pair": 'query = "select id, n > 9 as high, name, n, nullif(n, 3) as m from item"',
}
QUIET = (
    "insert into item (id, name, n)"
    " select -g, 'quiet ' || g, g from generate_series(1, 300) g"
)
"""Rows that no writer touches: faults are planted there."""
FAULTS = {
    "item": {"missing": ["-1", "-2"], "different": ["-3"], "extra": ["70000"]},
    "pair": {"missing": ["-1"], "different": ["-3"], "extra": ["70000", "70001"]},
}


def planted(view: str, key: str) -> dict[str, Any]:
    """A document that the source does not have."""
    n = abs(int(key))
    document = {"id": int(key), "name": "planted", "n": n}
    if view == "pair":
        document |= {"high": n > 9, "m": None if n == 3 else n}
    return document


class Planted:
    """What the two sinks hold, written to behind the bridge's back."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._redis = redis.Redis.from_url(bridge.redis, decode_responses=True)
        self._search = httpx.Client(base_url=bridge.es, trust_env=False)

    def plant(self) -> None:
        for view, kinds in FAULTS.items():
            self._plant_documents(view, kinds)
            self._plant_keys(view, kinds)

    def _plant_documents(self, view: str, kinds: dict[str, list[str]]) -> None:
        index = f"/{self._bridge.prefix}{view}--g1/_doc"
        for kind, keys in kinds.items():
            for key in keys:
                found = self._search.get(f"{index}/{key}").json()
                at = {"version_type": "external_gte", "version": "1"}
                at["version"] = str(found.get("_version", 1))
                if kind == "missing":
                    answer = self._search.delete(f"{index}/{key}", params=at)
                else:
                    body = planted(view, key)
                    answer = self._search.put(f"{index}/{key}", params=at, json=body)
                answer.raise_for_status()

    def _plant_keys(self, view: str, kinds: dict[str, list[str]]) -> None:
        name = f"{self._bridge.prefix}{view}"
        prefix = next(self._redis.scan_iter(f"pgbridge:v:{name}:*:-5*"))
        prefix = prefix.rpartition(":-5")[0]
        for key in kinds["missing"]:
            self._redis.delete(f"{name}:{key}")
        self._redis.delete(f"{prefix}:{kinds['missing'][0]}")  # and its version
        for key in (*kinds["different"], *kinds["extra"]):
            self._write(view, f"{name}:{key}", planted(view, key))
        for key in kinds["extra"]:
            self._redis.set(f"{prefix}:{key}", f"{1:019}")

    def _write(self, view: str, name: str, document: dict[str, Any]) -> None:
        if view == "pair":
            self._redis.delete(name)
            stored = {k: v for k, v in document.items() if v is not None}
            texts = {k: v if k == "name" else json.dumps(v) for k, v in stored.items()}
            self._redis.hset(name, mapping=texts)
        else:
            self._redis.set(name, json.dumps(document))

    def versions(self) -> dict[str, str]:
        """Of every document of a quiet row, in both sinks."""
        found: dict[str, str] = {}
        for view in VIEWS:
            name = f"{self._bridge.prefix}{view}"
            body = {
                "size": 1000,
                "version": True,
                "_source": False,
                "query": {"range": {"id": {"lt": 0}}},
            }
            self._search.post(f"/{name}/_refresh").raise_for_status()
            hits = self._search.post(f"/{name}/_search", json=body).json()["hits"]
            for hit in hits["hits"]:
                found[f"search/{view}/{hit['_id']}"] = str(hit["_version"])
            for key in self._redis.scan_iter(f"pgbridge:v:{name}:*:-*", count=5000):
                text = key.split(":", 4)[4]
                found[f"cache/{view}/{text}"] = str(self._redis.get(key))
        return found


async def verify(bridge: Bridge, view: str, *options: str) -> tuple[int, Any]:
    """Exit code, and what was found by sink."""
    code, told = await pgbridge(bridge, "verify", view, "--json", *options)
    found, _ = json.JSONDecoder().raw_decode(told[told.index("{") :])
    assert found["view"] == view
    names = {"sink", "name", "position", "checked", "missing", "different", "extra"}
    assert all(set(t) == names | {"repaired"} for t in found["targets"])
    return code, {target["sink"]: target for target in found["targets"]}


def wrong(found: dict[str, Any]) -> dict[str, list[str]]:
    return {
        "missing": sorted(found["missing"]),
        "different": sorted(one["key"] for one in found["different"]),
        "extra": sorted(found["extra"]),
    }


def reported(bridge: Bridge, view: str, sink: str) -> dict[str, list[str]]:
    """What the continuous comparison has written down."""
    query = (
        "select coalesce(json_object_agg(kind, keys), '{}') from (select kind,"
        " json_agg(key order by key) as keys from bridge.difference"
        " where name = %s and sink = %s group by kind) d"
    )
    return dict(bridge.one(query, f"{bridge.prefix}{view}", sink))


@pytest.mark.slow
async def test_every_planted_fault_is_found_and_mended_and_nothing_else_touched(
    bridge: Bridge, seed: int
) -> None:
    """By `verify` and by the continuous comparison, with four writers at work."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    options = {"pair/cache": 'encoding = "hash"'}
    bridge.configure(VIEWS, options=options, daemon='audit = "100% per second"')
    bridge.daemon.start()
    await bridge.ready()
    traffic = Traffic(bridge.dsn, seed, writers=4)
    for view in VIEWS:
        code, found = await verify(bridge, view)
        assert (code, [wrong(found[sink]) for sink in SINKS]) == (
            0,
            [{"missing": [], "different": [], "extra": []}] * 2,
        )
        assert all(found[sink]["checked"] > 300 for sink in SINKS)
        code, found = await verify(bridge, view, "--sample", "60")
        assert code == 0
        assert all(30 <= found[sink]["checked"] <= 90 for sink in SINKS)

    async def verified() -> bool:
        return await bridge.daemon.metric("pgbridge_verified_documents_total") > 4000

    await eventually(verified)
    assert await bridge.daemon.metric("pgbridge_verify_differences_total") == 0

    sinks = Planted(bridge)
    before = sinks.versions()
    assert len(before) >= 4 * 300
    sinks.plant()
    for view, faults in FAULTS.items():
        for sink in SINKS:
            await eventually(
                lambda v=view, s=sink, f=faults: reported(bridge, v, s) == f,
                what=f"what is reported of {sink}/{view}",
            )
        code, found = await verify(bridge, view)
        assert code == 1
        for sink in SINKS:
            assert wrong(found[sink]) == faults, sink
            assert [d["fields"] for d in found[sink]["different"]] == [["name"]], sink
    shown = {t["differences"] for t in (await bridge.daemon.status())["targets"]}
    assert shown == {4}
    assert "--repair" in (await pgbridge(bridge, "status"))[1]
    told = bridge.daemon.log.read_text().replace(str(bridge.directory), "")
    assert "planted" not in told
    for view, faults in FAULTS.items():
        code, found = await verify(bridge, view, "--repair")
        assert code == 0
        count = sum(map(len, faults.values()))
        assert [found[sink]["repaired"] for sink in SINKS] == [count] * 2
        assert (await verify(bridge, view))[0] == 0
    after = sinks.versions()
    mended = {
        f"{sink}/{view}/{key}"
        for view, kinds in FAULTS.items()
        for kind in ("missing", "different")
        for key in kinds[kind]
        for sink in SINKS
    }
    assert {key for key in before if before[key] != after[key]} == mended
    assert after.keys() == before.keys()
    count_differences = "select count(*) from bridge.difference"
    await eventually(lambda: bridge.one(count_differences) == 0)
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


STRANGE = {
    "item": ["abc", "1:2", "9" * 30],
    "pair": ["abc", "1:2:3", "%31:1", "sha256:zz"],
}
"""Names that no key of the views can have."""


@pytest.mark.slow
async def test_names_that_are_no_keys_are_shown_and_left_behind_by_a_rebuild(
    bridge: Bridge,
) -> None:
    """Somebody wrote documents of their own into the index: nothing breaks by them."""
    bridge.execute(*SCHEMA.split(";"), "alter table item replica identity full", QUIET)
    views = {"item": VIEWS["item"], "pair": f'{VIEWS["item"]}\nkey = ["id", "n"]'}
    bridge.configure(views, sinks=["search"], daemon='audit = "100% per second"')
    bridge.daemon.start()
    await bridge.ready()
    with httpx.Client(base_url=bridge.es, trust_env=False) as search:
        for view, names in STRANGE.items():
            for name in names:
                where = f"/{bridge.prefix}{view}--g1/_doc/{quote(name)}?refresh=true"
                search.put(where, json=planted("item", "1")).raise_for_status()
    for view, option in (("item", "--sample=1000"), ("pair", "--repair")):
        code, found = await verify(bridge, view, option)
        shown = {"missing": [], "different": [], "extra": sorted(STRANGE[view])}
        assert (code, wrong(found["search"])) == (1, shown)
        code, told = await pgbridge(bridge, "backfill", view)
        assert code == 0, told
    # Neither a failure nor a dead letter.
    assert not [
        t for t in (await bridge.daemon.status())["targets"] if t["dead_letters"]
    ]
    assert (await pgbridge(bridge, "backfill", "pair", "--rebuild"))[0] == 0
    assert (await verify(bridge, "pair"))[0] == 0
    assert '"error"' not in bridge.daemon.log.read_text()


async def test_what_is_not_visible_yet_is_no_difference(
    make_postgres: MakePostgres,
    make_bridge: MakeBridge,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sink has a document from the log whose commit waits for a standby."""
    server = make_postgres()
    bridge = make_bridge(server.dsn)
    bridge.execute(
        "create table item (id bigint primary key, name text, n integer not null)",
        "insert into item select g, 'item ' || g, g from generate_series(1, 20) g",
    )
    bridge.configure({"item": 'table = "item"'}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    asked, real = asyncio.Event(), verifying._Waiter.applied

    async def applied(self: Any, key: Any, lsn: int) -> None:
        asked.set()
        await real(self, key, lsn)

    monkeypatch.setattr(verifying._Waiter, "applied", applied)
    async with (
        absent_standby(server),
        asyncio.timeout(120),
        bridge.committing("update item set name = 'later' where id = 1"),
    ):
        await eventually(lambda: bridge.value("item", "1")["name"] == "later")
        work = asyncio.create_task(
            verifying.verify(load(bridge.daemon.config), "item", timeout_s=120)
        )
        await asked.wait()
        server.alter_system(synchronous_standby_names=None)
    (found,) = await work
    assert not found.found.wrong
    await bridge.ends_exact()


async def test_what_is_dropped_while_it_is_compared_is_told(bridge: Bridge) -> None:
    """At once, and not after a minute that the daemon does not come on."""
    bridge.execute(
        "create table item (id bigint primary key, name text)",
        "insert into item select g, 'item ' || g from generate_series(1, 20) g",
    )
    key = {"item/cache": 'key = "item:{generation}:{id}"'}
    bridge.configure({"item": 'table = "item"'}, sinks=["cache"], options=key)
    bridge.daemon.start()
    await bridge.ready()
    gone = GenerationKey("cache", f"{bridge.prefix}item", 1)
    async with await Store.open(bridge.dsn) as store:
        waiter = verifying._Waiter(store, DEADLINE_S)
        waiting = asyncio.create_task(waiter.applied(gone, 2**52))
        for _ in range(2):
            code, told = await pgbridge(bridge, "backfill", "item", "--rebuild")
            assert code == 0, told
        with pytest.raises(Halt, match="was dropped while it was compared"):
            await waiting
    await bridge.ends_exact()
