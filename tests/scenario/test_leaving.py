"""What is left when the daemon has ended, and when the bridge is taken away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from bridge.cli import call
from bridge.dev.postgres import create_database
from tests.fixtures.servers import PostgresAddress
from tests.scenario import harness
from tests.scenario.world import ROLE, Bridge

pytestmark = pytest.mark.scenario

ITEMS = (
    "create table item (id int primary key, name text)",
    "insert into item select g, 'item ' || g from generate_series(1, 50) g",
)


def pgbridge(bridge: Bridge, *arguments: str) -> tuple[int, str, str]:
    return harness.pgbridge(bridge.daemon.config, *arguments)


def status(bridge: Bridge) -> Any:
    code, out, err = pgbridge(bridge, "status", "--json")
    assert code == 0, err
    return json.loads(out)


def test_after_once_status_tells_what_is_there(bridge: Bridge) -> None:
    """Documents are counted and the lag is none, also of what changed since."""
    bridge.execute(*ITEMS)
    bridge.configure({"item": 'table = "item"'})
    for count in (50, 90, 130):
        code, _, err = pgbridge(bridge, "run", "--once")
        assert code == 0, err
        for target in status(bridge)["targets"]:
            assert target["state"] == "live"
            assert target["documents"] == count, target
            assert target["lag_seconds"] == 0, target
        bridge.execute(
            f"insert into item select g + {count}, 'more' from generate_series(1, 40) g"
        )


COMMANDS = (
    "wait",
    "pause cache",
    "resume cache",
    "backfill item",
    "promote item",
    "rollback item",
    "verify item",
    "dead-letters list",
    "dead-letters retry --all",
)


def test_before_the_first_run_a_command_says_so(
    bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its own words, and installs nothing."""
    bridge.execute(*ITEMS)
    bridge.configure({"item": 'table = "item"'}, sinks=["cache"])
    for command in COMMANDS:
        code = call([*command.split(), "-c", str(bridge.daemon.config)])
        told = capsys.readouterr()
        assert (code, told.out) == (1, ""), command
        assert "relation" not in told.err, command
        assert "pgbridge run" in told.err, command
    assert bridge.one("select to_regnamespace('bridge')") is None


def test_dropped_with_its_targets_nothing_is_left(bridge: Bridge) -> None:
    """Not a key, not an index: another bridge may have the place."""
    bridge.execute(*ITEMS)
    bridge.configure({"item": 'table = "item"'})
    assert pgbridge(bridge, "run", "--once")[0] == 0
    with redis.Redis.from_url(bridge.redis) as cache:
        assert cache.exists("pgbridge:owner", "pgbridge:cache:mark") == 2
        code, out, err = pgbridge(bridge, "drop", "--targets", "--yes")
        assert code == 0, err
        assert f"slot {bridge.slot} is dropped" in out
        assert cache.keys("*") == []
    with httpx.Client(base_url=bridge.es, trust_env=False) as client:
        assert client.get(f"/_resolve/index/{bridge.prefix}*").json()["indices"] == []
    slots = "select count(*) from pg_replication_slots where slot_name = %s"
    assert bridge.one(slots, bridge.slot) == 0
    assert bridge.one("select count(*) from pg_publication") == 0
    assert bridge.one("select to_regnamespace('bridge')") is None


async def test_what_another_bridge_has_built_is_not_dropped(
    bridge: Bridge, postgres: PostgresAddress, tmp_path: Path
) -> None:
    """One whose targets have names that are taken halts; what it drops is its own."""
    dsn = create_database(postgres.dsn, f"{bridge.slot}_other")
    (tmp_path / "other").mkdir()
    other = Bridge(tmp_path / "other", dsn, bridge.es, bridge.redis, bridge.prefix)
    other.slot = f"{bridge.slot}_other"
    for one in (bridge, other):
        one.execute(*ITEMS)
        one.configure({"item": 'table = "item"'})
    assert pgbridge(bridge, "run", "--once")[0] == 0
    assert pgbridge(other, "run", "--once")[0] == 4
    other.configure({"item": 'table = "item"'}, sinks=["cache"])
    for command in ("apply --prune", "drop --targets --yes"):
        code, out, err = pgbridge(other, *command.split())
        assert "another" not in out
        assert code == (1 if command.startswith("apply") else 0), err
        await harness.exact(bridge.daemon.config)


@pytest.mark.parametrize(
    ("here", "made"),
    [
        (False, "logical_replication_slot(%s, 'pgoutput')"),
        (True, "logical_replication_slot(%s, 'test_decoding')"),
        (True, "physical_replication_slot(%s)"),
    ],
    ids=["elsewhere", "decoded", "physical"],
)
def test_a_slot_of_that_name_that_is_anothers_is_left_as_it_is(
    bridge: Bridge, postgres: PostgresAddress, here: bool, made: str
) -> None:
    """Names of slots are the server's: the file's may be somebody else's."""
    bridge.execute(*ITEMS)
    bridge.configure({"item": 'table = "item"'}, sinks=["cache"])
    where = bridge.dsn if here else postgres.dsn
    with psycopg.connect(where, autocommit=True) as other:
        other.execute(f"select pg_create_{made}".encode(), [bridge.slot])
        try:
            for command in ("apply", "run --once"):
                code, out, err = pgbridge(bridge, *command.split())
                assert code in (1, 4), command
                assert not out
                error, hint = err.splitlines()[-2:]
                assert bridge.slot in error
                assert hint == "help: choose another source.slot; it is left as it is"
            assert bridge.one("select to_regnamespace('bridge')") is None
            bridge.execute(
                f"create publication {bridge.slot}",
                f"alter publication {bridge.slot} owner to {ROLE}",
            )
            code, out, err = pgbridge(bridge, "drop", "--yes")
            assert code == 0, err
            assert f"slot {bridge.slot} stays" in out
            assert bridge.one("select count(*) from pg_publication") == 0
            left = other.execute(
                "select count(*) from pg_replication_slots where slot_name = %s",
                [bridge.slot],
            ).fetchone()
            assert left == (1,)
        finally:
            other.execute("select pg_drop_replication_slot(%s)", [bridge.slot])
