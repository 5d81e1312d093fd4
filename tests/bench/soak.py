"""`make soak`: mixed traffic and every kind of fault, for as long as one likes.

The daemon runs behind fault proxies, over servers that are restarted, paused and
emptied. In the first third it is killed and stopped as well; the rest is one life, of
which the resident memory has to stay flat. Every few minutes the writers rest, and all
documents of all targets have to be what SQL says.

The one thing to know: `python -m tests.bench.soak MINUTES [SEED]`; without arguments
30 minutes of seed 1. It prints a line a fault, and the table at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg
import redis

from bridge.dev import open_place
from bridge.dev.elasticsearch import ElasticsearchServer
from bridge.dev.local import LocalServer
from bridge.dev.postgres import PostgresServer, create_database
from bridge.dev.servers import Servers, started
from bridge.dev.valkey import ValkeyServer
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.waiting import eventually
from tests.scenario.faults import NETWORK
from tests.scenario.harness import exact
from tests.scenario.shop import SCHEMA, VIEWS, Shop
from tests.scenario.world import Bridge

MINUTES = 30.0
CALM_S = 900.0
"""A fault has to be over so long after it was healed."""
CHECK_S = 240.0
SAMPLE_S = 1.0
GROWTH_MAX = 1.25
"""Of the median memory of the last fifth to that of the first, warm-up left out."""


@dataclass
class Soak:
    """One run."""

    bridge: Bridge
    servers: Servers
    proxies: dict[str, FaultProxy]
    dice: random.Random
    minutes: float
    began_s: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    lives: int = 0
    samples: list[tuple[int, float, int]] = field(default_factory=list, repr=False)
    """Life of the daemon, seconds since the start, resident bytes."""

    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s

    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Every fault by name; each is over when its call returns."""
        found: dict[str, Callable[[], Awaitable[None]]] = {}
        for server, proxy in self.proxies.items():
            for name in NETWORK:
                found[f"{server}: {name}"] = lambda p=proxy, n=name: self.network(p, n)
        for name, server in (
            ("postgres", self.servers.postgres),
            ("elasticsearch", self.servers.elasticsearch),
            ("valkey", self.servers.valkey),
        ):
            found[f"{name}: restarted"] = lambda s=server: asyncio.to_thread(s.restart)
            found[f"{name}: paused"] = lambda s=server: self.paused(s)
        postgres = self.servers.postgres
        found["postgres: crashed"] = lambda: asyncio.to_thread(
            postgres.restart, "immediate"
        )
        found["valkey: emptied"] = self.emptied
        found["search paused by the operator"] = self.pause_sink
        if self.elapsed_s() < self.minutes * 20:  # the first third
            found["daemon: killed"] = self.killed
            found["daemon: stopped"] = self.stopped
        return found

    async def network(self, proxy: FaultProxy, name: str) -> None:
        await NETWORK[name](proxy, self.dice)
        await asyncio.sleep(self.dice.uniform(1.0, 8.0))
        await proxy.heal()

    async def paused(self, server: LocalServer) -> None:
        """SIGSTOP for a while, as when the machine is out of breath."""
        process = server._process
        assert process is not None
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(1.0, 8.0))
        process.signal(signal.SIGCONT)

    async def emptied(self) -> None:
        with redis.Redis.from_url(self.servers.valkey.url) as client:
            client.flushall()

    async def pause_sink(self) -> None:
        with psycopg.connect(self.servers.postgres.dsn_of("soak")) as own:
            own.execute("select bridge.pause('search')")
        await asyncio.sleep(self.dice.uniform(1.0, 10.0))
        with psycopg.connect(self.servers.postgres.dsn_of("soak")) as own:
            own.execute("select bridge.resume('search')")

    async def killed(self) -> None:
        await self.bridge.daemon.kill()
        self.start()

    async def stopped(self) -> None:
        assert await self.bridge.daemon.stop() == 0
        self.start()

    def start(self) -> None:
        self.lives += 1
        self.bridge.daemon.start()

    async def level(self) -> bool:
        """Whether everything goes its way again."""
        status = await self.bridge.daemon.status()
        return await self.bridge.daemon.well() and all(
            (target["lag_seconds"] or 0) < 5 for target in status.get("targets") or []
        )

    async def equal(self) -> bool:
        """Whether every document of every target is what SQL says."""
        self.bridge.daemon.must_run()
        await exact(self.bridge.daemon.config, empty=True)
        return True

    async def sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            with contextlib.suppress(AssertionError, OSError, IndexError):
                resident = self.bridge.daemon.resident_bytes()
                self.samples.append((self.lives, self.elapsed_s(), resident))

    async def run(self) -> None:
        self.bridge.configure(VIEWS, via=self.proxies["postgres"].url)
        self.start()
        await eventually(self.level, deadline_s=CALM_S, every_s=0.5)
        sampling = asyncio.create_task(self.sample())
        number = 0
        while self.elapsed_s() < self.minutes * 60:
            number += 1
            shop = Shop(self.servers.postgres.dsn_of("soak"), f"{self.dice.random()}")
            rest_s = min(self.elapsed_s() + CHECK_S, self.minutes * 60)
            while self.elapsed_s() < rest_s:
                await self.fault()
            committed = await shop.stop()
            await eventually(self.equal, deadline_s=CALM_S, every_s=1.0)
            self.checks += 1
            self.say(f"{committed:,} transactions, all targets equal SQL")
        sampling.cancel()
        assert await self.bridge.daemon.stop() == 0

    async def fault(self) -> None:
        """One fault, or two at once, and all is well again."""
        kinds = self.kinds()
        chosen = self.dice.sample(sorted(kinds), self.dice.choice((1, 1, 2)))
        began = time.monotonic()
        self.say(f"{' + '.join(chosen)} …")
        await asyncio.gather(*(kinds[kind]() for kind in chosen))
        healed = time.monotonic()
        for server in ("postgres", "elasticsearch", "valkey"):
            await self.proxies[server].heal()
        await eventually(self.level, deadline_s=CALM_S, every_s=0.5)
        self.faults.update(chosen)
        lasted, took = healed - began, time.monotonic() - healed
        self.say(f"{' + '.join(chosen)}: {lasted:.1f} s, level {took:.1f} s later")
        await asyncio.sleep(self.dice.uniform(0.0, 5.0))

    def say(self, what: str) -> None:
        print(f"{self.elapsed_s() / 60:6.1f} min  {what}", flush=True)

    def report(self) -> bool:
        """Print the table; whether memory stayed flat."""
        print(f"\n{'fault':36}{'times':>6}")
        for kind, count in sorted(self.faults.items()):
            print(f"{kind:36}{count:6}")
        print(f"{'lives of the daemon':36}{self.lives:6}")
        print(f"{'comparisons, zero differences':36}{self.checks:6}")
        last = [(at, size) for life, at, size in self.samples if life == self.lives]
        sizes = [size for _, size in last]
        warm = sizes[len(sizes) // 5 :]
        fifth = max(1, len(warm) // 5)
        first, end = median(warm[:fifth]), median(warm[-fifth:])
        mib = 2.0**20
        print(
            f"\nresident memory of the last life ({(last[-1][0] - last[0][0]) / 60:.1f}"
            f" min): {first / mib:.0f} MiB after warm-up, {end / mib:.0f} MiB at the"
            f" end, {max(sizes) / mib:.0f} MiB at most"
        )
        flat = end <= first * GROWTH_MAX
        print("flat" if flat else f"NOT FLAT: grew by {end / first:.2f}")
        return flat


@contextlib.contextmanager
def _servers() -> Iterator[Servers]:
    with contextlib.closing(open_place()) as place:
        servers = Servers(
            PostgresServer(place),
            ElasticsearchServer(place, heap="512m"),
            ValkeyServer(place, options=("--appendonly", "yes")),
        )
        with started(servers):
            yield servers


async def _run(servers: Servers, folder: Path, minutes: float, seed: int) -> bool:
    dsn = create_database(servers.postgres.dsn, "soak")
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute(SCHEMA.encode())
    proxies = {
        "postgres": FaultProxy(dsn),
        "elasticsearch": FaultProxy(servers.elasticsearch.url),
        "valkey": FaultProxy(servers.valkey.url),
    }
    for proxy in proxies.values():
        await proxy.start()
    search, cache = proxies["elasticsearch"].url, proxies["valkey"].url
    bridge = Bridge(folder, dsn, search, cache, "soak-")
    soak = Soak(bridge, servers, proxies, random.Random(seed), minutes)
    try:
        await soak.run()
        return soak.report()
    except BaseException:
        if bridge.daemon.log.exists():
            print(bridge.daemon.log.read_text()[-6000:])
        raise
    finally:
        bridge.daemon.destroy()
        for proxy in proxies.values():
            await proxy.close()


def main() -> int:
    """Run it; 1 when memory grew, an error when a document differed."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with _servers() as servers, tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(_run(servers, Path(folder), minutes, seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
