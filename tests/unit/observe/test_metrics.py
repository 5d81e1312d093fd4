"""What the status document tells as gauges."""

from __future__ import annotations

from bridge.observe.metrics import Metrics

TARGET = {"view": "item", "sink": "search", "name": "items", "state": "building"}


def test_what_waits_for_a_sink_is_told() -> None:
    metrics = Metrics()
    sink = {"name": "search", "state": "ok", "waiting_bytes": 7, "in_flight": 2}
    metrics.take_status({"sinks": [sink]})
    text = metrics.text().decode()
    assert 'pgbridge_lane_bytes{sink="search"} 7.0' in text
    assert 'pgbridge_in_flight{sink="search"} 2.0' in text


def test_a_target_that_is_nowhere_yet_is_not_shown_as_level() -> None:
    metrics = Metrics()
    metrics.take_status({"targets": [TARGET | {"lag_bytes": None}]})
    assert "pgbridge_lag_bytes{" not in metrics.text().decode()
    metrics.take_status({"targets": [TARGET | {"lag_bytes": 0}]})
    assert "pgbridge_lag_bytes{" in metrics.text().decode()
