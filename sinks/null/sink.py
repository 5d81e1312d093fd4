"""A sink that takes everything: what the bridge costs without a destination.

The one thing to know: it forgets every document, so it cannot be verified and does
not pass the conformance suite; only the bookkeeping of generations is kept, since the
bridge would otherwise take it for a server that lost everything.
"""
# ruff: noqa: ARG002, ARG004 - the contract gives more than this sink needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from bridge.sink import (
    WHOLE,
    Alteration,
    Build,
    Finding,
    Generation,
    Level,
    Loss,
    Operation,
    Owner,
    Part,
    Parts,
    Position,
    Report,
    Sink,
    Stored,
    Target,
    refuse_unknown,
)


class NullSink:
    """Counts what it is given, a generation, for as long as the process lives."""

    concurrency = 2
    batch_bytes_max = 8 << 20
    batch_count_max = 5_000
    answered = 0

    def __init__(self) -> None:
        self.puts = 0
        self.deletes = 0
        self.document_bytes = 0
        self._positions: dict[tuple[str, int], Position | None] = {}
        self._live: dict[str, int] = {}
        self._epoch = 0

    def expect(self, answered: int) -> None:
        """Nothing is counted here."""

    async def close(self) -> None:
        """Nothing to release."""

    async def check(self) -> list[Finding]:
        """A warning: this is not a place for documents."""
        return [Finding(Level.WARNING, "a null sink keeps no documents")]

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Anybody's."""
        self._epoch = max(self._epoch, epoch)

    async def highest_epoch(self, owner: Owner) -> int:
        """The highest epoch claimed in this process."""
        return self._epoch

    async def release(self, owner: Owner) -> None:
        """Nobody's it was."""

    def side_by_side(self, target: Target, other: Target | None = None) -> bool:
        """Nothing takes no room."""
        return True

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Nothing is ever in the way."""
        return []

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """Always."""
        return []

    def fingerprint(self, target: Target) -> str:
        """No option decides anything."""
        return "null"

    def alteration(self, before: Target, after: Target) -> Alteration | None:
        """There are no options."""
        return None

    async def alter(self, generation: Generation) -> None:
        """There is nothing that could be altered."""

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """Remember that it exists."""
        self._positions.setdefault(_address(generation), None)

    async def exists(self, generation: Generation) -> bool:
        """Whether it was prepared in this process."""
        return _address(generation) in self._positions

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        """Count and forget; every operation is called kept."""
        for operation in operations:
            if operation.document is None:
                self.deletes += 1
            else:
                self.puts += 1
                self.document_bytes += len(operation.document)
        return Report(kept=len(operations))

    async def refresh(self, generation: Generation) -> None:
        """Nothing to see."""

    async def publish(self, generation: Generation) -> None:
        """Remember the number."""
        self._live[generation.target.name] = generation.number

    async def published(self, target: Target) -> int | None:
        """The number published last."""
        return self._live.get(target.name)

    async def drop(self, generation: Generation) -> None:
        """Forget that it existed."""
        self._positions.pop(_address(generation), None)
        if self._live.get(generation.target.name) == generation.number:
            del self._live[generation.target.name]

    async def inherits(self, _target: Target, _owner: Owner) -> bool:
        """Nothing stands here."""
        return False

    async def record(self, generation: Generation, position: Position) -> None:
        """Remember the position."""
        self._positions[_address(generation)] = position

    async def recorded(self, generation: Generation) -> Position | None:
        """The position noted last."""
        return self._positions.get(_address(generation))

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """What was never kept cannot be lost."""
        return []

    async def repaired(self, loss: Loss) -> None:
        """There are no losses."""

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """Nothing."""
        return {}

    async def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """No pages."""
        return
        yield []  # makes this a generator

    async def count(self, generation: Generation) -> int:
        """No documents are there."""
        return 0

    def same(self, target: Target, expected: bytes, stored: bytes) -> bool:
        """Never asked, since nothing is read back."""
        return expected == stored


class Plugin:
    """What the entry point names."""

    type = "null"

    @staticmethod
    def validate(options: Mapping[str, Any]) -> None:
        """There are no options."""
        refuse_unknown(options, ())

    @staticmethod
    def validate_target(options: Mapping[str, Any]) -> None:
        """There are no options."""
        refuse_unknown(options, ())

    @staticmethod
    async def open(name: str, options: Mapping[str, Any]) -> Sink:
        """A new sink that has counted nothing."""
        return NullSink()


def _address(generation: Generation) -> tuple[str, int]:
    return generation.target.name, generation.number
