"""A sink is listed for what only it has: what it loses, or refuses, harms nobody."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.fixtures.http_faults import Answer, HttpFaults, MakeHttpFaults, Request
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.test_life import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

ROW = "insert into item (id, name) values ({0}, 'own')"
DENIED = Answer(403, {"error": {"type": "security_exception", "reason": "not granted"}})
_MISSING = {"type": "search_context_missing_exception", "reason": "No search context"}
LOST = Answer(
    404,
    {
        "error": {
            "type": "search_phase_execution_exception",
            "root_cause": [_MISSING],
            "reason": "all shards failed",
        },
        "status": 404,
    },
)


@dataclass
class Listings:
    """The pages of listings that are asked for; the first of them are answered here."""

    search: HttpFaults
    answers: list[Answer] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    """The points in time that were listed, a page a time."""

    def __post_init__(self) -> None:
        self.search.judge = self._judge

    def _judge(self, request: Request) -> Answer | None:
        if not request.path.startswith("/_search"):
            return None
        asked: dict[str, Any] = json.loads(request.body)
        self.points.append(asked["pit"]["id"])
        return self.answers.pop(0) if self.answers else None

    def lose(self, es_url: str) -> None:
        """As the server does when nobody has asked for five minutes."""
        with httpx.Client(base_url=es_url, trust_env=False) as es:
            body = {"id": self.points[-1]}
            es.request("DELETE", "/_pit", json=body).raise_for_status()


@pytest.fixture
async def listings(es_url: str, http_faults: MakeHttpFaults) -> Listings:
    """What stands before Elasticsearch."""
    return Listings(await http_faults(es_url))


@pytest.fixture
async def bridge(database: str, make_bridge: MakeBridge, listings: Listings) -> Bridge:
    """One that runs, with a document in both sinks."""
    made = make_bridge(database, es=listings.search.url)
    made.execute("create table item (id bigint primary key, name text)", ROW.format(1))
    made.configure({"item": 'table = "item"'})
    made.daemon.start()
    await made.ready()
    await made.settled()
    listings.points.clear()
    return made


def state(bridge: Bridge) -> str:
    return str(bridge.one("select state from bridge.sink where name = 'search'"))


async def flows(bridge: Bridge, key: int) -> None:
    """The other sink is as current as ever."""
    bridge.execute(ROW.format(key))
    await eventually(lambda: bridge.value("item", str(key)))
    bridge.daemon.must_run()


async def emptied(bridge: Bridge) -> None:
    """The document of the emptied table is gone, and all that came later is there."""

    async def gone() -> bool:
        bridge.daemon.must_run()
        return await bridge.document("item", "1") is None

    await eventually(gone)
    await bridge.ends_exact()


async def test_a_listing_that_is_lost_while_its_sink_is_paused_is_begun_again(
    bridge: Bridge, listings: Listings, es_url: str
) -> None:
    """The daemon ended, with exit 4, and ended so again after each start."""
    started = bridge.one("select started_at from bridge.daemon")
    bridge.one("select bridge.pause('search')")
    await eventually(lambda: state(bridge) == "paused")
    bridge.execute("truncate item")
    await eventually(lambda: listings.points)
    listings.lose(es_url)
    await flows(bridge, 2)
    bridge.one("select bridge.resume('search')")
    await emptied(bridge)
    assert bridge.one("select started_at from bridge.daemon") == started
    assert len(set(listings.points)) > 1


async def test_a_sink_that_does_not_grant_a_listing_is_halted_alone(
    bridge: Bridge, listings: Listings
) -> None:
    listings.answers = [DENIED]
    bridge.execute("truncate item")
    await eventually(lambda: state(bridge) == "halted")
    await flows(bridge, 2)
    bridge.one("select bridge.resume('search')")
    await emptied(bridge)


async def test_a_comparison_begins_a_lost_listing_again_or_says_that_it_cannot(
    bridge: Bridge, listings: Listings
) -> None:
    listings.answers = [LOST]
    code, told = await pgbridge(bridge, "verify", "item")
    assert (code, "no differences in 2" in told) == (0, True), told
    assert listings.answers == []
    listings.answers = [LOST] * 9
    code, told = await pgbridge(bridge, "verify", "item")
    assert code == 3, told
    assert "could not be compared to the end" in told
    assert "search_context_missing_exception" in told
    assert "differences" not in told
    listings.answers = []
    await bridge.ends_exact()
