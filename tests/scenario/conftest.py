"""A bridge of the test's own, over shared servers or over those it is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.scenario.world import ROLE, Bridge

NOT_YET = frozenset(
    f"test_{name}"
    for name in (
        *("cache_losses", "crash", "history", "leaving", "life_kills"),
        *("load", "other_history", "promotion", "random_views", "search_losses"),
        *("servers", "verify", "views", "visibility"),
    )
)
"""Scenarios whose daemon is a superuser: not seen to pass under the least role yet."""


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
    """A maker of bridges over Postgres servers of the test's own."""
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
def bridge(
    request: pytest.FixtureRequest, database: str, make_bridge: MakeBridge
) -> Bridge:
    """A bridge over a new database on the shared Postgres 18 and the shared sinks; its
    daemon has the least role that can run it."""
    made = make_bridge(database)
    if request.module.__name__.rpartition(".")[2] not in NOT_YET:
        made.role = ROLE
    return made
