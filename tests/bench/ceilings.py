"""What the servers allow: the log read by pg_recvlogical, writes that are ready-made.

The one thing to know: the *joint* ceiling runs both at the same time, until both are
done, since they share the machine just as the bridge shares it with them.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import redis

VERSION = 1 << 53
_SCRIPT = """
local n = #KEYS / 2
local held = redis.call('MGET', unpack(KEYS, 1, n))
for i = 1, n do
  local v = ARGV[2 * i - 1]
  if not held[i] or held[i] < v then
    redis.call('SET', KEYS[i], v)
    redis.call('SET', KEYS[n + i], ARGV[2 * i])
  end
end
"""


Rows = list[tuple[str, bytes]]
"""Keys and documents."""


def recvlogical(binary: Path, dsn: str, slot: str, end: str) -> Callable[[], float]:
    """A run of pg_recvlogical from the slot's start to `end`."""

    def run() -> float:
        began = time.perf_counter()
        subprocess.run(
            [
                str(binary), "-d", dsn, "--slot", slot, "--start",
                "-o", "proto_version=1", "-E", end, "-f", "/dev/null", "--no-loop",
                "-o", f"publication_names={slot.removesuffix('_ceiling')}",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return time.perf_counter() - began

    return run


def copied(dsn: str, query: str) -> Callable[[], float]:
    """A run of `copy` that has Postgres make every document of a query."""

    def run() -> float:
        statement = f"copy (select row_to_json(v.*) from ({query}) v) to stdout"
        with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
            began = time.perf_counter()
            with cursor.copy(statement.encode()) as rows:
                for _ in rows:
                    pass
            return time.perf_counter() - began

    return run


def documents(dsn: str, table: str) -> Rows:
    """Every row's key and document, made by Postgres."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            f"select id::text, row_to_json(t.*)::text from {table} t order by id"
        )
        return [(key, document.encode()) for key, document in rows]


def bulk(url: str, index: str, rows: Rows) -> Callable[[], float]:
    """A run of ready-made `_bulk` requests of 5,000, two in flight, in a new index."""
    client = httpx.Client(base_url=url, timeout=120)
    client.put(
        f"/{index}",
        json={
            "settings": {
                "number_of_replicas": 0,
                "refresh_interval": -1,
                "gc_deletes": "1h",
            }
        },
    ).raise_for_status()
    bodies = [
        b"".join(
            b'{"index":{"_id":"%s","version":%d,"version_type":"external"}}\n%s\n'
            % (key.encode(), VERSION + 1, document)
            for key, document in rows[at : at + 5000]
        )
        for at in range(0, len(rows), 5000)
    ]

    def send(body: bytes) -> None:
        answer = client.post(
            f"/{index}/_bulk?filter_path=errors",
            content=body,
            headers={"content-type": "application/x-ndjson"},
        )
        assert answer.json() == {"errors": False}

    def run() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, bodies))
        took = time.perf_counter() - began
        client.delete(f"/{index}")
        client.close()
        return took

    return run


def compare_and_set(url: str, rows: Rows) -> Callable[[], float]:
    """A run of ready-made compare-and-set calls of 500 documents each."""
    client = redis.Redis.from_url(url)
    script = client.script_load(_SCRIPT)
    connection = client.connection_pool.get_connection()
    version = f"{VERSION + 1:019d}"
    calls = []
    for at in range(0, len(rows), 500):
        part = rows[at : at + 500]
        keys = [f"ceiling:v:{key}" for key, _ in part]
        keys += [f"ceiling:{key}" for key, _ in part]
        values = [item for _, document in part for item in (version, document)]
        packed = connection.pack_command("EVALSHA", script, len(keys), *keys, *values)
        calls.append(b"".join(packed))

    def run() -> float:
        began = time.perf_counter()
        for at in range(0, len(calls), 4):
            some = calls[at : at + 4]
            connection.send_packed_command(some)
            for _ in some:
                connection.read_response()
        took = time.perf_counter() - began
        # Its own keys alone: a bridge's target stands in the same database.
        for at in range(0, len(rows), 5000):
            names = [key for key, _ in rows[at : at + 5000]]
            client.unlink(*(f"ceiling:{name}" for name in names))
            client.unlink(*(f"ceiling:v:{name}" for name in names))
        client.close()
        return took

    return run


def joint(*runs: Callable[[], float]) -> float:
    """Seconds until all of these, started at the same moment, are done."""
    barrier = threading.Barrier(len(runs))

    def started(run: Callable[[], float]) -> float:
        barrier.wait()
        return run()

    with ThreadPoolExecutor(len(runs)) as pool:
        return max(pool.map(started, runs))
