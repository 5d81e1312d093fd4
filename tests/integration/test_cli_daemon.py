"""The command line beside a running daemon: what it is asked to do, it does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from tests.fixtures.forkserver import forkserver
from tests.fixtures.waiting import DEADLINE_S, eventually


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds."""
    asyncio.run(eventually(condition, what=what))


@dataclass
class Bridge:
    """A configuration, and the command line run as a user does."""

    dsn: str
    path: Path
    redis_url: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from bridge.cli import main; main()", *arguments],
            env=os.environ | {"PGBRIDGE_CONFIG": str(self.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        environment = os.environ | {"PGBRIDGE_CONFIG": str(self.path)}
        exit_code, out, err = forkserver().run(arguments, environment, DEADLINE_S)
        assert exit_code == code, out + err
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def cached(self, key: str) -> Any:
        with redis.Redis.from_url(self.redis_url) as client:
            value = client.get(key)
        return None if value is None else json.loads(value)  # type: ignore[arg-type]


@pytest.fixture
def bridge(database: str, redis_url: str, tmp_path: Path) -> Iterator[Bridge]:
    path = tmp_path / "pgbridge.toml"
    path.write_text(
        f"""
[source]
dsn = "{database}"
slot = "t_{secrets.token_hex(6)}"
[daemon]
http = "127.0.0.1:0"
[sinks.cache]
type = "redis"
url = "{redis_url}"
[views.product]
table = "product"
[[views.product.targets]]
sink = "cache"
key = "p{{generation}}:{{id}}"
"""
    )
    made = Bridge(database, path, redis_url)
    made.execute("create table product (id int primary key, title text)")
    made.execute("insert into product select i, 'p' || i from generate_series(1, 9) i")
    yield made
    made("drop", "--yes", "--targets")


@pytest.fixture
def daemon(bridge: Bridge) -> Iterator[subprocess.Popen[str]]:
    process = bridge.start("run")
    until(lambda: _is_live(bridge), what="the target is live")
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert "Traceback" not in err


def _is_live(bridge: Bridge) -> bool:
    with psycopg.connect(bridge.dsn, autocommit=True) as connection:
        try:
            rows = connection.execute("select state from bridge.status()").fetchall()
        except psycopg.errors.Error:  # nothing is installed yet
            return False
    return rows == [("live",)]


def _is_streaming(bridge: Bridge) -> bool:
    return bool(bridge.json("status")["source"]["state"] == "streaming")


def _daemons(bridge: Bridge) -> int:
    """How many hold the lease, or stand by for it."""
    query = """select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'pgbridge lease'"""
    with psycopg.connect(bridge.dsn, autocommit=True) as connection:
        (count,) = connection.execute(query).fetchone() or (0,)
        return int(count)


def test_once_builds_promotes_and_stops(bridge: Bridge) -> None:
    bridge("run", "--once")
    (target,) = bridge.json("status")["targets"]
    assert (target["state"], target["generation"]) == ("live", 1)
    assert target["documents"] == 9
    assert bridge.cached("p1:3") == {"id": 3, "title": "p3"}
    bridge("plan")
    bridge("run", "--once")
    assert bridge.cached("p1:3") == {"id": 3, "title": "p3"}


@pytest.mark.usefixtures("daemon")
def test_wait_is_read_your_writes(bridge: Bridge) -> None:
    for round_ in range(3):
        bridge.execute(f"update product set title = 'round {round_}' where id = 3")
        assert "is kept" in bridge("wait", "--view", "product", "--timeout", "30s")
        assert bridge.cached("p1:3") == {"id": 3, "title": f"round {round_}"}
    assert bridge.json("explain", "product", "3")["targets"][0]["same"] is True
    # A position of another history says nothing of this one.
    assert "is kept" in bridge("wait", "--lsn", "1:0/1")
    bridge("wait", "--lsn", "9:0/1", code=2)


def test_another_target_of_a_view_is_waited_for_until_it_is_taken_up(
    bridge: Bridge,
) -> None:
    bridge("run", "--once")
    more = '[[views.product.targets]]\nsink = "cache"\nname = "again"\n'
    bridge.path.write_text(bridge.path.read_text() + more)
    process = bridge.start("wait", "--lsn", "0/1", "--timeout", "100ms")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, "cache/again (not taken up yet)" in err) == (3, True)
    bridge("run", "--once")
    bridge("wait", "--lsn", "0/1")
    assert bridge.cached("again:7") == {"id": 7, "title": "p7"}


@pytest.mark.usefixtures("daemon")
def test_a_paused_sink_is_named_by_wait_and_goes_on_when_resumed(
    bridge: Bridge,
) -> None:
    bridge("pause", "cache")
    assert bridge.json("status")["sinks"][0]["state"] == "paused"
    # Also where nothing has changed since: who waits is told.
    for statement in ("", "update product set title = 'late' where id = 4"):
        if statement:
            bridge.execute(statement)
        process = bridge.start("wait", "--timeout", "1s")
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 3
        assert "cache/product (paused)" in err
    bridge("resume", "cache")
    bridge("wait", "--timeout", "30s")
    assert bridge.cached("p1:4") == {"id": 4, "title": "late"}


@pytest.mark.usefixtures("daemon")
def test_rebuild_promote_and_rollback(bridge: Bridge) -> None:
    assert "9 documents" in bridge("backfill", "product")
    assert "2 documents" in bridge("backfill", "product", "--where", "id < 3")
    assert "cache/product g2" in bridge("backfill", "product", "--rebuild")
    (target,) = bridge.json("status")["targets"]
    assert (target["generation"], target["previous"]) == (2, 1)
    bridge("rollback", "product")
    (target,) = bridge.json("status")["targets"]
    assert (target["generation"], target["previous"]) == (1, 2)
    # Nothing is being built that could be promoted.
    bridge("promote", "product", code=2)


@pytest.mark.usefixtures("daemon")
def test_verify_finds_what_somebody_else_wrote_and_repairs_it(bridge: Bridge) -> None:
    with redis.Redis.from_url(bridge.redis_url) as client:
        client.set("p1:1", '{"id": 1, "title": "wrong"}')
        client.delete("p1:2")
    process = bridge.start("verify", "product", "--json")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, err
    (found,) = json.loads(out)["targets"]
    assert found["missing"] == ["2"]
    assert found["different"] == [{"key": "1", "fields": ["title"]}]
    assert found["extra"] == []
    assert "written again" in bridge("verify", "product", "--repair")
    assert "no differences in 9" in bridge("verify", "product")
    assert "no differences in 4" in bridge("verify", "product", "--sample", "4")
    assert bridge.cached("p1:2") == {"id": 2, "title": "p2"}


@pytest.mark.usefixtures("daemon")
def test_what_a_sink_refuses_again_is_not_called_repaired(bridge: Bridge) -> None:
    with redis.Redis.from_url(bridge.redis_url) as client:
        client.set("p1:1", '{"id": 1, "title": "wrong"}')
        client.delete("p1:2", "pgbridge:v:product:g1:2")
        client.lpush("p1:2", "of another type")
        process = bridge.start("verify", "product", "--repair", "--json")
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1, err
        (found,) = json.loads(out)["targets"]
        assert (found["missing"], found["repaired"]) == (["2"], 1)
        told = bridge("verify", "product", "--repair", code=1)
        assert "1 of 9 differ still: `pgbridge dead-letters list product`" in told
        assert "written again" not in told
        client.delete("p1:2")
    assert "1 of 9 differed and were written" in bridge("verify", "product", "--repair")
    assert "no differences in 9" in bridge("verify", "product")


def test_drop_is_refused_while_a_daemon_runs_and_sigterm_ends_it_with_0(
    bridge: Bridge, daemon: subprocess.Popen[str]
) -> None:
    process = bridge.start("drop", "--yes")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "daemon is running" in err
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=DEADLINE_S)
    assert daemon.returncode == 0
    assert bridge.json("status")["source"]["state"] == "stopped"


def test_all_letters_of_a_view_are_tried_again_however_many_there_are(
    bridge: Bridge,
) -> None:
    """Beside as many of another view; one that is refused again is tried once."""
    more = '[views.article]\ntable = "product"\n[[views.article.targets]]\n'
    bridge.path.write_text(f'{bridge.path.read_text()}{more}sink = "cache"\n')
    bridge("run", "--once")
    bridge.execute(
        "insert into bridge.dead_letter (sink, name, number, key, view, parts, stage,"
        " reason, version) select 'cache', v, 1, g, v, array[g::text], 'deliver', 'no',"
        " 1 from unnest(array['article', 'product']) v, generate_series(1, 10005) g"
    )
    process = bridge.start("run")
    try:
        with redis.Redis.from_url(bridge.redis_url) as client:
            client.delete("p1:2", "pgbridge:v:product:g1:2")
            client.lpush("p1:2", "of another type")
            until(lambda: _is_streaming(bridge), what="the daemon streams")
            told = bridge("dead-letters", "retry", "product", "--all")
            assert "10,005 letters tried again, 1 left" in told
            client.delete("p1:2")
        assert "none left" in bridge("dead-letters", "retry", "product", "--all")
        assert "no dead letter" in bridge("dead-letters", "retry", "product", "--all")
        listing = bridge.start("dead-letters", "list")
        out, err = listing.communicate(timeout=DEADLINE_S)
        assert (out.count("\n"), "10,000 of 10,005" in err) == (10_001, True)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def test_the_pages_answer_while_it_runs(bridge: Bridge) -> None:
    port = 20_000 + secrets.randbelow(10_000)
    text = bridge.path.read_text()
    bridge.path.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    process = bridge.start("run")
    try:
        base = f"http://127.0.0.1:{port}"
        until(lambda: _is_live(bridge), what="the target is live")
        until(lambda: _answers(f"{base}/ready") == 200, what="/ready is 200")
        assert _answers(f"{base}/live") == 200
        status = httpx.get(f"{base}/status").json()
        assert status["targets"][0]["state"] == "live"
        metrics = httpx.get(f"{base}/metrics").text
        assert re.search(r'pgbridge_documents_total\{.*outcome="kept".*\} 9', metrics)
        # A second daemon waits, although the address is taken.
        second = bridge.start("run")
        try:
            until(lambda: _daemons(bridge) == 2, what="the second stands by")
            bridge("wait", "--timeout", "30s")
            assert second.poll() is None
        finally:
            second.send_signal(signal.SIGTERM)
            second.communicate(timeout=DEADLINE_S)
        assert second.returncode == 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def _answers(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0
