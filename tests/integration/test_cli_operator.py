"""What an operator is told when a part is away, and when all is well."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from bridge.dev import ValkeyServer
from bridge.keys import key_text
from bridge.position import Position, parse_lsn
from tests.fixtures.waiting import eventually
from tests.integration.test_cli_daemon import DEADLINE_S, Bridge


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds."""
    asyncio.run(eventually(condition, deadline_s=DEADLINE_S, what=what))


@pytest.fixture
def bridge(
    database: str, private_valkey: ValkeyServer, tmp_path: Path
) -> Iterator[Bridge]:
    """Two views in a Redis that the test may stop."""
    path = tmp_path / "pgbridge.toml"
    path.write_text(
        f"""
[source]
dsn = "{database}"
slot = "t_{secrets.token_hex(6)}"
[daemon]
http = "127.0.0.1:{20_000 + secrets.randbelow(10_000)}"
[sinks.cache]
type = "redis"
url = "{private_valkey.url}"
[views.product]
table = "product"
[[views.product.targets]]
sink = "cache"
[views.tag]
table = "tag"
[[views.tag.targets]]
sink = "cache"
"""
    )
    made = Bridge(database, path, private_valkey.url)
    made.execute("create table product (id int primary key, title text)")
    made.execute("create table tag (name text primary key)")
    made.execute("insert into product values (1, 'one')")
    made.execute("insert into tag values ('a'), (''), ('%00'), (repeat('é', 300))")
    yield made
    private_valkey.start()
    made("drop", "--yes", "--targets")


@pytest.fixture
def daemon(bridge: Bridge) -> Iterator[subprocess.Popen[str]]:
    """It runs, and is ready."""
    process = bridge.start("run")
    until(lambda: _page(bridge, "ready").status_code == 200, what="it is ready")
    bridge("wait", "--timeout", f"{DEADLINE_S}s")
    yield process
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def _page(bridge: Bridge, name: str) -> httpx.Response:
    address = bridge.path.read_text().partition('http = "')[2].partition('"')[0]
    try:
        return httpx.get(f"http://{address}/{name}")
    except httpx.TransportError:
        return httpx.Response(0)


def _recorded(bridge: Bridge) -> int:
    with redis.Redis.from_url(bridge.redis_url) as client:
        found = client.hvals("pgbridge:product:positions")
    return max((Position.parse(each.decode()).lsn for each in found), default=0)  # type: ignore[union-attr]


def _status(bridge: Bridge) -> Any:
    return bridge.json("status")


@pytest.mark.usefixtures("daemon")
def test_what_is_level_is_told_as_level_also_from_what_is_written_down(
    bridge: Bridge,
) -> None:
    """One view's change is kept: the other, which has none, must not hold it back in
    what is written down, or its lag would seem to grow for ever."""
    with psycopg.connect(bridge.dsn) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
    lsn = parse_lsn(row[0] if row else "")
    bridge.execute("update product set title = 'two' where id = 1")
    # That is what comes last of a change, and is written down for its view alone.
    until(lambda: _recorded(bridge) > lsn, what="the sink has noted its position")
    assert bridge.cached("product:1") == {"id": 1, "title": "two"}

    def level() -> bool:
        return all(target["lag_seconds"] == 0 for target in _status(bridge)["targets"])

    until(level, what="the tables say that all is level")


@pytest.mark.usefixtures("daemon")
def test_a_sink_that_is_away_is_told_although_nothing_is_written(
    bridge: Bridge, private_valkey: ValkeyServer
) -> None:
    private_valkey.stop()
    until(lambda: _status(bridge)["sinks"][0]["state"] == "down", what="it is down")
    assert "cannot be reached" in _status(bridge)["sinks"][0]["reason"]
    page = _page(bridge, "ready")
    assert page.status_code == 503
    assert "sink cache is down" in page.text
    assert _page(bridge, "live").status_code == 200
    for command in ("check", "plan", "apply"):
        bridge(command, code=1)
    private_valkey.start()
    # It has come back empty: it is filled again, parked meanwhile.
    until(lambda: _status(bridge)["sinks"][0]["state"] == "ok", what="it is ok again")
    until(lambda: _page(bridge, "ready").status_code == 200, what="it is ready again")


@pytest.mark.usefixtures("daemon")
def test_every_key_can_be_given_as_it_stands_in_the_sink(bridge: Bridge) -> None:
    """Also where its text is a digest, or looks like the one of a null."""
    for name in ("", "%00", "é" * 300):
        key, document = key_text((name,)), {"name": name}
        assert json.loads(bridge("preview", "tag", "--key", key)) == document
        assert bridge.json("explain", "tag", key)["targets"][0]["same"] is True
        with redis.Redis.from_url(bridge.redis_url) as client:
            assert client.delete(f"tag:{key}") == 1
        bridge("backfill", "tag", "--keys", key)
        assert bridge.cached(f"tag:{key}") == document
    # The row is gone, the document is not: as if a delete had been lost.
    gone = key_text(("ü" * 300,))
    with redis.Redis.from_url(bridge.redis_url) as client:
        versions = client.keys("pgbridge:v:tag:*:a")
        prefix = versions[0].decode().removesuffix("a")  # type: ignore[index]
        client.set(f"{prefix}{gone}", f"{1:019}")
        client.set(f"tag:{gone}", json.dumps({"name": "ü" * 300}))
    bridge("backfill", "tag", "--keys", gone)
    assert bridge.cached(f"tag:{gone}") is None
    bridge("preview", "tag", "--key", gone, code=1)
