"""`make crash`: every probe, with every fault at it, over every shape of view.

The daemon stops at a named point of its code; there a server crashes, or the daemon
dies; then everything goes on, and in the end every document of every view in both
sinks has to be what SQL says. Writers change rows all the while.

The one thing to know: `python -m tests.scenario.matrix [WORD…]` takes the rows whose
probe or fault has one of these words; each row is put into `docs/crash-matrix.md` when
it is right, in the place of what an earlier run has put there.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psycopg

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
REACH_S, CALM_S = 180.0, 600.0
MANY = """
insert into item select g, g % 20 + 1, 'far ' || g, g % 97, null
from generate_series(10001, 14500) g on conflict do nothing
"""
"""So many documents of a few rows that they are derived in pieces."""
SPREAD = "update category set name = name || '.'"
REBUILD = "select bridge.backfill('product', rebuild => true)"
PARK = "select bridge.pause('cache')"
FILL = "update item set note = repeat('much ', 700)"
PAY = "select bridge.resume('cache')"
TRIGGERS: dict[str, tuple[str, ...]] = {
    "derive.piece": (MANY, SPREAD),
    "backfill.chunk": (REBUILD,),
    "backfill.kept": (REBUILD,),
    "generation.prepared": (REBUILD,),
    "generation.publish": (REBUILD,),
    "generation.published": (REBUILD,),
    "parking.parked": (PARK, FILL),
    "parking.recorded": (PARK, FILL),
    "parking.paid": (PARK, FILL, PAY),
}
"""What brings the daemon to a probe, where changing rows alone does not."""


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

    def faults(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name; each is over when its call returns."""
        servers = self.servers
        return {
            "daemon killed": self.killed,
            "Postgres crashes": lambda: self.crashed(servers.postgres),
            "Elasticsearch killed": lambda: self.crashed(servers.elasticsearch),
            "Redis comes back empty": lambda: self.crashed(servers.valkey),
            "daemon and Postgres": self.both,
        }

    async def killed(self) -> None:
        await self.bridge.daemon.kill()

    async def crashed(self, server: LocalServer) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)  # type: ignore[attr-defined]

    async def both(self) -> None:
        await self.killed()
        await self.crashed(self.servers.postgres)

    async def run(self, words: list[str]) -> None:
        """All rows that have one of the words; all there are without any."""
        self.bridge.configure(VIEWS, source='wal_budget = "4MiB"')
        self.start()
        await self.bridge.ready()
        for probe in sorted(probes.NAMES):
            for name, fault in self.faults().items():
                if not words or any(word in f"{probe} {name}" for word in words):
                    await self.row(probe, name, fault)

    async def row(
        self, probe: str, name: str, fault: Callable[[], Awaitable[None]]
    ) -> None:
        """Have the fault at the probe, and compare everything."""
        began = time.monotonic()
        shop = Shop(self.servers.postgres.dsn_of("matrix"), f"{probe}/{name}")
        armed, reached = (
            self.bridge.directory / "armed",
            self.bridge.directory / "reached",
        )
        armed.write_text(probe)
        for statement in TRIGGERS.get(probe, ()):
            if statement is PAY:
                await eventually(self.parked, deadline_s=REACH_S, every_s=0.2)
            await self.ask(statement)
        await eventually(reached.exists, deadline_s=REACH_S)
        await fault()
        reached.unlink()
        if not self.bridge.daemon.running:
            self.bridge.daemon.process = None
            self.start()
        for statement in TRIGGERS.get(probe, ()):
            if statement is PARK:
                await self.ask(PAY)
        await eventually(self.bridge.daemon.well, deadline_s=CALM_S, every_s=0.2)
        assert await shop.stop() > 0
        compared = await eventually(self.compared, deadline_s=CALM_S, every_s=0.2)
        row = Row(probe, name, compared, time.monotonic() - began)
        print(_line(row), flush=True)
        PAGE.write_text(_page([*_kept(), row]))

    def start(self) -> None:
        self.bridge.daemon.start(hold=self.bridge.directory)

    async def ask(self, statement: str) -> None:
        """As an operator, from SQL; again where Postgres has just crashed."""

        async def asked() -> bool:
            try:
                await asyncio.to_thread(self.bridge.execute, statement)
            except psycopg.OperationalError:
                return False
            return True

        await eventually(asked, deadline_s=REACH_S, every_s=0.2)

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
            counts[target.rpartition("matrix-")[2]] += each.checked
        return counts


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
def _bridge(servers: Servers) -> Iterator[Bridge]:
    dsn = create_database(servers.postgres.dsn, "matrix")
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute(SCHEMA.encode())
        own.execute(MANY.encode())
    with tempfile.TemporaryDirectory() as folder:
        bridge = Bridge(
            Path(folder), dsn, servers.elasticsearch.url, servers.valkey.url, "matrix-"
        )
        try:
            yield bridge
        except BaseException:
            print(bridge.daemon.log.read_text()[-6000:], file=sys.stderr)
            raise
        finally:
            bridge.daemon.destroy()


def main() -> None:
    """Run it, print a line a row."""
    with running() as servers, _bridge(servers) as bridge:
        asyncio.run(Matrix(bridge, servers).run(sys.argv[1:]))


if __name__ == "__main__":
    main()
