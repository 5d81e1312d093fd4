"""What a pipeline is given: a stream, delays, and whom it tells what.

The one thing to know: the pipeline knows nothing beyond these, so that a simulated
world can stand in the place of the real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bridge.changes import Keepalive
from bridge.derive.deriver import Cost, DeriveLimits, Reject
from bridge.derive.digest import Batch
from bridge.keys import Parts
from bridge.ledger import Entry
from bridge.sink import Generation


class Capture(Protocol):
    """One life of the stream (`bridge.capture.thread.CaptureThread`)."""

    @property
    def received(self) -> int:
        """The server has sent everything up to here."""

    async def get(self) -> Iterable[Batch] | Keepalive:
        """The next batches or keepalive, in log order."""

    async def lost(self) -> None:
        """Raises as soon as the connection is lost."""

    def acknowledge(self, lsn: int) -> None:
        """Let the slot move to `lsn`."""

    def applied(self, lsn: int) -> None:
        """Everything up to `lsn` is in every target; 0: it is not known."""

    def ask(self) -> None:
        """Have the server say how far it has sent."""

    async def close(self) -> None:
        """Stop, and free the slot."""


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Delays of the pipeline's own loops, in seconds."""

    acknowledge_s: float = 0.05
    progress_s: float = 0.2
    record_s: float = 2.0
    retry_first_s: float = 0.1
    retry_max_s: float = 5.0
    derive: DeriveLimits = field(default_factory=DeriveLimits)


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the pipeline tells its surroundings."""

    reject: Reject
    """Keys whose document cannot be made: dead letters."""
    truncated: Callable[[str, int, Entry], None]
    """A table of this view was truncated at that LSN; the callee holds the entry
    open until the sweep is done."""
    rederive: Callable[[str, list[Parts]], Awaitable[None]]
    """Derive keys of a view again, at a position above every version issued."""
    message: Callable[[str, int], None]
    """A message of the bridge's own, and the end of its transaction."""
    progress: Callable[[Mapping[Generation, int]], Awaitable[None]]
    """Write down, durably, how far each generation is. Always called before the slot
    moves there, so that a slot beyond what is written was moved by somebody else."""
    passes: Callable[[int], Awaitable[None]]
    """Write down, durably, that the slot moves here although a parked sink does not."""
    record: Callable[[Generation, int], Awaitable[None]]
    """Have the sink note how far the generation is."""
    answered: Callable[[Collection[Generation]], Awaitable[None]]
    """Write down, durably, what the sinks of these have answered for."""
    cost: Cost
    """What deriving costs."""
    altered: Callable[[], Awaitable[None]] = _nothing
    """Here in the log something was altered that views may stand on: look at it before
    anything that follows is taken."""
    settled: Callable[[], Awaitable[None]] = _nothing
    """What a crash of the server has made doubtful is derived again."""
    batch: Callable[[Batch], None] = lambda _: None
    state: Callable[[str, str], None] = lambda _state, _reason: None
    """The stream's state for `status`: connecting, streaming; and why."""
