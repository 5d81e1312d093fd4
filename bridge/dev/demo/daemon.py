"""The bridge as a process of its own: `pgbridge apply`, then `pgbridge run`.

The one thing to know: it runs below a keeper, so that it ends when the demo does,
however that ends.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bridge.dev.demo.witness import Pages, loads
from bridge.dev.place import Place, plain_environment
from bridge.dev.process import Order, Process
from bridge.dev.servers import Servers
from bridge.errors import Halt, Transient

_COMMAND = (sys.executable, "-c", "from bridge.cli import main; main()")
_STOP_DEADLINE_S = 30.0
_LATENCY = "pgbridge_commit_to_kept_seconds"


@dataclass(frozen=True, slots=True)
class Latency:
    """Sum in seconds, and number, of what a target has kept since the start."""

    seconds: float = 0.0
    changes: float = 0.0


class Daemon:
    """One `pgbridge run` with a configuration of its own."""

    def __init__(self, place: Place, servers: Servers, database: str) -> None:
        """`database` is the dsn of the shop, as its owner."""
        self._place = place
        self._port = place.port()
        self._folder = place.directory("demo")
        self._process: Process | None = None
        address = f"127.0.0.1:{self._port.number}"
        self._pages = Pages(f"http://{address}")
        self.config = self._folder / "pgbridge.toml"
        text = Template(files(__package__).joinpath("pgbridge.toml").read_text("utf-8"))
        self.config.write_text(
            text.substitute(
                dsn=database.replace("//postgres@", "//bridge@"),
                admin_dsn=database,
                http=address,
                search=servers.elasticsearch.url,
                cache=servers.valkey.url,
            )
        )

    def apply(self) -> None:
        """Make schema, publication, slot and empty targets. Halt when it fails."""
        done = subprocess.run(
            [*_COMMAND, "apply", "-c", str(self.config)],
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Halt(f"`pgbridge apply` failed: {done.stdout.strip()}")

    def start(self) -> None:
        """Run the daemon."""
        self._process = Process(
            self._place,
            Order(
                argv=(*_COMMAND, "run", "-c", str(self.config)),
                cwd=self._folder,
                log=self._folder / "daemon.log",
                environment=plain_environment(),
                remove=self._folder,
            ),
        )

    async def status(self) -> dict[str, Any]:
        """Its status document; empty while it does not answer. Halt when it ended."""
        _, content = await self._page("/status")
        return loads(content) if content else {}

    async def latencies(self) -> dict[str, Latency]:
        """From commit to kept, by SINK/NAME, since its start."""
        _, content = await self._page("/metrics")
        sums: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(content.decode()):
            if family.name == _LATENCY:
                for sample in family.samples:
                    target = f"{sample.labels['sink']}/{sample.labels['name']}"
                    sums[target, sample.name.removeprefix(_LATENCY)] = sample.value
        return {
            target: Latency(sums[target, "_sum"], sums[target, "_count"])
            for target, what in sums
            if what == "_count"
        }

    def tail(self) -> str:
        """The end of its log."""
        return self._process.tail().strip() if self._process else ""

    async def _page(self, path: str) -> tuple[int, bytes]:
        if self._process is not None and not self._process.running:
            raise Halt(f"the daemon ended: {self.tail()}")
        try:
            return await self._pages.get(path)
        except Transient:
            return http.client.SERVICE_UNAVAILABLE, b""

    def close(self) -> None:
        """Stop it in order, and remove its directory."""
        self._pages.close()
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
            self._process.wait(_STOP_DEADLINE_S)
        self._place.remove(self._folder)
        self._port.release()


def mean_s(before: Latency, now: Latency) -> float | None:
    """Between two looks, the mean of a change's time; None when nothing came."""
    changes = now.changes - before.changes
    return (now.seconds - before.seconds) / changes if changes > 0 else None


def own_place(place: Place) -> Place:
    """The same cache, for processes that run as ourselves."""
    return Place(place.root, None)


def shop_sql() -> str:
    """The statements that make the shop."""
    return files(__package__).joinpath("shop.sql").read_text("utf-8")
