"""`make bench`: drain, first build and latency of the daemon itself, as users run it.

The one thing to know: the daemon is a process of its own, asked over HTTP how far it
is; its start-up is not counted, everything after its stream is open is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg

from bridge.dev import open_place
from bridge.dev.elasticsearch import ElasticsearchServer
from bridge.dev.postgres import PostgresServer
from bridge.dev.servers import Servers, start_all
from bridge.dev.valkey import ValkeyServer
from bridge.position import parse_lsn
from tests.bench import ceilings
from tests.scenario.harness import Daemon, unused_port

_TABLE = """
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


class Bench:
    """Three servers, one table, and what is measured on them."""

    def __init__(self, servers: Servers, folder: Path, rows: int) -> None:
        self.servers = servers
        self.folder = folder
        self.rows = rows
        self.number = 0

    def database(self) -> tuple[str, str]:
        """A new database with the table, empty; its name is also the slot's."""
        self.number += 1
        name = f"bench{self.number}"
        with psycopg.connect(self.servers.postgres.dsn, autocommit=True) as admin:
            admin.execute(f"create database {name}")
        dsn = self.servers.postgres.dsn_of(name)
        with psycopg.connect(dsn, autocommit=True) as own:
            own.execute(_TABLE)  # type: ignore[arg-type]
        return name, dsn

    def daemon(self, name: str, dsn: str, sink: str) -> Daemon:
        """A daemon that keeps the table in one sink."""
        port = unused_port()
        options = {
            "elasticsearch": f'url = "{self.servers.elasticsearch.url}"',
            "redis": f'url = "{self.servers.valkey.url}"',
            "null": "",
        }[sink]
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[source]\ndsn = "{dsn}"\nslot = "{name}"\npublication = "{name}"\n'
            f'[daemon]\nhttp = "127.0.0.1:{port}"\n'
            f'[sinks.s]\ntype = "{sink}"\n{options}\n'
            f'[views.orders]\ntable = "orders"\n'
            f'[[views.orders.targets]]\nsink = "s"\nname = "{name}"\n'
        )
        return Daemon(path, f"127.0.0.1:{port}")

    async def drain(self, sink: str) -> None:
        """A slot with a backlog of transactions of 100, into one sink."""
        name, dsn = self.database()
        daemon = self.daemon(name, dsn, sink)
        daemon.start("--once")
        assert await daemon.ended() == 0, daemon.log.read_text()
        with psycopg.connect(dsn, autocommit=True) as own:
            own.execute(
                "select pg_create_logical_replication_slot(%s, 'pgoutput')",
                [f"{name}_ceiling"],
            )
            own.execute(f"call fill({self.rows})")
            end = str(own.execute("select pg_current_wal_flush_lsn()").fetchone()[0])  # type: ignore[index]
        ceiling = ceilings.joint(
            lambda: ceilings.recvlogical(
                self.servers.postgres.bin / "pg_recvlogical",
                dsn,
                f"{name}_ceiling",
                end,
            ),
            *self.writes(sink, name, dsn),
        )
        daemon.start()
        took = await self.until(daemon, lambda target: _lsn(target) >= parse_lsn(end))
        peak = daemon.peak_bytes()
        await daemon.stop()
        rate = self.rows / took
        _print(f"drain into {sink}", rate, "rows/s", self.rows / ceiling, "joint")
        print(f"{'':34}peak resident memory {peak / 2**20:,.0f} MiB")

    def writes(self, sink: str, name: str, dsn: str) -> list[Callable[[], float]]:
        """The ready-made writes that are the other half of the joint ceiling."""
        if sink == "null":
            return []
        rows = ceilings.documents(dsn, "orders")
        if sink == "elasticsearch":
            url = self.servers.elasticsearch.url
            return [ceilings.bulk(url, f"{name}-ceiling", rows)]
        return [ceilings.compare_and_set(self.servers.valkey.url, rows)]

    async def build(self) -> None:
        """The first build of an index, from nothing to live."""
        name, dsn = self.database()
        with psycopg.connect(dsn, autocommit=True) as own:
            own.execute(f"call fill({self.rows})")
            own.execute("analyze orders")
        rows = ceilings.documents(dsn, "orders")
        url = self.servers.elasticsearch.url
        ceiling = ceilings.bulk(url, f"{name}-ceiling", rows)()
        daemon = self.daemon(name, dsn, "elasticsearch")
        daemon.start()
        took = await self.until(daemon, lambda target: target["state"] == "live")
        await daemon.stop()
        _print(
            "first build", self.rows / took, "documents/s", self.rows / ceiling, "_bulk"
        )

    async def latency(self, changes: int, rate: int) -> None:
        """From commit to a realtime get, while single rows change at a rate."""
        name, dsn = self.database()
        with psycopg.connect(dsn, autocommit=True) as own:
            own.execute("call fill(10000)")
        daemon = self.daemon(name, dsn, "elasticsearch")
        daemon.start()
        await daemon.ready()
        dice = random.Random(1)
        seen: list[float] = []
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own,
            httpx.AsyncClient(base_url=self.servers.elasticsearch.url) as client,
            asyncio.TaskGroup() as group,
        ):
            began = time.perf_counter()
            for number in range(changes):
                due = began + number / rate - time.perf_counter()
                await asyncio.sleep(max(due, 0))
                key, text = dice.randint(1, 10_000), f"changed {number}"
                await own.execute(
                    "update orders set title = %s where id = %s", [text, key]
                )
                if number % 10 == 0:  # watching each would be most of the load
                    at = f"/{name}/_doc/{key}?_source_includes=title"
                    group.create_task(_seen(client, at, text, seen))
        await daemon.stop()
        seen.sort()
        p50, p99 = seen[len(seen) // 2], seen[int(len(seen) * 0.99)]
        print(
            f"{'commit to visible':34}p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
            f" at {rate} changes/s ({len(seen)} watched)"
        )

    async def until(
        self, daemon: Daemon, reached: Callable[[dict[str, object]], bool]
    ) -> float:
        """Seconds from the stream's opening until the target is where it should be."""
        began: float | None = None
        while True:
            assert daemon.running, daemon.log.read_text()[-2000:]
            status = await daemon.status()
            source = status.get("source")
            streams = isinstance(source, dict) and source["state"] == "streaming"
            if began is None and streams:
                began = time.perf_counter()
            targets = status.get("targets")
            there = isinstance(targets, list) and bool(targets)
            if began is not None and there and reached(targets[0]):  # type: ignore[index]
                return time.perf_counter() - began
            await asyncio.sleep(0.01)


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


def _lsn(target: dict[str, object]) -> int:
    """Where a target stands; 0 while it stands nowhere yet."""
    position = target["position"]
    return parse_lsn(str(position).partition(":")[2]) if position else 0


def _print(what: str, rate: float, unit: str, ceiling: float, of: str) -> None:
    print(
        f"{what:34}{rate:>9,.0f} {unit:12} {rate / ceiling:5.2f} of {of} "
        f"{ceiling:,.0f}",
        flush=True,
    )


@contextlib.contextmanager
def _servers() -> Iterator[Servers]:
    with contextlib.closing(open_place()) as place:
        servers = Servers(
            PostgresServer(
                place, settings={"shared_buffers": "512MB", "max_wal_size": "8GB"}
            ),
            ElasticsearchServer(place, heap="1g", fast_start=False),
            ValkeyServer(place),
        )
        try:
            start_all(servers)
            yield servers
        finally:
            for server in (servers.valkey, servers.elasticsearch, servers.postgres):
                server.close()


async def _run(servers: Servers, folder: Path, rows: int) -> None:
    bench = Bench(servers, folder, rows)
    for sink in ("elasticsearch", "redis", "null"):
        await bench.drain(sink)
    await bench.build()
    await bench.latency(2000, 200)


def main() -> None:
    """Run everything; the first argument is the number of rows (200,000)."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with _servers() as servers, tempfile.TemporaryDirectory() as folder:
        asyncio.run(_run(servers, Path(folder), rows))


if __name__ == "__main__":
    main()
