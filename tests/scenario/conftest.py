"""A bridge of the test's own, over shared servers or over those it is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.scenario.world import Bridge


class MakeBridge(Protocol):
    """Makes a bridge; its daemon is killed when the test ends."""

    def __call__(
        self, dsn: str, *, es: str | None = None, redis: str | None = None
    ) -> Bridge:
        """Not configured and not started; shared sinks where none are given."""


@pytest.fixture
def make_bridge(
    tmp_path: Path, es_url: str, es_prefix: str, redis_url: str
) -> Iterator[MakeBridge]:
    """A maker of bridges over Postgres servers of the test's own; their daemons have
    the least role that can run them."""
    made: list[Bridge] = []

    def make(dsn: str, *, es: str | None = None, redis: str | None = None) -> Bridge:
        bridge = Bridge(tmp_path, dsn, es or es_url, redis or redis_url, es_prefix)
        made.append(bridge)
        return bridge

    yield make
    for bridge in made:
        bridge.daemon.destroy()
        if bridge.daemon.log.exists():
            print(bridge.daemon.log.read_text()[-8000:])  # shown where a test failed


@pytest.fixture
def bridge(database: str, make_bridge: MakeBridge) -> Bridge:
    """A bridge over a new database on the shared Postgres 18 and the shared sinks."""
    return make_bridge(database)
