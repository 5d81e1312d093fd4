"""What the tests of capture share: a table, a slot, a thread that hands over lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bridge.capture.connection import StreamSettings
from bridge.capture.thread import CaptureLimits, CaptureThread
from bridge.changes import Change, Keepalive, Transaction
from bridge.decode.transactions import DecodeLimits, TransactionAssembler, keep_all
from bridge.position import parse_lsn
from tests.fixtures.waiting import DEADLINE_S

Batches = CaptureThread[list[Transaction]]


def execute(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each in a transaction of its own; the last one's rows."""
    rows: list[tuple[Any, ...]] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def slot_of(dsn: str) -> str:
    """The name that slot and publication of this test's database have."""
    return f"s_{conninfo_to_dict(dsn)['dbname']}"


def prepare(dsn: str, *statements: str, tables: str = "t") -> StreamSettings:
    """Make tables, publication and slot; how to reach them."""
    name = slot_of(dsn)
    execute(
        dsn,
        *statements,
        f"create publication {name} for table {tables}"
        " with (publish_via_partition_root = true)",
        f"select pg_create_logical_replication_slot('{name}', 'pgoutput')",
    )
    return StreamSettings(dsn, name, name)


TABLE = "create table t (id int primary key, body text)"


@asynccontextmanager
async def capturing(
    settings: StreamSettings,
    *,
    digest: Callable[[list[Transaction]], Any] = list,
    limits: CaptureLimits = CaptureLimits(),  # noqa: B008 - frozen
    decode: DecodeLimits = DecodeLimits(),  # noqa: B008 - frozen
) -> AsyncIterator[Batches]:
    """A running capture thread, closed in the end."""
    assembler = TransactionAssembler(keep_all, decode)
    thread: Batches = CaptureThread(settings, assembler, digest, limits)
    thread.start()
    try:
        await asyncio.wait_for(thread.opened(), DEADLINE_S)
        yield thread
    finally:
        await asyncio.wait_for(thread.close(), DEADLINE_S)


async def take(thread: Batches, count: int) -> list[Transaction]:
    """The next `count` transactions, keepalives passed by."""
    taken: list[Transaction] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(taken) < count:
            item = await thread.get()
            if not isinstance(item, Keepalive):
                taken += item
    assert len(taken) == count, "more in the batch than was asked for"
    return taken


async def ended(thread: Batches) -> None:
    """Take and forget until `get` raises, and raise that."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await thread.get()


def news(transactions: list[Transaction]) -> list[Any]:
    """The new images of all changes, in order."""
    return [
        event.new
        for transaction in transactions
        for event in transaction.events
        if isinstance(event, Change)
    ]


def confirmed(settings: StreamSettings) -> int:
    """Where the slot stands."""
    ((lsn,),) = execute(
        settings.dsn,
        "select confirmed_flush_lsn::text from pg_replication_slots"
        f" where slot_name = '{settings.slot}'",
    )
    return parse_lsn(lsn)


def at(settings: StreamSettings, dsn: str) -> StreamSettings:
    """The same slot by another address."""
    return replace(settings, dsn=dsn)
