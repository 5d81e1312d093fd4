"""One table, column for column: drain, first build, latency.

The one thing to know: the daemon is a process of its own, asked over HTTP how far it
is; its start-up is not counted, everything after its stream is open is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import httpx
import psycopg

from tests.bench import ceilings
from tests.bench.stand import (
    Stand,
    ceiling,
    compare,
    execute,
    flushed,
    is_live,
    note,
    stands_at,
    until,
)

TABLE = """
create table orders (
    id bigint primary key, customer_id bigint, status text, title text, note text,
    price numeric(12, 2), quantity integer, paid boolean,
    created_at timestamptz, updated_at timestamptz);
create procedure fill(n integer) language plpgsql as $$
begin
    for i in 0 .. n / 100 - 1 loop
        insert into orders
        select g, g % 1000, 'pending', 'title of order ' || g,
               repeat('some words ', 12), g * 1.25, g % 7, g % 2 = 0, now(), now()
        from generate_series(i * 100 + 1, i * 100 + 100) g;
        commit;
    end loop;
end $$
"""
VIEW = 'table = "orders"'
_CHANGES, _RATE = 2000, 200


async def drain(stand: Stand, sink: str) -> None:
    """A slot with a backlog of transactions of 100, into one sink."""
    name, dsn = stand.database(TABLE)
    daemon = stand.daemon(name, dsn, sink, VIEW)
    daemon.start("--once")
    assert await daemon.ended() == 0, daemon.log.read_text()
    slot = f"{name}_ceiling"
    execute(
        dsn,
        f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')",
        f"call fill({stand.rows})",
    )
    end = flushed(dsn)
    reads = ceilings.recvlogical(
        stand.servers.postgres.bin / "pg_recvlogical", dsn, slot, end
    )
    writes = _writes(stand, sink, name, dsn)
    allowed = ceiling(stand, lambda: ceilings.joint(reads, *writes))
    daemon.start()
    run = await until(stand, daemon, stands_at(end))
    peak = daemon.resident_bytes_max()
    await daemon.stop()
    compare(f"drain into {sink}", stand.rows, "rows/s", run, "joint", allowed)
    note(f"peak resident memory {peak / 2**20:,.0f} MiB")


def _writes(stand: Stand, sink: str, name: str, dsn: str) -> list[Callable[[], float]]:
    """The ready-made writes that are the other half of the joint ceiling."""
    if sink == "null":
        return []
    rows = ceilings.documents(dsn, "orders")
    if sink == "elasticsearch":
        url = stand.servers.elasticsearch.url
        return [ceilings.bulk(url, f"{name}-ceiling", rows)]
    return [ceilings.compare_and_set(stand.servers.valkey.url, rows)]


async def build(stand: Stand) -> None:
    """The first build of an index, from nothing to live and searchable.

    Of three times as many rows: fewer fit into the memory of Elasticsearch, so that the
    ceiling would have written no segment, while readers of the build need them all.
    """
    name, dsn = stand.database(TABLE)
    count = 3 * stand.rows
    execute(dsn, f"call fill({count})", "analyze orders")
    rows = ceilings.documents(dsn, "orders")
    url = stand.servers.elasticsearch.url
    allowed = ceiling(stand, ceilings.bulk(url, f"{name}-ceiling", rows))
    daemon = stand.daemon(name, dsn, "elasticsearch", VIEW)
    daemon.start()
    run = await until(stand, daemon, is_live)
    peak = daemon.resident_bytes_max()
    await daemon.stop()
    compare("first build", count, "documents/s", run, "_bulk", allowed)
    note(f"peak resident memory {peak / 2**20:,.0f} MiB")


async def latency(stand: Stand) -> None:
    """From commit to a realtime get, while single rows change at a rate."""
    name, dsn = stand.database(TABLE)
    execute(dsn, "call fill(10000)")
    daemon = stand.daemon(name, dsn, "elasticsearch", VIEW)
    daemon.start()
    await daemon.ready()
    dice = random.Random(1)
    seen: list[float] = []
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own,
        httpx.AsyncClient(base_url=stand.servers.elasticsearch.url) as client,
        asyncio.TaskGroup() as group,
    ):
        began = time.perf_counter()
        for number in range(_CHANGES):
            due = began + number / _RATE - time.perf_counter()
            await asyncio.sleep(max(due, 0))
            key, text = dice.randint(1, 10_000), f"changed {number}"
            await own.execute("update orders set title = %s where id = %s", [text, key])
            if number % 10 == 0:  # watching each would be most of the load
                at = f"/{name}/_doc/{key}?_source_includes=title"
                group.create_task(_seen(client, at, text, seen))
    await daemon.stop()
    seen.sort()
    p50, p99 = seen[len(seen) // 2], seen[int(len(seen) * 0.99)]
    print(
        f"{'commit to visible':30}p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
        f" at {_RATE} changes/s ({len(seen)} watched)",
        flush=True,
    )


async def _seen(
    client: httpx.AsyncClient, at: str, text: str, seen: list[float]
) -> None:
    began = time.perf_counter()
    while time.perf_counter() - began < 30:
        answer = await client.get(at)
        title = answer.json().get("_source", {}).get("title", "")
        # A later change of the same row has overtaken this one: seen as well.
        if title.startswith("changed") and int(title[8:]) >= int(text[8:]):
            seen.append(time.perf_counter() - began)
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"not visible within 30 s: {at}")
