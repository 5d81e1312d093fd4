"""Documents that a sink refuses for good, and keys for which the query fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bridge.derive.documents import NOT_UNIQUE
from bridge.keys import key_text
from tests.fixtures.http_faults import Answer, MakeHttpFaults, Request
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

POISON = "a bulk with this word"
VIEWS = {
    "item": 'table = "item"',
    "ratio": 'query = "select id, 100 / n as part from item"',
    "worded": """query = '''
        select i.id, w.word from item i left join word w on w.item = i.id'''""",
}
SCHEMA = (
    "create table item (id int primary key, n int not null, name text)",
    "insert into item select g, g, 'item ' || g from generate_series(1, 100) g",
    "create table word (id int primary key, item int not null, word text)",
    "create unique index word_bridge on word (item, id)",
    "alter table word replica identity using index word_bridge",
    "insert into word select g, g, 'word ' || g from generate_series(1, 50) g",
    "insert into word values (1001, 7, 'another')",
)
"""One item has two words, and so two rows in a view."""
OPTIONS = {"item/search": 'mappings = { name = { type = "keyword" } }'}
BAD = (
    # Longer than a term may be; in a bulk that is refused as a whole; divided by 0.
    "insert into item values (1007, 1, repeat('x', 33000))",
    f"insert into item values (1008, 1, '{POISON}')",
    "insert into item values (1009, 0, 'nothing')",
    "insert into word values (1002, 8, 'another')",
)
LETTERS = {
    ("item", "search", "1007", "deliver"),
    ("item", "search", "1008", "deliver"),
    ("ratio", "cache", "1009", "derive"),
    ("worded", "cache", "7", "derive"),
    ("worded", "cache", "8", "derive"),
}


def refuses_poison(request: Request) -> Answer | None:
    """A bulk in which the word stands is not taken, whatever else is in it."""
    if "_bulk" not in request.path or POISON.encode() not in request.body:
        return None
    error = {"type": "parse_exception", "reason": "no"}
    return Answer(400, {"error": {"root_cause": [error], **error}, "status": 400})


async def letters(bridge: Bridge) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """What `dead-letters list` tells."""
    code, out, err = await asyncio.to_thread(
        pgbridge, bridge.daemon.config, "dead-letters", "list", "--json"
    )
    assert code == 0, err
    return {
        (each["view"], each["sink"], each["key"], each["stage"]): each
        for each in json.loads(out)
    }


async def test_what_is_refused_is_kept_apart_and_the_rest_goes_on(
    database: str, make_bridge: MakeBridge, es_url: str, http_faults: MakeHttpFaults
) -> None:
    """A bulk refused as a whole is cut down to the one document at fault. The letters
    outlive the daemon, hold up nothing, tell no value, and go when they are mended."""
    search = await http_faults(es_url)
    search.judge = refuses_poison
    bridge = make_bridge(database, es=search.url)
    bridge.execute(*SCHEMA)
    only = dict.fromkeys(("ratio", "worded"), ("cache",))
    bridge.configure(VIEWS, options=OPTIONS, only=only)
    bridge.daemon.start()
    await bridge.ready()
    many = "insert into item select g, g, 'more' from generate_series(101, 300) g"
    bridge.transaction(many, *BAD)

    async def told() -> bool:
        return set(await letters(bridge)) == LETTERS

    await eventually(told)
    reasons = [each["reason"] for each in (await letters(bridge)).values()]
    assert all(reasons)
    await neither_of_two_rows_is_written(bridge)
    assert not any(POISON in reason or "xxx" in reason for reason in reasons)
    assert await bridge.document("item", "300") is not None
    assert bridge.value("item", "1008")["name"] == POISON
    # What comes later goes on, and the log is let go.
    bridge.execute("update item set name = 'later' where id = 10")
    after = bridge.one("select pg_current_wal_flush_lsn()::text")

    async def later() -> bool:
        found = await bridge.document("item", "10")
        passed = bridge.one(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
            " where slot_name = %s",
            after,
            bridge.slot,
        )
        return found is not None and found.source["name"] == "later" and passed

    await eventually(later)
    await bridge.daemon.kill()
    assert set(await letters(bridge)) == LETTERS
    bridge.daemon.start()
    await bridge.ready()
    code, _, err = await asyncio.to_thread(
        pgbridge, bridge.daemon.config, "dead-letters", "drop", "ratio", "1009"
    )
    assert code == 0, err

    async def forgotten() -> bool:
        targets = (await bridge.daemon.status())["targets"]
        return [t["dead_letters"] for t in targets if t["view"] == "ratio"] == [0]

    await eventually(forgotten)
    bridge.execute(
        "update item set name = 'short' where id = 1007",
        "update item set n = 1 where id = 1009",
        "delete from word where id in (7, 1002)",
    )
    search.judge = lambda _: None
    code, _, err = await asyncio.to_thread(
        pgbridge, bridge.daemon.config, "dead-letters", "retry", "item", "1008"
    )
    assert code == 0, err
    await bridge.settled()
    assert await letters(bridge) == {}
    await retried_without_those_taken_out(bridge)
    await bridge.settled()
    await bridge.ends_exact()


async def neither_of_two_rows_is_written(bridge: Bridge) -> None:
    """What was there before stays until one of them is gone."""
    twice = (await letters(bridge))["worded", "cache", "7", "derive"]
    assert twice["reason"] == NOT_UNIQUE
    assert bridge.value("worded", "7") is None
    assert bridge.value("worded", "8")["word"] == "word 8"


async def retried_without_those_taken_out(bridge: Bridge) -> None:
    """A letter of a target that is not in the file any more keeps nobody from the
    others."""
    bridge.execute("insert into item values (1010, 1, repeat('x', 33000))")
    await eventually(lambda: letters(bridge))
    without = dict.fromkeys(VIEWS, ("cache",))
    bridge.configure(VIEWS, options=OPTIONS, only=without)
    unwanted = "select count(*) from bridge.target where not wanted"
    await eventually(lambda: bridge.one(unwanted))
    code, out, err = await asyncio.to_thread(
        pgbridge, bridge.daemon.config, "dead-letters", "retry", "item", "--all"
    )
    assert code == 0, err
    assert "1 left" in out
    said = "select message from bridge.command where kind = 'retry' order by id desc"
    assert "1 of what is not kept up to date were not" in bridge.one(said)


FAILING = {
    "fair": 'query = "select id, name from item where 100 / n > 0"',
    "spread": 'query = "select part, sum(100 / n) as n from item group by part"',
    "asked": """query = '''
        select id, name::tsquery::text as q from item'''""",
}
SECRET = "canary & & 7"
"""No text of a search: Postgres quotes it, as an error of syntax."""
NULL = key_text((None,))
FAILED = {
    ("fair", "cache", "1", "derive"),
    ("spread", "cache", "1", "derive"),
    ("asked", "cache", "2", "derive"),
}


async def test_a_view_is_built_without_the_rows_for_which_it_fails(
    bridge: Bridge,
) -> None:
    """Wherever it fails, in a condition, beside a group without a key, by whatever
    error; and it goes on beside those that come later."""
    bridge.execute(
        "create table item (id int primary key, n int not null, name text, part int)",
        "insert into item select g, g, 'word', nullif(g % 5, 0)"
        " from generate_series(1, 50) g",
        "create unique index item_bridge on item (part, id)",
        "alter table item replica identity full",
        "update item set n = 0 where id = 1",
        f"update item set name = '{SECRET}' where id = 2",
    )
    bridge.configure(FAILING, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    told = await letters(bridge)
    assert set(told) == FAILED
    assert not any("canary" in each["reason"] for each in told.values())
    assert bridge.value("spread", NULL)["part"] is None
    bridge.execute(
        "update item set n = 0 where id = 12",
        f"update item set name = '{SECRET}' where id = 13",
        "update item set name = 'later' where id = 20",
    )

    async def more() -> bool:
        return len(await letters(bridge)) == len(FAILED) + 3

    await eventually(more)
    await eventually(lambda: bridge.value("asked", "20")["q"] == "'later'")
    assert "canary" not in bridge.daemon.log.read_text()
    bridge.execute("update item set n = id, name = 'word'")
    await bridge.settled()
    assert await letters(bridge) == {}
    await bridge.ends_exact()
