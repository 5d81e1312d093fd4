"""Rows per second of capture and decode, against pg_recvlogical in the same run.

    python tests/bench/bench_capture.py [--rows N] [--dsn DSN]

The one thing to know: figures of different runs do not compare, ratios within one do.
pg_recvlogical writes what it gets to /dev/null; we make whole transactions of it.
`busy` has the event loop burn the processor meanwhile, as delivery does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bridge.capture.connection import StreamSettings
from bridge.capture.thread import CaptureThread
from bridge.changes import Keepalive, Transaction
from bridge.decode.transactions import TransactionAssembler
from bridge.dev import PostgresServer, open_place
from bridge.dev.postgres import create_database, drop_database
from bridge.position import format_lsn

NAME = "bench_capture"
SLOTS = ("bench_capture_ours", "bench_capture_peer", "bench_capture_busy")
TABLE = """
    create table t (id bigint primary key, a text, b text, c timestamptz, d numeric,
                    e bool, f text, g int, h text, i text)
"""
FILL = """
    insert into t
    select {at} + n, 'name of the thing ' || n, repeat('x', 120), now(), n * 1.25, true,
           'open', n, repeat('a', 60), repeat('b', 20)
      from generate_series(1, {count}) n
"""
TRIES = 3
KINDS = {
    "inserts, 1 a transaction": 1,
    "inserts, 10 a transaction": 10,
    "inserts, 100 a transaction": 100,
    "inserts, one transaction": 0,
}


def fill(dsn: str, rows: int, each: int) -> None:
    """Rows for the slots to have behind them, `each` a transaction (0: all)."""
    each = each or rows
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("truncate t")
        for slot in SLOTS:
            connection.execute(
                "select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot]
            )
        with connection.pipeline():
            for at in range(0, rows, each):
                connection.execute(
                    sql.SQL(FILL).format(at=at, count=min(each, rows - at))
                )


def forget(dsn: str) -> None:
    """Drop the slots."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for slot in SLOTS:
            connection.execute("select pg_drop_replication_slot(%s)", [slot])


async def burn() -> None:
    """Keep the event loop busy in slices of about a millisecond."""
    while True:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def capture(dsn: str, slot: str, rows: int, *, busy: bool) -> tuple[float, int]:
    """Seconds until that many rows were handed over, and the last end LSN."""

    def digest(transactions: list[Transaction]) -> tuple[int, int]:
        count = sum(transaction.count for transaction in transactions)
        return count, transactions[-1].end_lsn

    thread: CaptureThread[tuple[int, int]] = CaptureThread(
        StreamSettings(dsn, slot, NAME), TransactionAssembler(), digest
    )
    burning = asyncio.create_task(burn()) if busy else None
    began = time.perf_counter()
    thread.start()
    taken = end_lsn = 0
    while taken < rows:
        item = await thread.get()
        if not isinstance(item, Keepalive):
            taken += item[0]
            end_lsn = item[1]
            thread.acknowledge(end_lsn)
    took = time.perf_counter() - began
    if burning is not None:
        burning.cancel()
    await thread.close()
    return took, end_lsn


def peer(program: Path, dsn: str, slot: str, end_lsn: int) -> float:
    """Seconds that pg_recvlogical takes for the same."""
    given = conninfo_to_dict(dsn)
    began = time.perf_counter()
    subprocess.run(
        [
            *(str(program), "--dbname", str(given["dbname"]), "--slot", slot),
            *("--host", str(given["host"]), "--port", str(given.get("port", 5432))),
            *("--username", str(given["user"]), "--start", "--file", "/dev/null"),
            *("--option", "proto_version=1"),
            *("--option", f"publication_names={NAME}"),
            *("--endpos", format_lsn(end_lsn)),
        ],
        check=True,
    )
    return time.perf_counter() - began


@contextlib.contextmanager
def database(dsn: str | None) -> Iterator[tuple[str, Path]]:
    """An empty database there, or on a server of our own; and pg_recvlogical."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(contextlib.closing(open_place()))
        server = stack.enter_context(
            contextlib.closing(
                PostgresServer(
                    place, settings={"shared_buffers": "512MB", "max_wal_size": "8GB"}
                )
            )
        )
        if dsn is None:
            dsn = server.start().dsn
        yield create_database(dsn, NAME), server.bin / "pg_recvlogical"
        drop_database(dsn, NAME)


def measure(
    dsn: str, program: Path, rows: int, each: int
) -> tuple[float, float, float, float]:
    """Seconds of capture, of the peer, of capture beside a busy loop; CPU seconds."""
    fill(dsn, rows, each)
    busy, end_lsn = asyncio.run(capture(dsn, SLOTS[2], rows, busy=True))
    theirs = peer(program, dsn, SLOTS[1], end_lsn)
    began = time.process_time()
    ours, _ = asyncio.run(capture(dsn, SLOTS[0], rows, busy=False))
    cpu = time.process_time() - began
    forget(dsn)
    return ours, theirs, busy, cpu


def main() -> None:
    """Print a line a kind of load."""
    parser = argparse.ArgumentParser(description="capture against pg_recvlogical")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dsn", help="a Postgres to use, instead of one of our own")
    arguments = parser.parse_args()
    rows = arguments.rows
    with database(arguments.dsn) as (dsn, program):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLE)
            connection.execute(f"create publication {NAME} for table t".encode())
        print(
            f"{'rows/s, best of ' + str(TRIES):28}{'capture':>10}{'peer':>10}"
            f"{'ratio':>7}{'busy':>10}{'CPU µs a row':>14}"
        )
        for kind, each in KINDS.items():
            results = [measure(dsn, program, rows, each) for _ in range(TRIES)]
            ours, theirs, busy, cpu = map(min, zip(*results, strict=True))
            print(
                f"{kind:28}{rows / ours:10,.0f}{rows / theirs:10,.0f}"
                f"{theirs / ours:7.2f}{rows / busy:10,.0f}{cpu / rows * 1e6:14.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
