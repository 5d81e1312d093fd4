"""A large build, and a backfill, beside a stream of changes: the stream goes first.

The one thing to know: changes go to the rows that are built as well as to a view that
is live, and the lag is that of the live one, as `/status` tells it ten times a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.bench.flat import TABLE
from tests.bench.stand import Measured, Stand, execute, is_live, less, note, show, until
from tests.scenario.harness import Daemon

CHANGES = 500
"""A second, in transactions of two."""
LAG_LIMIT_S = 2.0
_BUSY = 1000
_LOOK_S = 0.1
_UNDER_WAY = """
select count(*) from bridge.command
where kind = 'backfill' and state in ('pending', 'running')
"""
_SCHEMA = f"""
{TABLE};
create table busy (id integer primary key, n integer);
insert into busy select g, 0 from generate_series(1, {_BUSY}) g
"""
_CHANGE = """
update busy set n = n + 1 where id = %(busy)s;
update orders set quantity = quantity + 1 where id = %(order)s
"""


async def beside(stand: Stand) -> None:
    """A first build, then a backfill in place, while rows of it and of another view
    change all the time."""
    name, dsn = stand.database(_SCHEMA)
    execute(dsn, f"call fill({stand.rows})", "analyze")
    daemon = stand.daemon(name, dsn, "elasticsearch", 'table = "busy"')
    async with AsyncExitStack() as stack:
        daemon.start()
        stack.push_async_callback(daemon.stop)
        await until(stand, daemon, is_live)
        stream = _Stream()
        for work in (_change(dsn, stand.rows, stream), _look(daemon, stream)):
            task = asyncio.create_task(work)
            stack.push_async_callback(_ended, task)
        await _reached(daemon, lambda _: len(stream.lags) > 10)

        async def measured(what: str, begin: Any, reached: Any) -> None:
            stream.lags.clear()
            stream.changes = 0
            began, before = time.perf_counter(), stand.spent(daemon)
            begin()
            await _reached(daemon, reached)
            took = time.perf_counter() - began
            run = Measured(took, less(stand.spent(daemon), before))
            show(f"{what} beside changes", stand.rows, "documents/s", run)
            stream.tell(took)

        def added() -> None:
            with daemon.config.open("a") as file:
                file.write(
                    f'[views.large]\ntable = "orders"\n'
                    f'[[views.large.targets]]\nsink = "s"\nname = "{name}-large"\n'
                )

        await measured("build", added, _both_live)
        await measured(
            "backfill",
            lambda: execute(dsn, "select bridge.backfill('large')"),
            lambda _: not _one(dsn, _UNDER_WAY),
        )
        ended = _one(dsn, "select state from bridge.command where kind = 'backfill'")
        assert ended == "done", ended


@dataclass
class _Stream:
    """What is seen of the stream: lags in seconds, and how many changes were made."""

    lags: list[float] = field(default_factory=list)
    changes: int = 0

    def tell(self, took_s: float) -> None:
        lags = sorted(self.lags)
        note(
            f"{self.changes / took_s:,.0f} changes/s (of {CHANGES}); lag of the stream"
            f" p50 {lags[len(lags) // 2]:.2f} s, p99 {lags[len(lags) * 99 // 100]:.2f}"
            f" s, most {lags[-1]:.2f} s (goal: p99 under {LAG_LIMIT_S:g} s)"
        )


def _one(dsn: str, question: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row and row[0]


def _both_live(targets: list[dict[str, Any]]) -> bool:
    return len(targets) == 2 and all(map(is_live, targets))


async def _reached(daemon: Daemon, reached: Any) -> None:
    while True:
        daemon.must_run()
        if reached((await daemon.status()).get("targets") or []):
            return
        await asyncio.sleep(_LOOK_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _change(dsn: str, rows: int, stream: _Stream) -> None:
    """So many a second; when late, as fast as it can."""
    dice, began, number = random.Random(1), time.perf_counter(), 0
    async with await psycopg.AsyncConnection.connect(dsn) as own:
        while True:
            due_s = began + number * 2 / CHANGES - time.perf_counter()
            await asyncio.sleep(max(due_s, 0))
            for statement in _CHANGE.split(";"):
                values = {
                    "busy": dice.randint(1, _BUSY),
                    "order": dice.randint(1, rows),
                }
                await own.execute(statement.encode(), values)
            await own.commit()
            number += 1
            stream.changes += 2


async def _look(daemon: Daemon, stream: _Stream) -> None:
    """How far the live target is behind, again and again."""
    while True:
        status = await daemon.status()
        stream.lags += [
            target["lag_seconds"] or 0.0
            for target in status.get("targets") or []
            if target["view"] == "v"
        ]
        await asyncio.sleep(_LOOK_S)
