"""`make crash`: every probe, with every fault at it, over every shape of view.

The daemon stops at a named point of its code; there a server crashes, or the daemon
dies; then everything goes on, and in the end every document of every view in both
sinks has to be what SQL says. Writers change rows all the while.

The one thing to know: `python -m tests.scenario.matrix [WORD…]` takes the rows whose
probe or fault has one of these words; each row is put into `docs/crash-matrix.md` when
it is right, in the place of what an earlier run has put there. One that is not is told,
and the others go on with a database of their own; it ends with 1 then.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import redis

from bridge import probes
from bridge.config import load
from bridge.dev.local import LocalServer
from bridge.dev.postgres import create_database
from bridge.dev.servers import Servers, running
from bridge.errors import BridgeError
from bridge.verify.verify import differences
from tests.fixtures.waiting import eventually
from tests.scenario.shop import SCHEMA, SHAPES, VIEWS, Shop
from tests.scenario.world import Bridge

PAGE = Path(__file__).parents[2] / "docs" / "crash-matrix.md"
REACH_S, CALM_S = 120.0, 300.0
MANY = """
insert into item select g, g % 20 + 1, 'far ' || g, g % 97, null
from generate_series(10001, 14500) g on conflict do nothing
"""
"""So many documents of a few rows that they are derived in pieces."""
FEW = "delete from item where id > 10000"
SPREAD = "update category set name = name || '.'"
ONE = "select bridge.backfill('cheap', keys => array['1'])"
REBUILD = "select bridge.backfill('product', rebuild => true)"
AGAIN = "select bridge.backfill('shelf', rebuild => true)"
CANCEL = (
    "select bridge.cancel(id) from bridge.command"
    " where kind = 'backfill' order by id desc limit 1"
)
PARK = "select bridge.pause('cache')"
FILL = "update item set note = repeat('much ', 700)"
PAY = "select bridge.resume('cache')"
NOTICE = "select pg_logical_emit_message(true, 'pgbridge', 'altered')"
ALTER = """
do $$ begin execute 'alter table review alter column rating type '
    || case pg_typeof((select rating from review limit 1))::text
       when 'bigint' then 'integer' else 'bigint' end; end $$
"""
WIDEN = """
do $$ begin
    alter table review add column spare integer;
exception when duplicate_column then
    alter table review drop column spare;
end $$
"""
"""No view reads it: the log's own word of it has nothing done, and a look finds it."""
EDIT, LOSE = "the file is edited", "an index is deleted"
PARKED, BUILT, BUILDING = "it is parked", "nothing is built", "something is built"
"""Not statements: `Matrix.ask` does it, or waits for it."""
TRIGGERS: dict[str, tuple[str, ...]] = {
    "derive.piece": (MANY, SPREAD),
    "backfill.chunk": (REBUILD,),
    "backfill.kept": (REBUILD,),
    "command.begun": (ONE,),
    "command.done": (ONE,),
    "generation.prepared": (REBUILD,),
    "generation.built": (REBUILD,),
    "generation.publish": (REBUILD,),
    "generation.published": (REBUILD,),
    "generation.recorded": (REBUILD,),
    "generation.dropped": (AGAIN, BUILT, AGAIN),
    "generation.abandoned": (PARK, REBUILD, BUILDING, CANCEL),
    "generation.altering": (EDIT,),
    "generation.altered": (EDIT,),
    "generation.lost": (LOSE,),
    "parking.parked": (PARK, FILL),
    "parking.recorded": (PARK, FILL),
    "parking.paid": (PARK, FILL, PARKED, PAY),
    "schema.noticed": (NOTICE,),
    "schema.looked": (WIDEN,),
    "schema.derived": (ALTER,),
}
"""What brings the daemon to a probe, where changing rows alone does not."""


FAULTS = (
    "daemon killed",
    "Postgres crashes",
    "Elasticsearch killed",
    "Redis comes back empty",
    "daemon and Postgres",
    "daemon and Redis, from an older file",
)


class Row(NamedTuple):
    """What one probe with one fault has come to."""

    probe: str
    fault: str
    compared: dict[str, int]
    """Documents by view, in both sinks; all equal SQL."""
    seconds: float


@dataclass
class Matrix:
    """One bridge over servers of its own."""

    bridge: Bridge
    servers: Servers
    edits: int = 0

    def faults(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name; each is over when its call returns."""
        servers = self.servers
        acts = (
            self.killed,
            lambda: self.crashed(servers.postgres),
            lambda: self.crashed(servers.elasticsearch),
            lambda: self.crashed(servers.valkey),
            self.both,
            self.host,
        )
        return dict(zip(FAULTS, acts, strict=True))

    async def killed(self) -> None:
        await self.bridge.daemon.kill()

    async def crashed(self, server: LocalServer) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)  # type: ignore[attr-defined]

    async def both(self) -> None:
        await self.killed()
        await self.crashed(self.servers.postgres)

    async def host(self) -> None:
        """What was written since `save` is lost, and nobody is left who knew of it."""
        await self.killed()
        await self.crashed(self.servers.valkey)
        with redis.Redis.from_url(self.bridge.redis) as client:
            _saved(client).unlink()  # else it would always come back so

    async def save(self) -> None:
        """Redis writes its file."""
        with redis.Redis.from_url(self.bridge.redis) as client:
            await asyncio.to_thread(client.save)

    async def run(self, rows: list[tuple[str, str]]) -> None:
        """All these rows; those that are done are taken out of the list."""
        self.edit()
        self.start()
        await self.bridge.ready()
        faults = self.faults()
        while rows:
            probe, name = rows[0]
            await self.row(probe, name, faults[name])
            rows.pop(0)

    async def row(
        self, probe: str, name: str, fault: Callable[[], Awaitable[None]]
    ) -> None:
        """Have the fault at the probe, and compare everything."""
        began = time.monotonic()
        shop = Shop(self.bridge.dsn, f"{probe}/{name}", pause_s=0.1)
        if fault == self.host:
            await self.save()
        try:
            await self.reach(probe)
            reached_s = time.monotonic() - began
            await fault()
            (self.bridge.directory / "reached").unlink()
            if not self.bridge.daemon.running:
                self.bridge.daemon.process = None
                self.start()
            if PARK in TRIGGERS.get(probe, ()):
                await self.ask(PAY)
            await eventually(self.bridge.daemon.well, deadline_s=CALM_S, every_s=0.2)
        finally:
            assert await shop.stop() > 0
        well_s = time.monotonic() - began
        compared = await eventually(self.compared, deadline_s=CALM_S, every_s=0.2)
        if MANY in TRIGGERS.get(probe, ()):
            await self.ask(FEW)  # the other rows are quicker without
        row = Row(probe, name, compared, time.monotonic() - began)
        print(_line(row), f"({reached_s:.1f}, {well_s:.1f})", flush=True)
        PAGE.write_text(_page([*_kept(), row]))

    async def reach(self, probe: str) -> None:
        """Have the daemon stop there."""
        (self.bridge.directory / "armed").write_text(probe)
        for statement in TRIGGERS.get(probe, ()):
            await self.ask(statement)
        reached = self.bridge.directory / "reached"
        await eventually(reached.exists, deadline_s=REACH_S)

    def start(self) -> None:
        self.bridge.daemon.start(hold=self.bridge.directory)

    def edit(self) -> None:
        """Write the file; another one each time, by what can be done in place."""
        self.edits += 1
        ttl = {"cheap/cache": f'ttl = "{self.edits}h"'}
        self.bridge.configure(VIEWS, source='wal_budget = "4MiB"', options=ttl)

    async def ask(self, what: str) -> None:
        """As an operator, from SQL; again where Postgres has just crashed."""

        async def asked() -> bool:
            try:
                await asyncio.to_thread(self.bridge.execute, what)
            except psycopg.OperationalError:
                return False
            return True

        match what:
            case "the file is edited":
                self.edit()
            case "an index is deleted":
                await self.lose()
            case "it is parked":
                await eventually(self.parked, deadline_s=REACH_S, every_s=0.2)
            case "nothing is built":
                left = "select 1 from bridge.command where finished_at is null"
                await eventually(
                    lambda: self.bridge.one(left) is None, deadline_s=REACH_S
                )
            case "something is built":
                await eventually(self.builds, deadline_s=REACH_S)
            case _:
                await eventually(asked, deadline_s=REACH_S, every_s=0.2)

    async def lose(self) -> None:
        """The live index of a view goes."""
        alias = f"{self.bridge.prefix}cheap"
        async with httpx.AsyncClient(
            base_url=self.bridge.es, trust_env=False
        ) as client:
            for index in (await client.get(f"/_alias/{alias}")).json():
                (await client.delete(f"/{index}")).raise_for_status()

    async def builds(self) -> bool:
        targets = (await self.bridge.daemon.status()).get("targets") or []
        return any(target["building"] for target in targets)

    async def parked(self) -> bool:
        status = await self.bridge.daemon.status()
        return any(sink["owed_keys"] for sink in status.get("sinks") or [])

    async def compared(self) -> dict[str, int] | None:
        """Documents by view once all equal SQL; None while some do not."""
        self.bridge.daemon.must_run()
        try:
            found = await differences(load(self.bridge.daemon.config))
        except BridgeError:
            return None
        if any(each.wrong or each.unsettled for each in found.values()):
            return None
        counts = dict.fromkeys(VIEWS, 0)
        for target, each in found.items():
            counts[target.rpartition(self.bridge.prefix)[2]] += each.checked
        return counts


def _saved(client: redis.Redis) -> Path:
    """The file of Redis."""
    options: dict[str, str] = client.config_get("dir", "dbfilename")
    return Path(options["dir"], options["dbfilename"])


def _line(row: Row) -> str:
    cells = " ".join(f"{row.compared[view]:8,}" for view in VIEWS)
    return f"{row.probe:24}{row.fault:26}{cells}   {row.seconds:5.1f} s"


def _kept() -> list[Row]:
    """The rows that stand in the page."""
    if not PAGE.exists():
        return []
    lines = PAGE.read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return [
        Row(
            probe.strip("`"),
            fault,
            {
                view: int(count.replace(",", ""))
                for view, count in zip(VIEWS, counts, strict=True)
            },
            0.0,
        )
        for probe, fault, *counts in cells
    ]


def _page(rows: list[Row]) -> str:
    last = {(row.probe, row.fault): row.compared for row in rows}
    heads = " | ".join(f"`{view}`: {SHAPES[view]}" for view in VIEWS)
    lines = [
        "# Crash matrix",
        "",
        "Written by `make crash`, on real servers under traffic: inserts, updates,",
        "deletes, moved keys, emptied tables. The daemon stops at a named point of its",
        "code (a probe), the fault happens there, and everything goes on. In each row",
        "every document of every view was then compared with SQL, in both sinks; the",
        "figures are documents compared. Differences: 0 in every cell.",
        "",
        f"| probe | fault | {heads} |",
        f"|---|---|{'---:|' * len(VIEWS)}",
    ]
    for (probe, fault), compared in sorted(last.items()):
        cells = " | ".join(f"{compared[view]:,}" for view in VIEWS)
        lines.append(f"| `{probe}` | {fault} | {cells} |")
    total = sum(sum(compared.values()) for compared in last.values())
    lines += ["", f"{len(last)} rows, {total:,} documents compared."]
    lines += ["A probe that is not listed was not stopped at."]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _bridge(servers: Servers, number: int) -> Iterator[Bridge]:
    """A new one, over the same servers."""
    dsn = create_database(servers.postgres.dsn, f"matrix{number}")
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute(SCHEMA.encode())
    with redis.Redis.from_url(servers.valkey.url) as client:
        client.flushall()  # it was the one's before
        _saved(client).unlink(missing_ok=True)
    es, cache, prefix = servers.elasticsearch.url, servers.valkey.url, f"m{number}-"
    with tempfile.TemporaryDirectory() as folder:
        bridge = Bridge(Path(folder), dsn, es, cache, prefix)
        try:
            yield bridge
        except BaseException:
            print(bridge.daemon.log.read_text()[-6000:], file=sys.stderr)
            raise
        finally:
            bridge.daemon.destroy()


def _rows(words: list[str]) -> list[tuple[str, str]]:
    """Probe and fault of those that have one of the words; of all without any."""
    found = product(sorted(probes.NAMES), FAULTS)
    return [
        (probe, fault)
        for probe, fault in found
        if not words or any(word in f"{probe} {fault}" for word in words)
    ]


def main() -> None:
    """Run it, print a line a row; exit code 1 when one was not right."""
    rows, wrong = _rows(sys.argv[1:]), list[str]()
    with running() as servers:
        while rows:
            try:
                with _bridge(servers, len(wrong)) as bridge:
                    asyncio.run(Matrix(bridge, servers).run(rows))
            except Exception:  # noqa: BLE001 - whatever it is, the others go on
                traceback.print_exc()
                wrong.append("/".join(rows.pop(0)))
                print(f"{wrong[-1]}: NOT RIGHT", flush=True)
            for server in (servers.postgres, servers.elasticsearch, servers.valkey):
                if not server.running:
                    server.start()
    if wrong:
        sys.exit(f"{len(wrong)} not right: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
