"""The server crashes, and takes back commits that were visible and not yet on disk.

A walsender sends only what is on disk, so the stream never brings such a commit; but
a snapshot shows it, and documents are read in snapshots. What was derived from it
stays in the sinks, and a document to which only that commit had led is not found again.

The one thing to know: commits are asynchronous, the writer of the log sleeps, and the
daemon is held where it has written and does not know it yet, so that nobody flushes.
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
ATTEMPTS = 20
"""Somebody may flush the log before the server is stopped: then nothing is lost."""


class Held:
    """Stops the daemon once at a probe, until let go."""

    def __init__(self, bridge: Bridge) -> None:
        self._armed = bridge.directory / "armed"
        self._reached = bridge.directory / "reached"

    def at(self, probe: str) -> None:
        """The next time that it comes there. What was held before goes on."""
        written = self._armed.with_suffix(".new")
        written.write_text(probe)
        written.rename(self._armed)
        self.let_go()

    async def reached(self) -> None:
        """Wait until it is there."""
        await eventually(self._reached.exists, every_s=0.005)

    def let_go(self) -> None:
        """It goes on."""
        self._reached.unlink(missing_ok=True)


async def shows_what_is_lost(server: PostgresServer, bridge: Bridge, name: str) -> bool:
    """A change of kind 2 finds item 7, which a commit that is not on disk has moved
    there. The server is stopped as soon as a sink shows it; False: it is on disk."""
    held = Held(bridge)
    held.at("capture.batch")
    bridge.execute(f"update kind set name = '{name}' where id = 2")
    await held.reached()
    with psycopg.connect(bridge.dsn, autocommit=True) as other:
        other.execute("set synchronous_commit = off")
        other.execute("update item set kind = 2, n = n + 1 where id = 7")
        lost = other.execute("select pg_current_wal_insert_lsn()").fetchone()
        held.at("deliver.kept")
        await eventually(
            lambda: bridge.value("item", "7")["kind"] == name, every_s=0.005
        )
        on_disk = "select pg_current_wal_flush_lsn() >= %s"
        if other.execute(on_disk, lost).fetchone() == (True,):
            held.let_go()
            return False
    await asyncio.to_thread(server.stop, "immediate")
    return True


async def loses(
    server: PostgresServer, bridge: Bridge, *, killed: bool, mutant: str = ""
) -> None:
    """Commits are lost that a sink shows; it ends with what the source has, or Differs.

    `killed`: so is the daemon, before it has seen anything of it.
    """
    bridge.execute(*SCHEMA)
    bridge.configure(VIEWS, sinks=("cache",))
    bridge.daemon.start(mutant=mutant, hold=bridge.directory)
    await bridge.ready()
    await bridge.settled()
    for attempt in range(ATTEMPTS):
        if await shows_what_is_lost(server, bridge, f"name {attempt}"):
            if killed:
                await bridge.daemon.kill()
            Held(bridge).let_go()
            await asyncio.to_thread(server.start)
            if killed:
                bridge.daemon.start(mutant=mutant, hold=bridge.directory)
            if bridge.one("select kind from item where id = 7") == 1:
                break  # else somebody has flushed the log in the last moment
        await bridge.ready()
        await bridge.settled()
        bridge.execute("update item set kind = 1 where id = 7")
        await bridge.settled()
    else:
        pytest.fail("everything was on disk each time")
    await bridge.ready()
    bridge.execute("insert into item values (200, 1, 0)")
    await eventually(lambda: bridge.value("item", "200"))
    if mutant:
        await exact(bridge.daemon.config)  # it has come to rest, and stays wrong
    await bridge.settled()
    assert bridge.value("item", "7")["kind"] == "one"
    await bridge.ends_exact()


@pytest.mark.parametrize(
    "version", [18, pytest.param(15, marks=pytest.mark.slow)], ids=["18", "15"]
)
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
