"""Whoever has written, and waited, reads what was written."""

from __future__ import annotations

import asyncio
import os
from typing import TypeAlias

import httpx
import psycopg
import pytest

from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.test_life import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

WRITES = int(os.environ.get("PGBRIDGE_TEST_WAITS", "100"))
WRITERS = 8
SEARCHES = 3
SMALL = 'query = "select id, name as label, n from item where id < 0"'
WAIT = "select bridge.wait_for(pg_current_wal_flush_lsn(), 'small', '60 s')"

Writer: TypeAlias = "psycopg.AsyncConnection[tuple[bool]]"


async def started(bridge: Bridge) -> None:
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"small": SMALL})
    bridge.daemon.start()
    await bridge.ready()


async def writer(bridge: Bridge) -> Writer:
    return await psycopg.AsyncConnection.connect(bridge.dsn, autocommit=True)


async def write(own: Writer, n: int) -> int:
    """Write a row of the view; its key."""
    key = -1 - n % (6 * WRITERS)  # no two of them write one key
    await own.execute(
        "insert into item (id, name, n) values (%s, 'own', %s)"
        " on conflict (id) do update set n = excluded.n",
        [key, n],
    )
    return key


async def waited(own: Writer) -> bool:
    row = await (await own.execute(WAIT)).fetchone()
    assert row is not None
    return row[0]


async def test_what_was_waited_for_is_read(bridge: Bridge, seed: int) -> None:
    """Write, wait, read, many times while others write: never the document before."""
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:

        async def writes(first: int) -> None:
            async with await writer(bridge) as own:
                for n in range(first, WRITES + 1, WRITERS):
                    key = await write(own, n)
                    assert await waited(own), n
                    found = await client.get(f"/{bridge.prefix}small/_doc/{key}")
                    assert found.json()["_source"]["n"] == n
                    assert bridge.value("small", str(key))["n"] == n

        await asyncio.gather(*(writes(n) for n in range(1, WRITERS + 1)))
    assert await traffic.stop() > 0
    await bridge.settled()
    await bridge.ends_exact()


async def test_open_transactions_hold_up_nobody_who_waits(bridge: Bridge) -> None:
    """One that only reads, one that has written; and log that no view is made of."""
    await started(bridge)
    bridge.execute("create table unread (id int)")
    async with (
        await psycopg.AsyncConnection.connect(bridge.dsn) as reads,
        await psycopg.AsyncConnection.connect(bridge.dsn) as writes,
        await writer(bridge) as own,
    ):
        await reads.execute("select from item")
        await writes.execute("insert into item (id, name, n) values (-99, 'open', 1)")
        for n in range(1, 11):
            key = await write(own, n)
            await writes.execute("update item set n = %s where id = -99", [n])
            await own.execute("insert into unread values (1)")
            assert await waited(own), n
            assert bridge.value("small", str(key))["n"] == n
        await writes.rollback()
    await bridge.ends_exact()


REFUSED = (
    ("begin; insert into item (id, n) values (-1, 1)", "before the commit"),
    ("begin isolation level repeatable read", "in a repeatable read transaction"),
    ("begin isolation level serializable", "in a serializable transaction"),
    ("begin; select set_config('test.view', 'nosuch', true)", "no view nosuch"),
)


async def test_waits_that_could_never_end_are_refused_or_time_out(
    bridge: Bridge,
) -> None:
    """And what a paused sink, or a target that has halted, has not got: false."""
    await started(bridge)
    wait = (
        "select bridge.wait_for(pg_current_wal_flush_lsn(),"
        " coalesce(current_setting('test.view', true), 'small'), '%s')"
    )
    for before, said in REFUSED:
        with psycopg.connect(bridge.dsn, autocommit=True) as own:
            own.execute(before)
            with pytest.raises(psycopg.Error, match=said):
                own.execute(wait % "60 s")
    assert bridge.one(wait % "60 s")
    bridge.execute("select bridge.pause('cache')")
    paused = "select paused from bridge.sink where name = 'cache'"
    await eventually(lambda: bridge.one(paused))
    bridge.execute("insert into item (id, name, n) values (-1, 'x', 1)")
    assert bridge.one(wait % "1 s") is False
    bridge.execute("select bridge.resume('cache')")
    assert bridge.one(wait % "60 s")
    bridge.execute("alter table item rename column name to title")
    halted = "select count(*) = 2 from bridge.status() where state = 'halted'"
    await eventually(lambda: bridge.one(halted))
    bridge.execute("update item set n = 7 where id = -1")
    assert bridge.one(wait % "1 s") is False
    bridge.execute("alter table item rename column title to name")
    assert bridge.one(wait % "60 s")
    assert bridge.value("small", "-1")["n"] == 7
    await bridge.ends_exact()


async def test_what_was_waited_for_is_found_by_a_search(
    bridge: Bridge, seed: int
) -> None:
    """`pgbridge wait --searchable`: a search finds the row just written."""
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    async with await writer(bridge) as own:
        for n in range(1, SEARCHES + 1):
            await write(own, n)
            code, told = await pgbridge(bridge, "wait", "--searchable")
            assert code == 0, told
            async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
                path = f"/{bridge.prefix}small/_search"
                answer = await client.get(path, params={"q": f"n:{n}"})
            assert answer.json()["hits"]["total"]["value"] == 1
    await traffic.stop()


async def test_a_search_that_is_away_is_waited_for(
    database: str, make_bridge: MakeBridge, es_url: str, proxy: MakeProxy
) -> None:
    """Until the timeout, which names it; and no longer than until it is back."""
    search = await proxy(es_url)
    bridge = make_bridge(database, es=search.url)
    await started(bridge)
    bridge.execute("insert into item (id, name, n) values (-1, 'own', 1)")
    for fault in (search.refuse, search.stall):
        await fault()
        command = ("wait", "--searchable", "--timeout", "2s")
        code, told = await pgbridge(bridge, *command)
        assert code == 3, told
        assert f"search/{bridge.prefix}small" in told
        await search.heal()
    code, told = await pgbridge(bridge, "wait", "--searchable")
    assert code == 0, told
    await bridge.ends_exact()


async def test_what_nobody_feeds_is_named(bridge: Bridge) -> None:
    """A view without targets is no reason to wait, one not taken up yet is; documents
    are judged only while a daemon runs."""
    await started(bridge)
    views = {"small": SMALL, "alone": SMALL}
    bridge.configure(views, only={"alone": []})
    bridge.execute("insert into item (id, name, n) values (-2, 'seen', 1)")
    code, told = await pgbridge(bridge, "wait")
    assert code == 0, told
    code, told = await pgbridge(bridge, "wait", "--view", "alone")
    assert (code, "alone has no targets" in told) == (2, True), told
    await bridge.ends_exact()
    bridge.execute("insert into item (id, name, n) values (-1, 'unseen', 1)")
    code, told = await pgbridge(bridge, "verify", "small")
    assert (code, "no daemon is running; the last was seen" in told) == (1, True), told
    bridge.configure(views | {"later": SMALL}, only={"alone": []})
    code, told = await pgbridge(bridge, "wait", "--view", "later", "--timeout", "0.1s")
    assert (code, "later (not taken up yet)" in told) == (3, True), told


async def test_an_emptied_table_is_waited_for_in_every_target(bridge: Bridge) -> None:
    """A TRUNCATE has no keys of its own: it is applied once the sweep has removed all
    documents, and in a paused sink it is not."""
    await started(bridge)
    bridge.execute("insert into item (id, name, n) values (-1, 'own', 1)")
    await bridge.settled()
    assert (await pgbridge(bridge, "pause", "cache"))[0] == 0
    bridge.execute("truncate item")
    code, told = await pgbridge(bridge, "wait", "--timeout", "3s")
    assert code == 3, told
    assert bridge.value("small", "-1") is not None
    assert (await pgbridge(bridge, "resume", "cache"))[0] == 0
    code, told = await pgbridge(bridge, "wait", "--timeout", "60s")
    assert code == 0, told
    assert bridge.value("small", "-1") is None
    assert await bridge.document("small", "-1") is None
