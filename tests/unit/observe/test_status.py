"""What the daemon tells of its targets."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.batch import FanOut
from bridge.control.letters import generation_key
from bridge.observe.metrics import Metrics
from bridge.observe.status import SourceStatus, Status
from bridge.sink import Generation
from tests.unit.parts import GENERATION, LaneBench

AGO_S = 500.0


class Shown:
    """A live target that the stream feeds, of a source that is at 1000."""

    def __init__(self) -> None:
        self.bench = LaneBench()
        self.bench.ledger.start(1000)
        self.live: Generation | None = GENERATION
        self.building: set[Generation] = set()
        self.halted: dict[tuple[str, str], str] = {}
        self.since = {
            generation_key(GENERATION): datetime.fromtimestamp(time.time() - AGO_S, UTC)
        }

    def status(self) -> Status:
        """What tells of it."""
        target = GENERATION.target
        life = SimpleNamespace(
            live=lambda *_: self.live,
            previous=lambda *_: None,
            building=self.building,
            documents={},
            differing={},
            under_way=[],
        )
        pipeline = SimpleNamespace(
            ledger=self.bench.ledger,
            fan_out=FanOut(self.bench.ledger),
            streaming=True,
            epoch=1,
        )
        assembly = SimpleNamespace(
            epoch=1,
            pipeline=pipeline,
            lanes={target.sink: self.bench.lane},
            targets={(target.sink, target.name): target},
            halted=self.halted,
            stale={},
            config=SimpleNamespace(sinks={target.sink: SimpleNamespace(type="null")}),
        )
        heard = cast(Any, SimpleNamespace(heard_s=time.monotonic()))
        known = SourceStatus(server_lsn=1500, capture=heard)
        return Status(cast(Any, assembly), cast(Any, life), known, self.since)

    def target(self) -> dict[str, Any]:
        """As it is told."""
        (found,) = self.status().document()["targets"]
        return cast(dict[str, Any], found)

    def metrics(self) -> str:
        """The same as metrics."""
        metrics = Metrics()
        metrics.take_status(self.status().document())
        return metrics.text().decode()


def test_a_target_that_is_fed_is_where_the_stream_is() -> None:
    shown = Shown()
    found = shown.target()
    assert (found["state"], found["position"]) == ("live", "1:0/3E8")
    assert (found["lag_bytes"], found["lag_seconds"]) == (500, 0.0)
    assert "pgbridge_lag_seconds{" in shown.metrics()
    assert shown.status().ready(60.0, 30.0).ready


@pytest.mark.parametrize("halted", [True, False], ids=["refused", "displaced"])
def test_a_live_target_that_nothing_feeds_stands_nowhere_and_falls_behind(
    halted: bool,
) -> None:
    """Its view is refused, or a newer one takes its place under the same keys."""
    shown = Shown()
    shown.bench.lane.remove(GENERATION)
    if halted:
        shown.halted[GENERATION.target.sink, GENERATION.target.name] = "refused"
    found = shown.target()
    assert found["state"] == ("halted" if halted else "live")
    assert (found["position"], found["lag_bytes"]) == (None, None)
    assert AGO_S <= found["lag_seconds"] < AGO_S + 60
    assert "pgbridge_lag_bytes{" not in shown.metrics()
    assert not shown.status().ready(60.0, 30.0).ready


def test_how_far_behind_is_not_known_is_not_told_as_level() -> None:
    shown = Shown()
    shown.bench.lane.remove(GENERATION)
    shown.since.clear()
    for live in (GENERATION, None):
        shown.live = live
        found = shown.target()
        lags = found["position"], found["lag_bytes"], found["lag_seconds"]
        assert lags == (None, None, None)
        assert "pgbridge_lag_seconds{" not in shown.metrics()
        assert 'pgbridge_generation{name="name"' in shown.metrics()
        assert shown.status().ready(60.0, 30.0).ready is (live is None)
