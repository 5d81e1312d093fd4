"""What is known of a lane from outside: its state, its limits, what it reports.

The one thing to know: a lane that is not `ok` harms only itself; the others read its
state to know whether to wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from bridge.feed import Claim, Feed
from bridge.operations import Operation, Report
from bridge.sink import Generation

_WAITED_S = 0.5
"""A write that fails sooner was refused, or nobody was there."""


class LaneState(StrEnum):
    """What `status` shows of a sink."""

    OK = "ok"
    DOWN = "down"
    PAUSED = "paused"
    PARKED = "parked"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much a lane holds, and how it tries again. Bytes and seconds."""

    bytes_max: int = 64 << 20
    batch_count_max: int = 5000
    batch_bytes_max: int = 8 << 20
    patience_s: float = 2.0
    """A lane that is full for so long may be too slow for others to wait for."""
    drain_s: float = 10.0
    """It is, when what waits would take longer than this at its present speed."""
    linger_s: float = 0.01
    """How long a small write waits while another is under way."""
    owed_max: int = 50_000
    """Owed keys in memory beyond which everybody is slowed down, the more the more
    there are, so that they are written down as quickly as they come."""
    write_s: float = 5.0
    """A write that takes longer is followed by one of half the operations."""
    retry_first_s: float = 0.05
    retry_max_s: float = 5.0


class WriteSize:
    """How many operations of one write the sink takes in a reasonable time."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self.count = limits.batch_count_max

    def took(self, count: int, seconds: float) -> None:
        """A write of `count` operations took so long."""
        if seconds > self._limits.write_s:
            self.count = max(1, count // 2)
        elif 2 * seconds < self._limits.write_s and count >= self.count:
            self.count = min(2 * self.count, self._limits.batch_count_max)

    def failed(self, count: int, seconds: float) -> None:
        """One came to nothing: where that took a while, it may have been too large
        for the time that the sink allows it."""
        if seconds > min(_WAITED_S, self._limits.write_s):
            self.count = max(1, count // 2)


class Outcomes(NamedTuple):
    """A write that was answered, for metrics and dead letters."""

    generation: Generation
    report: Report
    operations: Sequence[Operation]
    claims: Sequence[Claim]
    dead: dict[str, int]
    """Keys of the generation that have a dead letter, and its version; the callee
    updates it."""


@dataclass(slots=True, eq=False)
class Flight:
    """Operations that were taken and have no outcome yet."""

    feed: Feed
    operations: list[Operation]
    claims: list[Claim]
    era: int
    given_up: bool = False
    """Their keys are owed again, and the call is not repeated."""
    trouble: bool = False
    """Whether the last call brought nothing into the sink."""

    def give_up(self) -> None:
        """Owe its keys again; the call is not called back, and not repeated."""
        self.given_up = True
        for operation, claim in zip(self.operations, self.claims, strict=True):
            self.feed.owe_back(operation, claim)


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do this; False when the event is or was set meanwhile: it was cancelled."""
    task = asyncio.create_task(work)
    happens = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, happens}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        for each in (task, happens):
            each.cancel()
        await asyncio.gather(task, happens, return_exceptions=True)
