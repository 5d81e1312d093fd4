"""What the parts of the bench stand on: servers, databases, daemons, processor time.

The one thing to know: on a shared machine seconds say little, and seconds of processor
time a row say more; so each figure is followed by what each process spent on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bridge.dev import open_place
from bridge.dev.elasticsearch import ElasticsearchServer
from bridge.dev.keeper import descendants
from bridge.dev.postgres import PostgresServer
from bridge.dev.servers import Servers, started
from bridge.dev.valkey import ValkeyServer
from bridge.position import parse_lsn
from tests.scenario.harness import Daemon, unused_port

_LOOK_S = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")

Spent = Mapping[str, float]
"""Seconds of processor time by process."""


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Three servers set up for measuring."""
    with contextlib.closing(open_place()) as place:
        made = Servers(
            PostgresServer(
                place, settings={"shared_buffers": "512MB", "max_wal_size": "8GB"}
            ),
            ElasticsearchServer(place, heap="1g", fast_start=False),
            ValkeyServer(place),
        )
        with started(made):
            yield made


@dataclass
class Stand:
    """Three servers, and whatever is to be measured on them."""

    servers: Servers
    folder: Path
    rows: int
    number: int = 0

    def database(self, schema: str) -> tuple[str, str]:
        """A new database; its name, which is also the slot's and the target's, and
        its address."""
        self.number += 1
        name = f"bench{self.number}"
        with psycopg.connect(self.servers.postgres.dsn, autocommit=True) as admin:
            admin.execute(f"create database {name}")
        dsn = self.servers.postgres.dsn_of(name)
        execute(dsn, schema)
        return name, dsn

    def daemon(self, name: str, dsn: str, sink: str, view: str) -> Daemon:
        """A daemon that keeps one view, given as a line of TOML, in one sink."""
        http = f"127.0.0.1:{unused_port()}"
        options = {
            "elasticsearch": f'url = "{self.servers.elasticsearch.url}"',
            "redis": f'url = "{self.servers.valkey.url}"',
            "null": "",
        }[sink]
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[source]\ndsn = "{dsn}"\nslot = "{name}"\npublication = "{name}"\n'
            f'[daemon]\nhttp = "{http}"\n'
            f'[sinks.s]\ntype = "{sink}"\n{options}\n'
            f"[views.v]\n{view}\n"
            f'[[views.v.targets]]\nsink = "s"\nname = "{name}"\n'
        )
        return Daemon(path, http, fresh=True)

    def spent(self, daemon: Daemon | None = None) -> Spent:
        """What each process has used so far. `client` is the bench itself, which makes
        the ceilings and otherwise only looks."""
        found = {
            "postgres": _tree(self.servers.postgres.pid),
            "elasticsearch": _tree(self.servers.elasticsearch.pid),
            "valkey": _tree(self.servers.valkey.pid),
        }
        if daemon is None:
            return {"client": sum(os.times()[:4]), **found}
        assert daemon.process is not None
        return {"daemon": _own(daemon.process.pid), **found}


@dataclass
class Measured:
    """One run: its seconds, and what it took of each process."""

    seconds: float
    spent: Spent


async def until(
    stand: Stand, daemon: Daemon, reached: Callable[[dict[str, Any]], bool]
) -> Measured:
    """From the opening of the stream until the target is where it should be."""
    began: float | None = None
    before: Spent = {}
    base = f"http://{daemon.http}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, verify=False) as http:
        while True:
            daemon.must_run()
            status = await _status(http)
            target = (status.get("targets") or [None])[0]
            if began is None and status.get("source", {}).get("state") == "streaming":
                began, before = time.perf_counter(), stand.spent(daemon)
            if target is not None and target["state"] == "halted":
                raise AssertionError(target["reason"])
            if began is not None and target is not None and reached(target):
                took = time.perf_counter() - began
                return Measured(took, less(stand.spent(daemon), before))
            await asyncio.sleep(_LOOK_S)


async def _status(http: httpx.AsyncClient) -> dict[str, Any]:
    try:
        return dict((await http.get("/status", timeout=5.0)).json())
    except httpx.HTTPError:
        return {}


def is_live(target: dict[str, Any]) -> bool:
    """The target is built and readers see it."""
    return bool(target["state"] == "live")


def stands_at(lsn: str) -> Callable[[dict[str, Any]], bool]:
    """Everything up to there is in the target, which may stand nowhere yet."""
    wanted = parse_lsn(lsn)

    def reached(target: dict[str, Any]) -> bool:
        position = target["position"]
        return bool(position) and parse_lsn(position.partition(":")[2]) >= wanted

    return reached


def ceiling(stand: Stand, run: Callable[[], float]) -> Measured:
    """What the servers allow, by a run that tells its own seconds."""
    before = stand.spent()
    seconds = run()
    return Measured(seconds, less(stand.spent(), before))


def execute(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements one by one, each in its own transaction; the last one's rows."""
    with psycopg.connect(dsn, autocommit=True) as own:
        for statement in statements:
            cursor = own.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def flushed(dsn: str) -> str:
    """Where the log ends now."""
    return str(execute(dsn, "select pg_current_wal_flush_lsn()")[0][0])


def less(after: Spent, before: Spent) -> Spent:
    """What was spent between two looks."""
    return {name: seconds - before[name] for name, seconds in after.items()}


def show(what: str, rows: int, unit: str, run: Measured) -> None:
    """One line: the rate, and what it cost."""
    print(f"{what:30}{rows / run.seconds:>9,.0f} {unit}", flush=True)
    print(_costs(rows, run), flush=True)


def compare(
    what: str, rows: int, unit: str, run: Measured, of: str, allowed: Measured
) -> None:
    """The rate, its ratio to what the servers allow, and what both cost."""
    print(
        f"{what:30}{rows / run.seconds:>9,.0f} {unit:12}"
        f"{allowed.seconds / run.seconds:5.2f} of {of} {rows / allowed.seconds:,.0f}",
    )
    print(_costs(rows, run))
    print(_costs(rows, allowed, f"{of}:"), flush=True)


def note(text: str) -> None:
    """A line below a figure."""
    print(f"{'':30}{text}", flush=True)


def _costs(rows: int, run: Measured, of: str = "") -> str:
    parts = [
        f"{name} {seconds * 1e5 / rows:.2f}"
        for name, seconds in run.spent.items()
        if seconds * 1e5 / rows >= 0.005
    ]
    total = sum(run.spent.values()) * 1e5 / rows
    return f"  {of:10}CPU s per 100,000: {total:.2f} ({', '.join(parts)})"


def _own(pid: int) -> float:
    """Processor seconds of a process and of children that it has waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / _TICKS


def _tree(pid: int) -> float:
    return sum(map(_own, [pid, *descendants(pid)]))
