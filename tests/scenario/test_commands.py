"""Who may ask the daemon for what; and messages of those who may not do no harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

CALLS = (
    "bridge.backfill('item')",
    "bridge.promote('item')",
    "bridge.rollback('item')",
    "bridge.pause('cache')",
    "bridge.resume('cache')",
    "bridge.cancel(1)",
    "bridge.retry('item')",
    "bridge.status()",
    "bridge.issue_v1('pause', '{\"sink\": \"cache\"}')",
)
FORGED = (
    "command:1",
    "command:2",
    "command:999999",
    "command:99999999999999999999",
    "command:-1",
    "command:",
    "marker:00000000-0000-0000-0000-000000000000",
    "wait",
    "",
    "{}",
)
GARBAGE = "'\\xff00fe80'::bytea || decode(md5('7'), 'hex')"
HUGE_BYTES = 30_000_000


@contextmanager
def role(bridge: Bridge) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"r_{bridge.prefix.strip('-')}"
    bridge.execute(f"create role {name} login")
    try:
        yield name
    finally:
        bridge.execute(f"drop owned by {name}", f"drop role {name}")


async def started(bridge: Bridge) -> None:
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"item": 'table = "item"'})
    bridge.daemon.start()
    await bridge.ready()


def commands(bridge: Bridge) -> list[object]:
    """Kind, issuer and outcome of every command, in order."""
    query = (
        "select coalesce(array_agg(array[kind, issued_by, state] order by id), '{}')"
        " from bridge.command"
    )
    return list(bridge.one(query))


async def test_messages_of_a_stranger_do_no_harm(bridge: Bridge) -> None:
    """Forged, garbage, huge, thousands at once; within transactions and outside."""
    await started(bridge)
    with role(bridge) as name:
        dsn = make_conninfo(bridge.dsn, user=name)
        with psycopg.connect(dsn, autocommit=True) as stranger:
            for call in CALLS:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    stranger.execute(f"select {call}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.execute("select from bridge.command")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.execute(
                    "insert into bridge.command (kind, arguments)"
                    " values ('pause', '{\"sink\": \"cache\"}')"
                )
            emit = "select pg_logical_emit_message(%s, 'pgbridge', "
            for transactional in (True, False):
                for content in FORGED:
                    stranger.execute(f"{emit}%s)", [transactional, content])
                stranger.execute(f"{emit}{GARBAGE})", [transactional])
                stranger.execute(f"{emit}repeat('x', {HUGE_BYTES}))", [transactional])
                stranger.execute(
                    "select count(pg_logical_emit_message(%s, 'pgbridge',"
                    " 'command:' || g)) from generate_series(1, 30000) g",
                    [transactional],
                )
    bridge.execute("update item set name = 'after' where id = 1")
    await bridge.settled()
    assert commands(bridge) == []
    status = await bridge.daemon.status()
    assert {sink["state"] for sink in status["sinks"]} == {"ok"}
    assert bridge.daemon.resident_bytes_max() < 400 << 20
    await bridge.ends_exact()


async def test_who_may_is_told_and_named(bridge: Bridge) -> None:
    """By grant alone; with its place in the log, who issued it, and how it ended."""
    await started(bridge)
    with role(bridge) as name:
        bridge.execute(
            f"grant execute on function bridge.pause, bridge.resume to {name}"
        )
        with psycopg.connect(make_conninfo(bridge.dsn, user=name)) as granted:
            granted.execute("select bridge.pause('cache')")
            granted.rollback()  # was never asked for
            granted.execute("select bridge.pause('cache')")
            granted.commit()
        paused = "select paused from bridge.sink where name = 'cache'"
        await eventually(lambda: bridge.one(paused))
        assert not bridge.one("select paused from bridge.sink where name = 'search'")
        await eventually(lambda: commands(bridge) == [["pause", name, "done"]])
        told = bridge.one(
            "select message from bridge.command where finished_at >= issued_at"
        )
        assert told == "sink cache is paused"
        _, shown, _ = pgbridge(bridge.daemon.config, "status", "--json")
        (command,) = json.loads(shown)["commands"]
        assert (command["kind"], command["by"]) == ("pause", name)
        assert (command["state"], command["message"]) == ("done", told)
        with psycopg.connect(make_conninfo(bridge.dsn, user=name)) as granted:
            granted.execute("select bridge.resume('cache')")
        await eventually(lambda: not bridge.one(paused))
    await bridge.settled()
    await bridge.ends_exact()


async def test_an_edit_of_the_file_is_a_command(bridge: Bridge) -> None:
    """Noted with its place and outcome; one made while another is taken up is not
    missed, though nobody watched the file then."""
    await started(bridge)
    views = {"item": 'table = "item"'}
    for name in ("name", "n"):
        views[name] = f'query = "select id, {name} from item"'
    bridge.configure(views)
    await eventually(lambda: bridge.one("select count(*) > 0 from bridge.command"))
    del views["name"]
    bridge.configure(views)

    async def edited_twice() -> bool:
        bridge.daemon.must_run()
        targets = (await bridge.daemon.status()).get("targets") or []
        return {t["view"] for t in targets} == views.keys() and all(
            t["state"] == "live" for t in targets
        )

    await eventually(edited_twice)
    kinds = [found[0] for found in commands(bridge)]
    assert set(kinds) == {"configure"}
    assert len(kinds) >= 2
    outcomes = "select array_agg(distinct state) from bridge.command"
    await eventually(lambda: bridge.one(outcomes) == ["done"])
    await bridge.ends_exact()


async def test_what_a_command_waits_for_is_told(bridge: Bridge) -> None:
    """By whoever issued it, and in the status: what has to happen for it to go on."""
    bridge.execute(*SCHEMA.split(";"))
    key = 'key = "item:{generation}:{id}"'
    bridge.configure({"item": 'table = "item"'}, options={"item/cache": key})
    bridge.daemon.start()
    await bridge.ready()
    rebuilt = bridge.one("select bridge.backfill('item', rebuild => true)")
    done = "select finished_at is not null from bridge.command where id = %s"
    await eventually(lambda: bridge.one(done, rebuilt))
    paused = bridge.one("select bridge.pause('cache')")
    await eventually(lambda: bridge.one(done, paused))
    bridge.execute("update item set name = 'owed to the cache' where id = 1")

    waits = "waits, since sink cache is paused; `pgbridge resume cache` lets it go on"
    config = bridge.daemon.config
    rollback = asyncio.to_thread(pgbridge, config, "rollback", "item")
    follower = asyncio.create_task(rollback)
    told = "select message from bridge.command where kind = 'rollback'"
    await eventually(lambda: bridge.one(told) == waits)
    live = "select number from bridge.generation where state = 'live' and sink = %s"
    await eventually(lambda: bridge.one(live, "search") == 1)  # which has no reason to
    assert bridge.one(live, "cache") == 2
    _, shown, _ = pgbridge(config, "status")
    assert f"is running: {waits}" in " ".join(shown.split())
    kept = bridge.one("select bridge.backfill('item', 'cache', array['1'])")
    again = bridge.one("select bridge.backfill('item', 'cache', rebuild => true)")
    told = "select message from bridge.command where id = %s"
    for command in (kept, again):
        await eventually(lambda c=command: bridge.one(told, c) == waits)  # type: ignore[misc]

    bridge.execute("select bridge.resume('cache')")
    code, out, err = await follower
    assert (code, out.count("is live")) == (0, 2), err
    assert waits in " ".join(err.split())
    for command in (kept, again):
        await eventually(lambda c=command: bridge.one(done, c))  # type: ignore[misc]
        assert "waits" not in bridge.one(told, command)
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_paused_sink_holds_up_no_other(bridge: Bridge) -> None:
    """What was asked of both is done in the one: an edit after it goes on there, and is
    not undone when the rest of it is carried out again after a kill."""
    bridge.execute(*SCHEMA.split(";"))
    key = {"item/cache": 'key = "item:{generation}:{id}"'}
    bridge.configure({"item": 'table = "item"'}, options=key)
    bridge.daemon.start()
    await bridge.ready()
    done = "select finished_at is not null from bridge.command where id = %s"
    for command in ("backfill('item', rebuild => true)", "pause('cache')"):
        issued = bridge.one(f"select bridge.{command}")
        await eventually(lambda i=issued: bridge.one(done, i))  # type: ignore[misc]
    bridge.execute("update item set name = 'owed to the cache' where id = 1")
    rollback = bridge.one("select bridge.rollback('item')")
    live = "select number from bridge.generation where state = 'live' and sink = %s"
    await eventually(lambda: bridge.one(live, "search") == 1)
    bridge.configure({"item": 'query = "select id, n from item"'}, options=key)
    await eventually(lambda: bridge.one(live, "search") == 3)
    assert bridge.one(live, "cache") == 2
    await bridge.daemon.kill()
    bridge.daemon.start()
    message = "select message from bridge.command where id = %s"
    await eventually(lambda: "waits" in bridge.one(message, rollback))
    await eventually(bridge.daemon.status)
    assert bridge.one(live, "search") == 3
    bridge.execute("select bridge.resume('cache')")
    await eventually(lambda: bridge.one(done, rollback))
    await bridge.ready()
    assert (bridge.one(live, "search"), bridge.one(live, "cache")) == (3, 3)
    await bridge.settled()
    await bridge.ends_exact()
