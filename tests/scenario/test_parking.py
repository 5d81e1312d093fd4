"""A slow or dead sink harms only itself: the log is let go, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest

from tests.fixtures.http_faults import MakeHttpFaults, Request
from tests.fixtures.proxy import FaultProxy, MakeProxy
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

VIEWS = {
    "item": 'table = "item"',
    "small": 'query = "select id, name as label, n from item where n % 2 = 0"',
}
BUDGET = 4 << 20
SLACK = 24 << 20
"""A segment of the log is kept whole, and what is written until somebody looks."""


async def started(bridge: Bridge, *, daemon: str = "") -> Bridge:
    """With rows, and a budget that a few seconds of traffic exceed."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, source='wal_budget = "4MiB"', daemon=daemon)
    bridge.daemon.start()
    await bridge.ready()
    return bridge


def retained(bridge: Bridge) -> int:
    """Bytes of log that the slot holds back."""
    return int(
        bridge.one(
            "select pg_current_wal_lsn() - confirmed_flush_lsn"
            " from pg_replication_slots where slot_name = %s",
            bridge.slot,
        )
    )


def shown(bridge: Bridge, name: str, *states: str) -> Callable[[], Awaitable[bool]]:
    """Whether the sink is shown in one of these states."""

    async def look() -> bool:
        bridge.daemon.must_run()
        status = await bridge.daemon.status()
        return any(
            s["name"] == name and s["state"] in states for s in status.get("sinks", ())
        )

    return look


def durable(bridge: Bridge, name: str) -> str:
    """The state of a sink as it is written down."""
    return str(bridge.one("select state from bridge.sink where name = %s", name))


def is_parked(bridge: Bridge, name: str) -> bool:
    return durable(bridge, name) == "parked"


def moved(bridge: Bridge) -> bool:
    """Move the slot to the end of the log; False while somebody holds it still."""
    try:
        bridge.one(
            "select pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn())"
            f" from pg_replication_slots where slot_name = '{bridge.slot}'"
        )
    except psycopg.errors.ObjectInUse:
        return False
    return True


async def flood(bridge: Bridge, megabytes: int) -> None:
    """Changes of the same few rows, over and over."""
    for _ in range(megabytes):
        await write(bridge, "update item set n = n + 1, note = repeat('x', 2000) || n")


async def write(bridge: Bridge, statement: str) -> None:
    """As often as it takes: the traffic, which goes on, locks rows in other orders."""
    while True:
        try:
            await asyncio.to_thread(bridge.execute, statement)
        except psycopg.errors.DeadlockDetected:
            continue
        return


async def current(bridge: Bridge, mark: int) -> None:
    """Redis shows a row written now."""
    await write(
        bridge,
        f"insert into item (id, name, n) values (-{mark}, 'm', 2)"
        " on conflict (id) do update set n = item.n + 2",
    )
    await eventually(lambda: bridge.value("item", f"-{mark}"))


@asynccontextmanager
async def parked(bridge: Bridge) -> AsyncIterator[None]:
    """Write until `search` is parked, and see that the log is let go."""
    async with asyncio.timeout(90):
        while not await shown(bridge, "search", "parked")():
            await flood(bridge, 2)
            await current(bridge, 1)
    await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    yield


@pytest.fixture
async def away(
    database: str, make_bridge: MakeBridge, proxy: MakeProxy, es_url: str
) -> tuple[Bridge, FaultProxy]:
    """A bridge whose Elasticsearch is behind a proxy."""
    between = await proxy(es_url)
    return await started(make_bridge(database, es=between.url)), between


async def test_the_log_is_let_go_while_a_sink_is_away(
    away: tuple[Bridge, FaultProxy], seed: int
) -> None:
    """Redis stays current, and a daemon killed while parked has lost nothing."""
    bridge, between = away
    traffic = Traffic(bridge.dsn, seed)
    await between.refuse()
    async with parked(bridge):
        for mark in range(2, 5):
            await flood(bridge, 4)
            await current(bridge, mark)
            await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    assert durable(bridge, "search") == "parked"
    await bridge.daemon.kill()
    await write(bridge, "delete from item where id % 7 = 0")
    bridge.daemon.start()
    await eventually(shown(bridge, "search", "parked"))
    await flood(bridge, 4)
    await current(bridge, 9)
    await write(bridge, "delete from item where id % 5 = 0")
    await traffic.stop()
    await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    await between.heal()
    await eventually(shown(bridge, "search", "ok"))
    assert bridge.one("select count(*) from bridge.owed_key") == 0
    assert "lost documents" not in bridge.daemon.log.read_text()
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.slow
async def test_a_kill_between_any_two_steps_of_parking(
    away: tuple[Bridge, FaultProxy], seed: int
) -> None:
    """Parked, recorded, paid: each step is found done, or is done again."""
    bridge, between = away
    await bridge.daemon.stop()
    for probe in ("parking.parked", "parking.recorded", "parking.paid"):
        await between.refuse()
        bridge.daemon.start(kill_at=probe)
        traffic = Traffic(bridge.dsn, seed)
        writing = asyncio.create_task(flood(bridge, 30))
        if probe == "parking.paid":
            await eventually(shown(bridge, "search", "parked"))
            await between.heal()
        assert await bridge.daemon.ended() == -9, probe
        await writing
        await traffic.stop()
    await between.heal()
    bridge.daemon.start()
    await bridge.settled()
    await eventually(shown(bridge, "search", "ok"))
    assert "lost documents" not in bridge.daemon.log.read_text()
    await bridge.ends_exact()


async def test_a_paused_sink_is_parked_beyond_the_budget(
    bridge: Bridge, seed: int
) -> None:
    """It is shown as paused, survives a restart so, and catches up on `resume`."""
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    bridge.one("select bridge.pause('search')")
    await eventually(shown(bridge, "search", "paused"))
    await flood(bridge, 30)
    await eventually(partial(is_parked, bridge, "search"))
    assert await shown(bridge, "search", "paused")()
    await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    await bridge.daemon.kill()
    bridge.daemon.start()
    await eventually(shown(bridge, "search", "paused"))
    await write(bridge, "truncate item")
    await current(bridge, 2)
    await traffic.stop()
    bridge.one("select bridge.resume('search')")
    await eventually(shown(bridge, "search", "ok"))
    await bridge.settled()
    await bridge.ends_exact()


async def test_more_is_owed_than_can_be_kept(
    away: tuple[Bridge, FaultProxy], seed: int
) -> None:
    """Every key is derived again, and what is gone meanwhile is removed."""
    bridge, between = away
    await bridge.daemon.stop()
    bridge.daemon.start(mutant="few-owed-keys")
    await bridge.ready()
    await between.refuse()
    traffic = Traffic(bridge.dsn, seed)
    async with parked(bridge):
        await write(
            bridge,
            "insert into item (id, name, n) select g, 'new', g"
            " from generate_series(2001, 6000) g",
        )
    swept = "select count(*) from bridge.generation where sweep and sink = 'search'"
    await eventually(lambda: bridge.one(swept))
    await write(bridge, "delete from item where id % 3 = 0")
    await bridge.daemon.kill()
    bridge.daemon.start(mutant="few-owed-keys")
    await eventually(shown(bridge, "search", "parked"))
    await between.heal()
    await flood(bridge, 2)
    await traffic.stop()
    await eventually(shown(bridge, "search", "ok"))
    assert bridge.one(swept) == 0
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_slow_sink_is_not_a_dead_one(
    away: tuple[Bridge, FaultProxy], seed: int
) -> None:
    """It takes what it can, the log is let go, and in the end it holds everything."""
    bridge, between = away
    traffic = Traffic(bridge.dsn, seed)
    await between.slow(30_000)
    for mark in range(1, 4):
        await flood(bridge, 4)
        await current(bridge, mark)
    await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    await traffic.stop()
    await between.heal()
    await bridge.settled()
    await eventually(shown(bridge, "search", "ok"))
    await bridge.ends_exact()


def tenth_each(request: Request) -> float:
    """What a server needs that takes ten documents a second."""
    if not request.path.partition("?")[0].endswith("_bulk"):
        return 0.0
    return request.body.count(b'{"index":') / 10


@pytest.mark.slow
async def test_ten_documents_a_second_are_taken_as_they_can_be(
    database: str, make_bridge: MakeBridge, es_url: str, http_faults: MakeHttpFaults
) -> None:
    """Though all that waits is more than it takes before a request is given up: writes
    become small enough. The other sink does not notice."""
    search = await http_faults(es_url)
    bridge = make_bridge(database, es=search.url)
    bridge.execute(
        "create table item (id integer primary key, n integer not null)",
        "insert into item select g, 0 from generate_series(1, 80) g",
    )
    options = {"search": 'request_timeout = "1s"'}
    bridge.configure({"item": 'table = "item"'}, options=options)
    bridge.daemon.start()
    await bridge.ready()
    search.takes_s = tenth_each
    async with search.works:
        bridge.execute("update item set n = 1", "update item set n = 2 where id = 80")
        await eventually(lambda: bridge.value("item", "80")["n"] == 2)
        await eventually(shown(bridge, "search", "down"))
        found = await bridge.document("item", "80")
        assert found is not None and found.source["n"] == 0
    await bridge.settled()
    await eventually(shown(bridge, "search", "ok"))
    await bridge.ends_exact()


@pytest.mark.slow
async def test_a_slot_that_is_moved_while_all_sinks_are_parked_is_noticed(
    bridge: Bridge, seed: int
) -> None:
    """Nothing of what it was moved past is recorded as owed, nor comes in a stream."""
    await started(bridge)
    traffic = Traffic(bridge.dsn, seed)
    for sink in ("search", "cache"):
        bridge.one(f"select bridge.pause('{sink}')")
        await eventually(shown(bridge, sink, "paused"))
    await flood(bridge, 30)
    for sink in ("search", "cache"):
        await eventually(partial(is_parked, bridge, sink))
    await eventually(lambda: retained(bridge) < BUDGET + SLACK)
    await traffic.stop()
    await bridge.daemon.kill()
    bridge.execute("update item set n = n + 1", "delete from item where id % 7 = 0")
    await eventually(lambda: moved(bridge))
    bridge.daemon.start()
    for sink in ("search", "cache"):
        await eventually(shown(bridge, sink, "paused"))
        bridge.one(f"select bridge.resume('{sink}')")
    for sink in ("search", "cache"):
        await eventually(shown(bridge, sink, "ok"))
    await bridge.settled()
    await bridge.ends_exact()
