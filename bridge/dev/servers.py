"""All three servers at once, for the demo and for whoever needs the whole.

The one thing to know: they start at the same time, and when one cannot, the others are
closed again before the error is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.dev.elasticsearch import ElasticsearchServer
from bridge.dev.place import Place, open_place
from bridge.dev.postgres import PostgresServer
from bridge.dev.valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class Servers:
    """Three servers that are running; `.dsn`, `.url` and `.url` are their addresses."""

    postgres: PostgresServer
    elasticsearch: ElasticsearchServer
    valkey: ValkeyServer


@contextmanager
def running(place: Place | None = None, *, heap: str = "512m") -> Iterator[Servers]:
    """Start the three; on leaving, close them and remove what they stored.

    Raises `Halt` when a package or a JDK is missing, saying which and what to install.
    """
    opened = place or open_place()
    try:
        servers = Servers(
            PostgresServer(opened),
            ElasticsearchServer(opened, heap=heap),
            ValkeyServer(opened),
        )
        with started(servers):
            yield servers
    finally:
        if place is None:
            opened.close()


@contextmanager
def started(servers: Servers) -> Iterator[None]:
    """Start three that are made; on leaving, close them."""
    try:
        _start(servers)
        yield
    finally:
        for server in (servers.valkey, servers.elasticsearch, servers.postgres):
            server.close()


def _start(servers: Servers) -> None:
    """Start the three at the same time; the first error is raised when all are done.

    Ctrl-C kills those that are still starting, rather than wait for them.
    """
    starts = (
        servers.elasticsearch.start,
        servers.postgres.start,
        servers.valkey.start,
    )
    with ThreadPoolExecutor(len(starts)) as pool:
        futures = [pool.submit(start) for start in starts]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            for server in (servers.elasticsearch, servers.postgres, servers.valkey):
                server.kill()
            raise
