"""What the store keeps, as values.

The one thing to know: a `GenerationKey` names one build of a target everywhere; it is
hashable and needs none of what a sink wants to know of a target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from bridge.keys import Parts
from bridge.position import Position


class GenerationKey(NamedTuple):
    """Sink, target's name there, number of the build."""

    sink: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.sink}/{self.name} g{self.number}"


class GenerationState(StrEnum):
    """Where a build is in its life."""

    BUILDING = "building"
    LIVE = "live"
    PREVIOUS = "previous"
    """Fed on, so that a rollback is instant and current."""
    DROPPED = "dropped"
    """Fed no more; its place in the sink is still to be removed."""


class SinkState(StrEnum):
    """What a sink is doing."""

    OK = "ok"
    DOWN = "down"
    PAUSED = "paused"
    PARKED = "parked"
    HALTED = "halted"


class BackfillKind(StrEnum):
    """Which keys a backfill derives."""

    BUILD = "build"
    """All that there are, into a generation that nobody reads."""
    SWEEP = "sweep"
    """All that there are, and then those in the sink that no longer exist."""
    KEYS = "keys"
    WHERE = "where"


class WorkState(StrEnum):
    """Where a backfill is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class CommandState(StrEnum):
    """Where a command is in its life; the last three are its outcome."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a document was refused for good."""

    DERIVE = "derive"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The history that the bridge is in."""

    system_identifier: str
    timeline: int
    database: str
    slot: str
    epoch: int
    barrier: int | None = None
    """Read nothing before a snapshot's xmin has reached this (64 bits); None: done."""
    fingerprint: str = ""
    """Digest of publication and identities as they were last proven."""
    owner: str | None = None
    """The cluster's identifier by which the sinks know the bridge; None: this one's."""
    doubt: str = ""
    """Why this may not be the history that the sinks have followed."""


class ServerLife(NamedTuple):
    """One start of the source's server. A crash of a backend starts it again in place,
    which only `recovered` shows; an orderly restart shows only in `started`."""

    started: datetime
    recovered: datetime


class LogKnown(NamedTuple):
    """How much of the log the source knows of."""

    noted_lsn: int | None
    """How far sinks may have been told that they are in this epoch; None: it is not
    known."""
    end_lsn: int
    """Where it ends now."""


@dataclass(frozen=True, slots=True)
class DaemonRow:
    """The daemon that writes, or wrote last."""

    host: str
    pid: int
    version: str
    http: str
    state: str
    reason: str
    refused: str
    """Why the edited configuration was not taken up; empty: it was."""
    started_at: datetime
    seen_at: datetime
    """When it last wrote anything; one that is idle does each minute."""
    alive: bool
    """Whether some daemon holds the lease now."""


@dataclass(frozen=True, slots=True)
class SinkRow:
    """One configured sink."""

    name: str
    type: str
    state: SinkState
    reason: str
    paused: bool
    """What the operator wants, whatever the state is; it outlives restarts."""
    since: datetime
    answered: int
    """So many writes it has answered for, as it counts them."""

    @property
    def shown(self) -> SinkState:
        """The state as `status` shows it."""
        if self.paused and self.state is not SinkState.HALTED:
            return SinkState.PAUSED
        return self.state


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One view as it was applied. The fingerprint is the plan's."""

    name: str
    definition: Mapping[str, Any]
    fingerprint: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target as it was applied. The fingerprint is the sink's of its storage."""

    sink: str
    name: str
    view: str
    definition: Mapping[str, Any]
    fingerprint: str
    wanted: bool
    """False once it is no longer in the file: fed no more, kept until pruned."""
    next_generation: int

    def __str__(self) -> str:
        return f"{self.sink}/{self.name}"


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One build of a target."""

    key: GenerationKey
    view: str
    state: GenerationState
    fingerprint: str
    """The target's, when the build was begun."""
    view_fingerprint: str
    """The view's, when the build was begun or last derived whole."""
    documents: int
    progress: float
    """Of the build, 0 to 1."""
    halted: str | None
    """Why it stopped; None: it did not."""
    sweep: bool
    """More keys are owed than can be kept: derive all of them, sweep what is gone."""
    created_at: datetime
    prepared_at: datetime | None
    """When its place in the sink was made; None: perhaps never."""
    published_at: datetime | None
    definition: Mapping[str, Any] = field(default_factory=dict)
    """What it was built from; empty where that was not kept."""


class ProgressRow(NamedTuple):
    """How far a generation is."""

    key: GenerationKey
    position: Position
    """Everything up to here is kept."""
    content_lsn: int
    """End of the newest change that its sink was seen to hold, in the same epoch."""
    behind_since: datetime | None = None
    """When the oldest commit not yet kept was made; None: there was none."""


class Bounds(NamedTuple):
    """A range of keys: above `lower`, up to and with `upper`; None is unbounded."""

    lower: Parts | None
    upper: Parts | None


class RangeRow(NamedTuple):
    """One range of a backfill, whole or not."""

    seq: int
    bounds: Bounds
    done: bool


@dataclass(frozen=True, slots=True)
class BackfillRow:
    """One backfill of one generation."""

    id: int
    command: int | None
    view: str
    key: GenerationKey
    kind: BackfillKind
    condition: str | None
    keys: tuple[str, ...] | None
    state: WorkState
    message: str
    marker: Position | None
    """What it derives at; None: no marker was put into the log yet."""
    documents: int
    estimate: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counted: int = 0
    """Documents since the daemon that carries it out has begun to count them."""
    counted_s: float | None = None
    """How long ago that was; None: none counts yet."""

    @property
    def progress(self) -> float:
        """The share that is done, 0 to 1."""
        return min(1.0, self.documents / self.estimate) if self.estimate else 0.0

    @property
    def rate(self) -> float | None:
        """Documents per second; None: not known yet."""
        return (
            self.counted / self.counted_s if self.counted and self.counted_s else None
        )

    @property
    def left_s(self) -> float | None:
        """About how long it still takes; None: not known."""
        if not self.estimate or self.rate is None:
            return None
        return max(0, self.estimate - self.documents) / self.rate


def moving(
    backfills: Iterable[BackfillRow], target: Mapping[str, Any]
) -> dict[str, float | None]:
    """How far a target of `status` is with its build, else with the first backfill of
    its live generation; documents per second; and about how long it still takes."""
    numbers = (target.get("building"), target.get("generation"))
    found = [
        row
        for number in filter(None, numbers)
        for row in backfills
        if row.key == (target["sink"], target["name"], number)
    ]
    if not found:
        begun = 0.0 if target.get("building") else None
        return {"progress": begun, "rate": None, "left_seconds": None}
    row = found[0]
    return {
        "progress": round(row.progress, 4),
        "rate": None if row.rate is None else round(row.rate, 1),
        "left_seconds": None if row.left_s is None else round(row.left_s, 1),
    }


class OwedKey(NamedTuple):
    """A key to be derived again, and the highest position that asked for it."""

    key: str
    parts: Parts
    position: Position


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """One document that was refused for good."""

    view: str
    generation: GenerationKey
    key: str
    parts: Parts
    stage: Stage
    reason: str
    """Never quotes a value."""
    version: int
    first_seen: datetime
    last_seen: datetime
    attempts: int


class Letter(NamedTuple):
    """A refusal to be recorded."""

    key: str
    parts: Parts
    stage: Stage
    reason: str
    version: int


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command as it was issued; `bridge.control.commands` reads its arguments."""

    id: int
    kind: str
    arguments: Mapping[str, Any]
    issued_by: str
    issued_at: datetime
    state: CommandState
    message: str
    lsn: int | None
    """End of the commit that issued it, once the stream has told."""
    started_at: datetime | None
    finished_at: datetime | None
    log_end: int = 0
    """Of one read among the open: end of the log then; its commit lies below."""
