"""Every metric of the daemon, declared once with its unit and labels.

The one thing to know: counters and histograms are moved where things happen; gauges
that say the same as `status` are set from the status document when somebody asks for
`/metrics`, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_TARGET = ("view", "sink", "name")
_LATENCY_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1, 2.5, 5, 10, 30, 60, 300, 1800,
)  # fmt: skip
SINK_STATES = ("ok", "down", "paused", "parked", "halted")
TARGET_STATES = ("building", "live", "halted")


class DeriveCost:
    """What deriving costs, as metrics (`bridge.derive.deriver.Cost`)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def found(self, view: str, keys: int, /) -> None:
        """A batch touches so many keys of the view."""
        self._metrics.fan_out_keys.labels(view).set(keys)

    def derived(self, view: str, keys: int, seconds: float, /) -> None:
        """The documents of so many keys were read."""
        self._metrics.derived_keys.labels(view).inc(keys)
        self._metrics.derive_seconds.labels(view).observe(seconds)

    def spread(self, keys: int, /) -> None:
        """So many keys are still to be derived of batches that touch very many."""
        self._metrics.fan_out_waiting_keys.set(keys)


class Metrics:
    """The metrics of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._declare_flow()
        self._declare_levels()
        self._declare_work()

    def _declare_flow(self) -> None:
        self.changes = self._counter(
            "changes", "Row changes taken from the log, of committed transactions."
        )
        self.transactions = self._counter(
            "transactions", "Committed transactions taken from the log."
        )
        self.spilled_transactions = self._counter(
            "spilled_transactions", "Transactions too large for memory, kept on disk."
        )
        self.documents = self._counter(
            "documents",
            "Documents by what the sink answered: kept, superseded, foreign, rejected.",
            *_TARGET,
            "outcome",
        )
        self.retries = self._counter(
            "retries", "Writes made again because the sink was not available.", "sink"
        )
        self.commit_to_kept_seconds = self._histogram(
            "commit_to_kept_seconds",
            "From the commit in the source to the answer of the sink, in seconds.",
            *_TARGET,
        )

    def _declare_levels(self) -> None:
        self.lag_bytes = self._gauge(
            "lag_bytes", "Log not yet kept in the target, in bytes.", *_TARGET
        )
        self.lag_seconds = self._gauge(
            "lag_seconds",
            "Age of the oldest commit not yet kept, in seconds; 0 when level. Of a live"
            " target that is not fed any more: since it was.",
            *_TARGET,
        )
        self.dead_letters = self._gauge(
            "dead_letters", "Documents refused for good.", *_TARGET
        )
        self.differing_documents = self._gauge(
            "differing_documents",
            "Documents known not to be what the source says; 0 when all is right.",
            *_TARGET,
        )
        self.target_documents = self._gauge(
            "target_documents", "Documents in the live generation.", *_TARGET
        )
        self.target_state = self._gauge(
            "target_state", "1 for the state the target is in.", *_TARGET, "state"
        )
        self.generation = self._gauge(
            "generation", "Number of the live generation; 0: none.", *_TARGET
        )
        self.build_progress = self._gauge(
            "build_progress", "Share of the running build, 0 to 1.", *_TARGET
        )
        self.owed_keys = self._gauge(
            "owed_keys", "Keys a sink that is away is still owed.", "sink"
        )
        self.sink_state = self._gauge(
            "sink_state", "1 for the state the sink is in.", "sink", "state"
        )
        self.retained_bytes = self._gauge(
            "retained_bytes", "Log held back by the slot, in bytes."
        )
        self.source_lag_bytes = self._gauge(
            "source_lag_bytes", "Log not yet taken by the daemon, in bytes."
        )
        self.source_up = self._gauge(
            "source_up", "1 while the stream from the source moves."
        )

    def _declare_work(self) -> None:
        self.gate_wait_seconds = self._gauge(
            "gate_wait_seconds",
            "How long the longest read has waited for a commit to become visible, in "
            "seconds; 0 when none waits.",
        )
        self.derived_keys = self._counter(
            "derived_keys", "Keys whose documents were derived from rows.", "view"
        )
        self.fan_out_keys = self._gauge(
            "fan_out_keys", "Keys that the last batch touched.", "view"
        )
        self.fan_out_waiting_keys = self._gauge(
            "fan_out_waiting_keys",
            "Keys still to be derived of batches that touch very many.",
        )
        self.derive_seconds = self._histogram(
            "derive_seconds", "Reading the documents of a batch, in seconds.", "view"
        )
        self.lane_bytes = self._gauge(
            "lane_bytes", "Documents waiting for a sink, in bytes.", "sink"
        )
        self.in_flight = self._gauge("in_flight", "Writes under way to a sink.", "sink")
        self.backfill_documents = self._counter(
            "backfill_documents", "Documents that backfills have written.", *_TARGET
        )
        self.verified_documents = self._counter(
            "verified_documents",
            "Documents that the continuous comparison has looked at.",
            *_TARGET,
        )
        self.verify_differences = self._counter(
            "verify_differences",
            "Documents it found missing, different or extra, each time it found them.",
            *_TARGET,
            "kind",
        )
        self.configuration_refused = self._gauge(
            "configuration_refused", "1 while the last edit of the file is refused."
        )
        self.leading = self._gauge(
            "leading", "1 while this daemon writes, 0 while it waits as standby."
        )

    def take_status(self, status: Mapping[str, Any]) -> None:
        """Set the gauges that the status document holds (the form of
        `pgbridge status --json`). Targets and sinks that are gone lose theirs."""
        source = status.get("source", {})
        self.retained_bytes.set(source.get("retained_bytes") or 0)
        self.source_lag_bytes.set(source.get("lag_bytes") or 0)
        self.source_up.set(source.get("state") == "streaming")
        per_sink = {
            self.owed_keys: "owed_keys",
            self.lane_bytes: "waiting_bytes",
            self.in_flight: "in_flight",
        }
        for gauge in (*per_sink, self.sink_state):
            gauge.clear()
        for sink in status.get("sinks", ()):
            for gauge, name in per_sink.items():
                gauge.labels(sink["name"]).set(sink.get(name) or 0)
            for state in SINK_STATES:
                self.sink_state.labels(sink["name"], state).set(state == sink["state"])
        per_target = {
            self.lag_bytes: "lag_bytes",
            self.lag_seconds: "lag_seconds",
            self.dead_letters: "dead_letters",
            self.differing_documents: "differences",
            self.target_documents: "documents",
            self.generation: "generation",
        }
        for gauge in (*per_target, self.target_state, self.build_progress):
            gauge.clear()
        for target in status.get("targets", ()):
            labels = (target["view"], target["sink"], target["name"])
            for gauge, name in per_target.items():
                value = target.get(name)
                if gauge is self.generation:
                    value = value or 0
                if value is not None:  # what nobody knows is not 0
                    gauge.labels(*labels).set(value)
            for state in TARGET_STATES:
                self.target_state.labels(*labels, state).set(state == target["state"])
            if (progress := target.get("progress")) is not None:
                self.build_progress.labels(*labels).set(progress)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"pgbridge_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"pgbridge_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, *labels: str) -> Histogram:
        return Histogram(
            f"pgbridge_{name}",
            what,
            labels,
            buckets=_LATENCY_S,
            registry=self.registry,
        )
