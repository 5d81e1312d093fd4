"""The contract between the bridge and a sink: everything a plug-in imports.

A sink encodes, sends and reads the answer. Batching, retry, order, back-pressure,
dead letters and acknowledgement stay in the bridge. Five promises make a sink:

1. A call returns when its effect is as durable as the destination makes it.
2. A call made twice, or an older batch after a newer one, changes nothing.
3. A write answers for each document, or raises `Transient` (the destination is not
   available: the same call is made again) or `Halt` (it never will be without the
   operator). Nothing is half answered.
4. The sink tells the position that it holds for a generation.
5. Preparing, publishing and dropping a generation are each atomic and repeatable.

`bridge.sink.conformance` is the suite that proves them; passing it is what "works"
means. A plug-in is one package with one entry point in the group `bridge.sinks` that
names a class with the methods of `Plugin`. `sinks/memory` is the smallest complete one;
`docs/plugins.md` shows one from its package to its tests.

The one thing to know: the bridge never has two writes of one key under way at once,
but writes of different keys arrive concurrently, and a write whose answer was lost
comes again, perhaps with other documents around it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from bridge.errors import Halt, Refusal, Transient
from bridge.keys import Parts, encode_part, key_text
from bridge.operations import Operation, Rejection, Report, fields
from bridge.position import Position
from bridge.shape import Column, Kind, Shape, TypeShape
from bridge.sink.options import is_loopback, refuse_unknown

__all__ = [
    "PARTS_MAX",
    "WHOLE",
    "Alteration",
    "Build",
    "Column",
    "Finding",
    "Generation",
    "Halt",
    "Kind",
    "Level",
    "Loss",
    "Operation",
    "Owner",
    "Part",
    "Parts",
    "Plugin",
    "Position",
    "Refusal",
    "Rejection",
    "Report",
    "Shape",
    "Sink",
    "Stored",
    "Target",
    "Transient",
    "TypeShape",
    "encode_part",
    "fields",
    "is_loopback",
    "key_text",
    "refuse_unknown",
]


class Level(StrEnum):
    """How bad a finding of `check` is."""

    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what is, and the exact command that mends it."""

    level: Level
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose targets these are: one source database read through one slot."""

    system_identifier: str
    database: str
    slot: str

    def __str__(self) -> str:
        return f"{self.system_identifier}/{self.database}/{self.slot}"


@dataclass(frozen=True, slots=True)
class Target:
    """One view kept in one sink under one name.

    `options` are the target's keys of the configuration that belong to the plug-in
    (`mappings`, `settings`; `key`, `encoding`, `ttl`, `publish`), as written. Two
    targets are equal when they are called the same.
    """

    view: str
    sink: str
    name: str
    shape: Shape = field(compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.sink}/{self.name}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of a target. `number` counts from 1 and is never used again."""

    target: Target
    number: int

    def __str__(self) -> str:
        return f"{self.target} g{self.number}"


class Part(NamedTuple):
    """One of so many parts of all documents: `number` from 0 to `of` - 1.

    Each document is in one of them at least, in the same as long as nothing is written.
    `of` is `PARTS_MAX` at most.
    """

    number: int
    of: int

    def has(self, key: str) -> bool:
        """Whether a key is in it, for sinks that have no better way to divide."""
        return self.of == 1 or crc32(key.encode()) % self.of == self.number


WHOLE = Part(0, 1)
PARTS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Build:
    """A generation that is about to be made, and about how much it will hold.

    The estimate is of the rows that the documents stand for; 0: nothing is known.
    """

    target: Target
    documents: int = 0
    size_bytes: int = 0


class Stored(NamedTuple):
    """A document as the sink holds it. `version` is 0 where it is not known."""

    key: str
    version: int
    document: bytes | None
    """JSON text, None for a delete that is remembered or when not asked for."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The sink no longer holds what it had kept.

    `keys` are to be derived again; None means all of them: build anew.
    """

    generation: Generation
    keys: tuple[Parts, ...] | None
    reason: str
    serves: bool = False
    """What is there is complete and goes on being fed and read until another
    generation stands beside it; only for `keys` None."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """How a generation's storage would have to change for other options or columns."""

    what: str
    """What is different, as the part of a sentence: `field title.raw is added`."""
    in_place: bool
    """Whether a generation that is there can be given it; else another one is built."""
    rewrites: bool = False
    """Whether it holds for documents only that are written from then on."""


class Sink(Protocol):
    """One configured destination server, open.

    Every method may raise `Transient` or `Halt` (wrapped at the plug-in's edge; no
    other exception is expected) and may be cancelled.
    """

    concurrency: int
    """How many writes the sink likes to have in flight at once (at least 1)."""
    batch_bytes_max: int
    """Documents of one write, in bytes; the bridge stays below it where it can."""
    batch_count_max: int
    """Operations of one write."""

    @property
    def answered(self) -> int:
        """How many writes it has answered for, to earlier processes too.

        0 where it keeps no such count. Less than before only once it was seen to have
        lost some.
        """

    def expect(self, answered: int) -> None:
        """So many it has answered for to earlier processes, at least. Called before
        anything is written; where the server shows fewer, `audit` tells of a loss."""

    async def close(self) -> None:
        """Release connections. Nothing that was kept is lost by it."""

    async def check(self) -> list[Finding]:
        """What an operator should know of the server: version, health, rights."""

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Record whose sink this is and that this epoch writes from now on.

        Halt when another owner's targets are in the way or a higher epoch has been
        recorded. Repeatable.
        """

    async def highest_epoch(self, owner: Owner) -> int:
        """The highest epoch that ever wrote here for this owner; 0 when none did."""

    async def release(self, owner: Owner) -> None:
        """Forget that the sink is this owner's, all of whose targets were dropped.

        Changes nothing where it is another's. Repeatable.
        """

    def side_by_side(self, target: Target, other: Target | None = None) -> bool:
        """Whether two generations of this target can exist at the same time; or one of
        it and one of `other`, the same target with the options of another time."""

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Before anything is created: would `prepare` succeed?

        Errors for names in the way and blocks. Refusal for options or types that the
        sink cannot hold. Changes nothing. An already prepared generation of
        the same owner is no finding.
        """

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """Would all of these fit beside what is there: limits, disk, memory?

        Changes nothing.
        """

    def fingerprint(self, target: Target) -> str:
        """Digest of all that a generation's storage is decided by.

        A target whose fingerprint changed needs a new generation: inferred mappings,
        settings, key template, encoding.
        """

    def alteration(self, before: Target, after: Target) -> Alteration | None:
        """What of a generation made for one target is not as another wants it.

        None where nothing is, or no more can be said than the fingerprints do.
        """

    async def alter(self, generation: Generation) -> None:
        """Give a generation that is there what its target asks for now, where
        `alteration` said that it can be done in place. Repeatable.

        Halt when the destination refuses it after all.
        """

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """Make the place of a generation, empty, not visible to readers.

        Halt when something that is not the owner's is in the way. Repeatable.
        """

    async def exists(self, generation: Generation) -> bool:
        """Whether the place of the generation is there and is the one prepared."""

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        """Apply each operation unless an equal or newer version is there.

        All keys of a call differ.
        """

    async def refresh(self, generation: Generation) -> None:
        """Make everything written so far visible to searches."""

    async def publish(self, generation: Generation) -> None:
        """Let readers see this generation in place of any other, atomically.

        Everything written before is visible when it returns. Repeatable.
        """

    async def published(self, target: Target) -> int | None:
        """The number of the generation that readers see now."""

    async def drop(self, generation: Generation) -> None:
        """Remove a generation and all that belongs to it. Repeatable."""

    async def inherits(self, target: Target, owner: Owner) -> bool:
        """Whether what the owner has built for this target stands here and in the way,
        under the name of a sink that the file does not have any more: a sink that was
        renamed. It is dropped through this one then."""

    async def record(self, generation: Generation, position: Position) -> None:
        """Note that everything up to this position is in the generation."""

    async def recorded(self, generation: Generation) -> Position | None:
        """The position noted last; None for a generation that has none."""

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """What was lost since the last call: restarts, failovers, removed indexes.

        Called after each reconnection and every few seconds; cheap when all is well.
        A loss is told again until `repaired` is called for it.
        """

    async def repaired(self, loss: Loss) -> None:
        """The keys of this loss have been derived and written again."""

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """The documents of these keys by key text; absent keys are left out."""

    def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """Every document in pages, in no order; of `documents` only the version and
        key are needed when False. Refreshes first: sees all that was kept before.

        Of a `part` no more is read than it needs, where the sink can do that."""

    async def count(self, generation: Generation) -> int:
        """How many documents there are (kept before the call)."""

    def same(self, target: Target, expected: bytes, stored: bytes) -> bool:
        """Whether the sink holds just this document, as far as it can tell them
        apart (a store may normalise white space, never values)."""


class Plugin(Protocol):
    """What the entry point names: makes a sink out of its table of options."""

    type: str

    @staticmethod
    def validate(options: Mapping[str, Any]) -> None:
        """Refusal, naming the nearest valid key, for options of `[sinks.NAME]` that
        are unknown or wrong. Connects nowhere."""

    @staticmethod
    def validate_target(options: Mapping[str, Any]) -> None:
        """The same for the options of one target."""

    @staticmethod
    async def open(name: str, options: Mapping[str, Any]) -> Sink:
        """Make a sink. Succeeds while the server is unreachable: the first call that
        needs it raises `Transient`."""
