"""Every limit and delay of the daemon, each with unit, default, bounds and reason.

The one thing to know: units stand last in the names (`_bytes`, `_s`, `_rows`), and
nothing here is asked of a user; `[daemon] memory` is what moves those that hold bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


def _limit(default: float, unit: str, low: float, high: float, why: str) -> Any:
    assert low <= default <= high, why
    return field(
        default=default,
        metadata={"unit": unit, "low": low, "high": high, "why": why},
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers by which the daemon stays bounded and patient.

    AssertionError for a value out of its bounds: these come from code, not from users.
    """

    memory_bytes: int = _limit(
        400 * _MIB,
        "bytes",
        128 * _MIB,
        1024 * _GIB,
        "what the process should stay below; the byte limits are shares of it",
    )
    batch_bytes_max: int = _limit(
        8 * _MIB,
        "bytes of row images",
        64 * _KIB,
        _GIB,
        "what one batch from capture holds: enough for a bulk of 5,000 documents",
    )
    batch_count_max: int = _limit(
        20_000,
        "row changes",
        1,
        10_000_000,
        "bounds what small rows cost in objects where their bytes do not",
    )
    queue_batches_max: int = _limit(
        4,
        "batches",
        1,
        64,
        "between the capture thread and the loop: hides a pause, adds no latency",
    )
    transaction_bytes_max: int = _limit(
        32 * _MIB,
        "bytes of row images",
        64 * _KIB,
        64 * _GIB,
        "a transaction beyond it keeps keys instead of rows and goes to disk",
    )
    lane_bytes_max: int = _limit(
        32 * _MIB,
        "bytes of documents",
        _MIB,
        64 * _GIB,
        "what waits for one sink before its lane keeps owed keys instead",
    )
    owed_keys_max: int = _limit(
        1_000_000,
        "keys of a sink",
        1_000,
        100_000_000,
        "beyond it the target is marked for a sweep: the list would cost more",
    )
    derive_keys_max: int = _limit(
        5_000,
        "keys",
        1,
        100_000,
        "of one documents query: beyond it the statement gains nothing",
    )
    derive_connections: int = _limit(
        2,
        "connections",
        1,
        64,
        "that read for the stream; one more waits for the gate while another reads",
    )
    fan_out_keys_max: int = _limit(
        50_000,
        "keys of one batch and view",
        1_000,
        100_000_000,
        "held in memory; more go to disk and are derived in pieces",
    )
    chunk_rows: int = _limit(
        5_000,
        "documents",
        1,
        1_000_000,
        "of one backfill chunk: a bulk's worth, and seconds at most to redo",
    )
    chunks_concurrent: int = _limit(
        2, "chunks", 1, 64, "read at once by one backfill: keeps the sink busy"
    )
    backfill_lag_s_max: float = _limit(
        1.0,
        "seconds",
        0.01,
        3600.0,
        "a backfill pauses while the stream is further behind than this",
    )
    retry_delay_first_s: float = _limit(
        0.1, "seconds", 0.001, 60.0, "before the first repetition of a call"
    )
    retry_delay_max_s: float = _limit(
        10.0,
        "seconds",
        0.01,
        600.0,
        "delays double up to this: a server that is back is noticed within it",
    )
    connect_timeout_s: float = _limit(
        10.0, "seconds", 0.1, 300.0, "for one attempt to reach a server"
    )
    progress_interval_s: float = _limit(
        0.2, "seconds", 0.01, 60.0, "between two writes of kept positions"
    )
    fingerprint_interval_s: float = _limit(
        1.0, "seconds", 0.05, 60.0, "between two looks at the source's schema"
    )
    audit_interval_s: float = _limit(
        5.0,
        "seconds",
        0.05,
        10.0,
        "between two looks for a loss in a sink; an emptied Redis shows within 10 s",
    )
    command_interval_s: float = _limit(
        0.5,
        "seconds",
        0.01,
        60.0,
        "between two looks for commands that are not ordered",
    )
    standby_interval_s: float = _limit(
        1.0, "seconds", 0.05, 10.0, "between a standby's attempts to take over"
    )
    drain_timeout_s: float = _limit(
        6.0, "seconds", 0.1, 600.0, "for writes in flight at SIGTERM; 8 s is promised"
    )
    stalled_after_s: float = _limit(
        20.0,
        "seconds",
        1.0,
        30.0,
        "without a word from the walsender: not ready, since 30 s is promised",
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            low, high = item.metadata["low"], item.metadata["high"]
            assert low <= getattr(self, item.name) <= high, item.name

    @classmethod
    def for_memory(cls, memory_bytes: int) -> Limits:
        """The limits for a memory budget; the defaults are those of 400 MiB."""
        share = memory_bytes / (400 * _MIB)

        def bytes_of(name: str) -> int:
            item = next(item for item in fields(cls) if item.name == name)
            low, high = int(item.metadata["low"]), int(item.metadata["high"])
            assert isinstance(item.default, int)
            return max(low, min(high, int(item.default * share)))

        return cls(
            memory_bytes=memory_bytes,
            batch_bytes_max=min(8 * _MIB, bytes_of("batch_bytes_max")),
            transaction_bytes_max=bytes_of("transaction_bytes_max"),
            lane_bytes_max=bytes_of("lane_bytes_max"),
        )
