"""The server crashes, and takes back commits that were visible and not yet on disk.

What was derived from them stays in the sinks, at versions that the stream brings again;
and of a document to which only a lost commit had led, nothing in the stream tells.

Commits are asynchronous, and the writer of the log sleeps: what nobody else flushes
is in the memory of the server alone when it is stopped at once.
"""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from bridge.dev import PostgresServer
from tests.fixtures.private import MakePostgres
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import Differs, exact
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

SCHEMA = (
    "create table kind (id integer primary key, name text not null)",
    "create table item (id integer primary key, kind integer not null, n integer)",
    "create index on item (kind)",
    "insert into kind values (1, 'one'), (2, 'two')",
    "insert into item select g, 1, 0 from generate_series(1, 20) g",
    "insert into item values (100, 2, 0)",
)
VIEWS = {
    "item": 'query = "select i.id, i.n, k.name as kind from item i'
    ' join kind k on k.id = i.kind"'
}
ATTEMPTS = 8
"""Somebody may flush the log before the server is stopped: then nothing is lost."""


async def shows_what_is_lost(server: PostgresServer, bridge: Bridge, name: str) -> None:
    """A change of kind 2 finds item 7, which a commit that is not durable has moved
    there; the server is stopped as soon as a sink shows it."""
    server.alter_system(synchronous_standby_names="nosuch")
    query = "select current_setting('synchronous_standby_names')"
    await eventually(lambda: server.execute(query) == [("nosuch",)])
    streamed = await bridge.daemon.metric("pgbridge_changes_total")
    change = f"update kind set name = '{name}' where id = 2"
    try:
        async with bridge.committing(change):

            async def waits() -> bool:
                seen = await bridge.daemon.metric("pgbridge_changes_total")
                return seen > streamed

            await eventually(waits)
            with psycopg.connect(bridge.dsn, autocommit=True) as other:
                other.execute("set synchronous_commit = off")
                other.execute("update item set kind = 2, n = n + 1 where id = 7")
                other.execute("update item set n = n + 1 where id = 100")
            server.alter_system(synchronous_standby_names=None)
            await eventually(
                lambda: bridge.value("item", "7")["kind"] == name, every_s=0.005
            )
            server.stop("immediate")
    except psycopg.OperationalError:
        pass  # the one that waited for the standby


async def loses(
    server: PostgresServer, bridge: Bridge, *, killed: bool, mutant: str = ""
) -> None:
    """Commits are lost that a sink shows; it ends with what the source has, or Differs.

    `killed`: so is the daemon, before it has seen anything of it.
    """
    bridge.execute(*SCHEMA)
    bridge.configure(VIEWS)
    bridge.daemon.start(mutant=mutant)
    await bridge.ready()
    await bridge.settled()
    for attempt in range(ATTEMPTS):
        await shows_what_is_lost(server, bridge, f"name {attempt}")
        if killed:
            await bridge.daemon.kill()
        await asyncio.to_thread(server.start)
        if killed:
            bridge.daemon.start(mutant=mutant)
        if bridge.one("select kind from item where id = 7") == 1:
            break
        bridge.execute("update item set kind = 1 where id = 7")
        await bridge.ready()
        await bridge.settled()
    else:
        pytest.fail("everything was durable each time")
    await bridge.ready()
    bridge.execute("insert into item values (200, 1, 0)")
    await eventually(lambda: bridge.value("item", "200"))
    if mutant:
        await exact(bridge.daemon.config)  # it has come to rest, and stays wrong
    await bridge.settled()
    assert bridge.value("item", "7")["kind"] == "one"
    await bridge.ends_exact()


@pytest.mark.parametrize("version", [18, 15])
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
async def test_commits_that_a_sink_shows_are_lost(
    make_postgres: MakePostgres, make_bridge: MakeBridge, version: int, killed: bool
) -> None:
    server = make_postgres(version=version, settings={"wal_writer_delay": "10s"})
    await loses(server, make_bridge(server.dsn), killed=killed)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
async def test_without_doubt_documents_stay_wrong(
    make_postgres: MakePostgres, make_bridge: MakeBridge, killed: bool
) -> None:
    server = make_postgres(settings={"wal_writer_delay": "10s"})
    with pytest.raises(Differs):
        await loses(
            server, make_bridge(server.dsn), killed=killed, mutant="doubts-nothing"
        )
