"""A large build beside a stream of changes: the stream goes first.

The one thing to know: changes go to the rows that are built as well as to a view that
is live, and the lag is that of the live one, as `/status` tells it ten times a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress
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
    """A first build, while rows of it and of another view change all the time."""
    name, dsn = stand.database(_SCHEMA)
    execute(dsn, f"call fill({stand.rows})", "analyze")
    daemon = stand.daemon(name, dsn, "elasticsearch", 'table = "busy"')
    async with AsyncExitStack() as stack:
        daemon.start()
        stack.push_async_callback(daemon.stop)
        await until(stand, daemon, is_live)
        lags: list[float] = []
        counted: list[int] = []
        for work in (_change(dsn, stand.rows, counted), _look(daemon, lags)):
            task = asyncio.create_task(work)
            stack.push_async_callback(_ended, task)
        await _reached(daemon, lambda _: len(lags) > 10)
        lags.clear()
        counted.clear()
        began, before = time.perf_counter(), stand.spent(daemon)
        with daemon.config.open("a") as file:
            file.write(
                f'[views.large]\ntable = "orders"\n'
                f'[[views.large.targets]]\nsink = "s"\nname = "{name}-large"\n'
            )
        await _reached(daemon, _both_live)
        took = time.perf_counter() - began
        run = Measured(took, less(stand.spent(daemon), before))
    show("build beside changes", stand.rows, "documents/s", run)
    lags.sort()
    note(
        f"{len(counted) * 2 / took:,.0f} changes/s (of {CHANGES}); lag of the stream"
        f" p50 {lags[len(lags) // 2]:.2f} s, p99 {lags[len(lags) * 99 // 100]:.2f} s,"
        f" most {lags[-1]:.2f} s (goal: p99 under {LAG_LIMIT_S:g} s)"
    )


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


async def _change(dsn: str, rows: int, counted: list[int]) -> None:
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
            counted.append(number)


async def _look(daemon: Daemon, lags: list[float]) -> None:
    """How far the live target is behind, again and again."""
    while True:
        status = await daemon.status()
        lags += [
            target["lag_seconds"]
            for target in status.get("targets") or []
            if target["view"] == "v"
        ]
        await asyncio.sleep(_LOOK_S)
