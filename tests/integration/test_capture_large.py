"""Transactions and rows of any size pass through a bounded amount of memory.

Each runs in a process of its own, so that what is measured is only its own.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.capture.connection import StreamSettings
from bridge.capture.thread import CaptureLimits, CaptureThread
from bridge.changes import ABSENT, Change, Keepalive, Relation, Transaction
from bridge.decode.transactions import DecodeLimits, TransactionAssembler
from tests.integration.capturing import Batches, execute, prepare

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    with open("/proc/self/status", encoding="utf-8") as status:
        found = PEAK.search(status.read())
    assert found
    return int(found[1]) * 1024


def only_id(_: Relation) -> frozenset[str]:
    """What the spilled rows keep."""
    return frozenset({"id"})


async def read_all(dsn: str, name: str, ends_with: bytes) -> tuple[int, int]:
    """Transactions until the row `ends_with` has come; rows, and sum of their ids."""
    thread: Batches = CaptureThread(
        StreamSettings(dsn, name, name),
        TransactionAssembler(only_id, DecodeLimits()),
        list,
        CaptureLimits(),
    )
    thread.start()
    count = total = 0
    done = False
    while not done:
        item = await thread.get()
        if isinstance(item, Keepalive):
            continue
        for transaction in item:
            for row in ids(transaction):
                done = done or row == ends_with
                count += 1
                total += int(row)
        thread.acknowledge(item[-1].end_lsn)
    await thread.close()
    return count, total


def ids(transaction: Transaction) -> Iterator[bytes]:
    """The id of every changed row, one for each."""
    for event in transaction.events:
        assert isinstance(event, Change)
        image = event.new if event.new is not None else event.old
        assert image is not None
        assert isinstance(image[0], bytes)
        if event.new is not None:
            assert transaction.spilled == (image[1] is ABSENT)
        yield image[0]


def child(settings: StreamSettings, ends_with: int) -> tuple[int, int, int]:
    """Runs `read_all` in another process: rows, sum of ids, peak bytes above idle."""
    script = (
        "import sys; from tests.integration.test_capture_large import main;"
        "main(*sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, settings.dsn, settings.slot, str(ends_with)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    count, total, grown = map(int, done.stdout.split())
    return count, total, grown


def main(dsn: str, name: str, ends_with: str) -> None:
    """What the child does."""
    idle = peak_bytes()
    count, total = asyncio.run(read_all(dsn, name, ends_with.encode()))
    print(count, total, peak_bytes() - idle)


def test_a_transaction_of_a_million_rows(database: str) -> None:
    rows = 1_000_000
    settings = prepare(
        database,
        "create table t (id int primary key, a text, b text, c timestamptz, d numeric,"
        " e bool, f text, g int, h text, i text)",
    )
    execute(
        database,
        "insert into t select n, 'name ' || n, repeat('x', 120), now(), n * 1.25,"
        " true, 'open', n, repeat('a', 60), repeat('b', 20)"
        f" from generate_series(1, {rows}) n",
    )
    execute(database, f"delete from t where id = {rows}")
    execute(database, "insert into t (id) values (0)")
    count, total, grown = child(settings, ends_with=0)
    assert count == rows + 2
    assert total == rows * (rows + 1) // 2 + rows
    print(f"{grown / MIB:.0f} MiB above idle")
    assert grown < 100 * MIB, f"{grown / MIB:.0f} MiB"


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_a_hundred_megabytes(rows: int, database: str) -> None:
    settings = prepare(
        database,
        "create table t (id int primary key, body text)",
        "alter table t alter body set storage external",
    )
    for n in range(1, rows + 1):
        execute(database, f"insert into t values ({n}, repeat('x', 100000000))")
    execute(database, "insert into t values (0, 'end')")
    count, total, grown = child(settings, ends_with=0)
    assert (count, total) == (rows + 1, sum(range(rows + 1)))
    print(f"{grown / MIB:.0f} MiB above idle")
    # libpq's buffer grows by doubling, and beside it stands one copy of the row.
    assert grown < 300 * MIB, f"{grown / MIB:.0f} MiB"
