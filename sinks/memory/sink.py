"""The smallest complete sink: what each method of the contract has to do.

The one thing to know: a store outlives the sinks that are opened on it, as a server
outlives its connections. It is found by the sink's name for as long as the process
lives, so that a test can close a sink, open it again and find everything.
"""
# ruff: noqa: ARG002, ARG004 - the contract gives more than this sink needs

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from bridge.sink import (
    WHOLE,
    Alteration,
    Build,
    Finding,
    Generation,
    Halt,
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
    Transient,
    key_text,
    refuse_unknown,
)

PAGE_DOCUMENTS = 1_000


@dataclass(slots=True)
class Place:
    """One generation: the documents, deletes being remembered as such."""

    stored: dict[str, Stored] = field(default_factory=dict)
    position: Position | None = None


@dataclass(slots=True)
class Store:
    """What a server would hold. `available` is for tests: False makes it unreachable.

    `clear` is a server that lost everything.
    """

    available: bool = True
    owner: Owner | None = None
    epoch: int = 0
    places: dict[tuple[str, int], Place] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything, as a server that restarts without its disk."""
        self.owner, self.epoch = None, 0
        self.places.clear()
        self.live.clear()


_STORES: dict[str, Store] = {}


def store(name: str) -> Store:
    """The store of that name, made when it is first asked for."""
    return _STORES.setdefault(name, Store())


class MemorySink:
    """A sink over the store of its name."""

    concurrency = 2
    batch_bytes_max = 8 << 20
    batch_count_max = 5_000
    answered = 0

    def __init__(self, name: str) -> None:
        self._held = store(name)

    def expect(self, answered: int) -> None:
        """Nothing is counted here."""

    async def close(self) -> None:
        """Nothing to release."""

    async def check(self) -> list[Finding]:
        """That it is there."""
        self._server()
        return [Finding(Level.OK, "documents are kept in memory and lost at exit")]

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Halt for another owner and for an epoch that has been surpassed."""
        server = self._server()
        self._mine(owner)
        if epoch < server.epoch:
            raise Halt(
                f"epoch {server.epoch} has written here, this is epoch {epoch}",
                hint="stop the other daemon, or start this one again",
            )
        server.owner, server.epoch = owner, epoch

    async def highest_epoch(self, owner: Owner) -> int:
        """The epoch claimed last; 0 when it was not this owner."""
        server = self._server()
        return server.epoch if server.owner == owner else 0

    async def release(self, owner: Owner) -> None:
        """Forget owner and epoch."""
        server = self._server()
        if server.owner == owner:
            server.owner, server.epoch = None, 0

    def side_by_side(self, target: Target, other: Target | None = None) -> bool:
        """Always: a generation is a dictionary."""
        return True

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Only another owner can be in the way."""
        try:
            self._mine(owner)
        except Halt as halt:
            return [Finding(Level.ERROR, halt.message, halt.hint)]
        return []

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """As much as the process has."""
        return []

    def fingerprint(self, target: Target) -> str:
        """Documents are kept as they come: nothing but the options could matter."""
        text = json.dumps(dict(target.options), sort_keys=True, default=str)
        return sha256(text.encode()).hexdigest()

    def alteration(self, before: Target, after: Target) -> Alteration | None:
        """There are no options."""
        return None

    async def alter(self, generation: Generation) -> None:
        """There is nothing that could be altered."""

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """An empty place, unless it is there already."""
        server = self._server()
        self._mine(owner)
        server.places.setdefault(_address(generation), Place())

    async def exists(self, generation: Generation) -> bool:
        """Whether it was prepared and not dropped."""
        return _address(generation) in self._server().places

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        """Compare versions, then replace. A delete is kept as a document of None,
        so that an older put that comes after it finds the newer version.
        """
        stored = self._place(generation).stored
        report = Report()
        for key, _, version, document in operations:
            if (found := stored.get(key)) and found.version >= version:
                report.superseded += 1
            else:
                stored[key] = Stored(key, version, document)
                report.kept += 1
        return report

    async def refresh(self, generation: Generation) -> None:
        """What is written is visible at once."""
        self._place(generation)

    async def publish(self, generation: Generation) -> None:
        """One assignment: readers see either the one or the other."""
        self._place(generation)
        self._server().live[generation.target.name] = generation.number

    async def published(self, target: Target) -> int | None:
        """The live generation's number."""
        return self._server().live.get(target.name)

    async def drop(self, generation: Generation) -> None:
        """Forget the place, and that it was live."""
        server = self._server()
        server.places.pop(_address(generation), None)
        if server.live.get(generation.target.name) == generation.number:
            del server.live[generation.target.name]

    async def inherits(self, _target: Target, _owner: Owner) -> bool:
        """By its name alone: nothing is in the way."""
        return False

    async def record(self, generation: Generation, position: Position) -> None:
        """The position goes where the documents are, so that they are lost together."""
        self._place(generation).position = position

    async def recorded(self, generation: Generation) -> Position | None:
        """The position noted last."""
        place = self._server().places.get(_address(generation))
        return place.position if place else None

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """Memory loses documents only by `Store.clear`, which loses all of them."""
        places = self._server().places
        return [
            Loss(generation, None, "the store was cleared")
            for generation in generations
            if _address(generation) not in places
        ]

    async def repaired(self, loss: Loss) -> None:
        """Nothing is remembered of a loss: a place is there or it is not."""

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """By key text, remembered deletes included."""
        stored = self._place(generation).stored
        texts = map(key_text, keys)
        return {text: stored[text] for text in texts if text in stored}

    async def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """Pages of what was there when the scan began."""
        held = self._place(generation).stored.values()
        there = [f for f in held if f.document is not None and part.has(f.key)]
        for start in range(0, len(there), PAGE_DOCUMENTS):
            page = there[start : start + PAGE_DOCUMENTS]
            if documents:
                yield page
            else:
                yield [found._replace(document=None) for found in page]

    async def count(self, generation: Generation) -> int:
        """Documents, without the remembered deletes."""
        held = self._place(generation).stored.values()
        return sum(found.document is not None for found in held)

    def same(self, target: Target, expected: bytes, stored: bytes) -> bool:
        """Bytes are kept as they are."""
        return expected == stored

    def _server(self) -> Store:
        if not self._held.available:
            raise Transient("the store is not available")
        return self._held

    def _mine(self, owner: Owner) -> None:
        held = self._server().owner
        if held not in (None, owner):
            raise Halt(
                f"this store belongs to {held}",
                hint="give the sink another name, or drop the other bridge's targets",
            )

    def _place(self, generation: Generation) -> Place:
        place = self._server().places.get(_address(generation))
        if place is None:
            # Not Halt: `audit` tells it as a loss, and the bridge builds it anew.
            raise Transient(f"{generation} is not there")
        return place


class Plugin:
    """What the entry point names."""

    type = "memory"

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
        """The sink over the store of that name."""
        return MemorySink(name)


def _address(generation: Generation) -> tuple[str, int]:
    return generation.target.name, generation.number
