"""`pgbridge dev up` and `dev down`: servers that outlive the command.

The one thing to know: a directory holds the state file, which says what runs, and the
data lies in the cache, where the servers' user may go. A process is known by its pid
and its start time, so that a number that is used again is never killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.dev import elasticsearch, keeper, postgres, valkey
from bridge.dev.place import Place, open_place
from bridge.dev.process import POLL_S, is_running, started_at
from bridge.errors import Halt

STATE_FILE = "servers.json"
CONFIG_FILE = "pgbridge.toml"
STOP_DEADLINE_S = 30.0
NAMES = ("postgres", "elasticsearch", "redis")
CONFIG = """\
# Written by `pgbridge dev up`; add your views below.
[source]
dsn = "{postgres}"

[sinks.search]
type = "elasticsearch"
url = "{elasticsearch}"

[sinks.cache]
type = "redis"
url = "{redis}"

# [views.product]
# table = "public.product"
#
# [[views.product.targets]]
# sink = "search"
#
# [[views.product.targets]]
# sink = "cache"
"""
# Taken where they are free: easy to remember, and away from the servers' own defaults.
POSTGRES_PORT, ELASTICSEARCH_PORT, VALKEY_PORT = 25432, 29200, 26379


@dataclass(frozen=True, slots=True)
class Running:
    """One detached server: its address, and what names its process for ever."""

    address: str
    port: int
    pid: int
    started: int
    stop_signal: int

    @property
    def alive(self) -> bool:
        """Whether that very process is still running."""
        return is_running(self.pid) and started_at(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three servers listen."""

    postgres: str
    elasticsearch: str
    redis: str


def up(directory: Path, config: Path | None = None) -> Addresses:
    """Start what is not running yet, say where everything listens, and write `config`
    (default: in the directory) where there is none.

    Safe to call again: what runs is left alone, what died comes back on the same data.
    """
    place = open_place()
    data = _data_directory(place, directory)
    directory.mkdir(parents=True, exist_ok=True)
    before = _read(directory)
    starts = dict(
        zip(NAMES, (_up_postgres, _up_elasticsearch, _up_valkey), strict=True)
    )
    missing = [name for name in starts if name not in before or not before[name].alive]
    state = {name: before[name] for name in before if name not in missing}
    failed: Exception | None = None
    with ThreadPoolExecutor(len(starts)) as pool:
        futures = {
            name: pool.submit(starts[name], place, data, before.get(name))
            for name in missing
        }
        names = {future: name for name, future in futures.items()}
        for future in as_completed(names):
            try:
                state[names[future]] = future.result()
            except (Halt, OSError) as problem:
                failed = failed or problem
            # At once: what did start must be found by `down`, whatever comes next.
            _write(directory, state)
    if failed:
        raise _with_what_runs(failed, state)
    addresses = _addresses(state)
    config = config or directory / CONFIG_FILE
    if not config.exists():
        config.write_text(CONFIG.format(**addresses))
    return Addresses(**addresses)


def _with_what_runs(failed: Exception, state: dict[str, Running]) -> Exception:
    """The failure of one server, beside which the others are not forgotten."""
    running = [name for name, server in state.items() if server.alive]
    if not running or not isinstance(failed, Halt):
        return failed
    others = f"{' and '.join(running)} did start: `pgbridge dev down` stops what runs"
    return Halt(failed.message, hint=f"{failed.hint}; {others}".removeprefix("; "))


def down(directory: Path, config: Path | None = None, *, keep: bool = False) -> int:
    """Stop what `up` started; how many servers that were. Their data goes, unless kept,
    and the configuration, unless somebody has written into it.

    Safe to call again, and where nothing was ever started.
    """
    place = open_place()
    state = _read(directory)
    alive = [server for server in state.values() if server.alive]
    for server in alive:
        os.kill(server.pid, server.stop_signal)
    deadline = time.monotonic() + STOP_DEADLINE_S
    while still := [server for server in alive if server.alive]:
        if time.monotonic() > deadline:
            for server in still:
                keeper.kill_all([server.pid, *keeper.descendants(server.pid)])
        time.sleep(POLL_S)
    if not keep:
        config = config or directory / CONFIG_FILE
        ours = {**dict.fromkeys(NAMES, ""), **_addresses(state)}
        if config.exists() and config.read_text() == CONFIG.format(**ours):
            config.unlink()  # nobody has written anything into it
        shutil.rmtree(_data_directory(place, directory), ignore_errors=True)
        (directory / STATE_FILE).unlink(missing_ok=True)
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    return len(alive)


def _up_postgres(place: Place, data: Path, before: Running | None) -> Running:
    server = postgres.PostgresServer(
        place,
        settings={"fsync": "on", "full_page_writes": "on"},
        directory=data / "postgres",
        wanted_port=before.port if before else POSTGRES_PORT,
        detached=True,
    )
    server.start()
    return _running(server.dsn, server.port, server.pid, signal.SIGINT)


def _up_elasticsearch(place: Place, data: Path, before: Running | None) -> Running:
    server = elasticsearch.ElasticsearchServer(
        place,
        directory=data / "elasticsearch",
        wanted_port=before.port if before else ELASTICSEARCH_PORT,
        detached=True,
    )
    server.start()
    return _running(server.url, server.port, server.pid, signal.SIGTERM)


def _up_valkey(place: Place, data: Path, before: Running | None) -> Running:
    server = valkey.ValkeyServer(
        place,
        options=("--appendonly", "yes"),
        directory=data / "valkey",
        wanted_port=before.port if before else VALKEY_PORT,
        detached=True,
    )
    server.start()
    return _running(server.url, server.port, server.pid, signal.SIGTERM)


def _addresses(state: dict[str, Running]) -> dict[str, str]:
    return {name: server.address for name, server in state.items()}


def _running(address: str, port: int, pid: int, stop: signal.Signals) -> Running:
    return Running(address, port, pid, started_at(pid), int(stop))


def _data_directory(place: Place, directory: Path) -> Path:
    """Below the cache, named after the directory it belongs to."""
    real = directory.resolve()  # the same by whatever way one came there
    return place.root / "dev" / f"{real.name}-{zlib.crc32(str(real).encode()):08x}"


def _read(directory: Path) -> dict[str, Running]:
    try:
        text = (directory / STATE_FILE).read_text()
    except FileNotFoundError:
        return {}
    try:
        return {name: Running(**entry) for name, entry in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise Halt(
            f"{directory / STATE_FILE} is not what `pgbridge dev up` wrote",
            hint="delete it; servers that still run must then be stopped by hand",
        ) from None


def _write(directory: Path, state: dict[str, Running]) -> None:
    text = json.dumps(
        {name: asdict(server) for name, server in state.items()}, indent=2
    )
    fresh = directory / f"{STATE_FILE}.new"
    fresh.write_text(text + "\n")
    fresh.replace(directory / STATE_FILE)
