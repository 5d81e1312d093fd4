"""The sink: the contract's methods, each handed to the part that does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from bridge.sink import (
    WHOLE,
    Alteration,
    Build,
    Finding,
    Generation,
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
)
from sinks.elasticsearch import reading
from sinks.elasticsearch.altering import alteration
from sinks.elasticsearch.checking import Checking
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.generations import Generations
from sinks.elasticsearch.options import Options, read_options
from sinks.elasticsearch.places import Places
from sinks.elasticsearch.plan import plan, read_target
from sinks.elasticsearch.writing import Writing

_version = itemgetter(2)


class ElasticsearchSink:
    """One cluster, open. Connects when it is first asked."""

    batch_bytes_max = 10 << 20
    """Far below `http.max_content_length`, and enough for 5,000 usual documents."""
    batch_count_max = 5_000
    """Measured: twice the documents a second of bulks of 1,000, at half the cost."""
    answered = 0

    def __init__(self, name: str, options: Options) -> None:
        self.concurrency = options.concurrency
        self._client = Client(name, options)
        self._places = Places(self._client)
        self._generations = Generations(self._client, self._places)
        self._reading = reading.Reading(self._client)
        self._checking = Checking(self._client, self._places)

    def expect(self, answered: int) -> None:
        """Nothing is counted here."""

    async def close(self) -> None:
        """Release connections."""
        self._client.close()

    async def check(self) -> list[Finding]:
        """Version, health, rights, disk, blocks."""
        return await self._checking.check()

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Put the epoch into every index of the owner."""
        await self._generations.claim(owner, epoch)

    async def highest_epoch(self, owner: Owner) -> int:
        """The highest epoch that any index of the owner tells."""
        return await self._generations.highest_epoch(owner)

    async def release(self, owner: Owner) -> None:
        """Each index tells for itself whose it is; forget who claimed."""
        self._generations.release(owner)

    def side_by_side(
        self,
        target: Target,  # noqa: ARG002
        other: Target | None = None,  # noqa: ARG002
    ) -> bool:
        """Always: a generation is an index of its own."""
        return True

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Names in the way, types, mappings, settings."""
        return await self._checking.examine(target, owner)

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """Shards and disk."""
        return await self._checking.room(builds)

    def fingerprint(self, target: Target) -> str:
        """Of mapping and settings. Refusal when the target cannot have any."""
        return plan(target).fingerprint

    def alteration(self, before: Target, after: Target) -> Alteration | None:
        """Field by field, and setting by setting."""
        return alteration(plan(before), plan(after))

    async def alter(self, generation: Generation) -> None:
        """Put what is new into mapping and settings."""
        await self._generations.alter(generation)

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """Make the index."""
        await self._generations.prepare(generation, owner)

    async def exists(self, generation: Generation) -> bool:
        """Whether the index is there and is the one prepared."""
        return await self._generations.exists(generation)

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        """One bulk request with external versions."""
        if not operations:
            return Report()
        place = await self._places.open(generation)
        await self._places.issue(place, max(map(_version, operations)))
        return await self._client.run(Writing(self._client, place, operations).run)

    async def refresh(self, generation: Generation) -> None:
        """Make what was written visible to searches."""
        await self._generations.refresh(generation)

    async def publish(self, generation: Generation) -> None:
        """Point the readers' alias at this generation's index."""
        await self._generations.publish(generation)

    async def published(self, target: Target) -> int | None:
        """The number of the generation that the alias points at."""
        return await self._generations.published(target)

    async def drop(self, generation: Generation) -> None:
        """Delete the index."""
        await self._generations.drop(generation)

    async def inherits(self, _target: Target, _owner: Owner) -> bool:
        """An index is its target's, whatever the sink is called."""
        return False

    async def record(self, generation: Generation, position: Position) -> None:
        """Note the position in the index's `_meta`."""
        await self._generations.record(generation, position)

    async def recorded(self, generation: Generation) -> Position | None:
        """The position noted last."""
        return await self._generations.recorded(generation)

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """Indexes that are gone, or are not the ones that were kept."""
        return await self._generations.audit(generations)

    async def repaired(self, loss: Loss) -> None:
        """What is there now is what is kept."""
        await self._generations.repaired(loss)

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """Documents by key, realtime."""
        return await self._reading.read(generation, keys)

    def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """Every document, at one point in time."""
        return self._reading.scan(generation, documents=documents, part=part)

    async def count(self, generation: Generation) -> int:
        """How many documents there are."""
        return await self._reading.count(generation)

    def same(
        self,
        target: Target,  # noqa: ARG002
        expected: bytes,
        stored: bytes,
    ) -> bool:
        """Equal but for white space: `_source` is kept as it was sent."""
        return reading.same(expected, stored)


class Plugin:
    """What the entry point names."""

    type = "elasticsearch"

    @staticmethod
    def validate(options: Mapping[str, Any]) -> None:
        """Refusal for options that are unknown or wrong."""
        read_options(options)

    @staticmethod
    def validate_target(options: Mapping[str, Any]) -> None:
        """Refusal for options other than `mappings` and `settings`, and wrong ones."""
        read_target(options)

    @staticmethod
    async def open(name: str, options: Mapping[str, Any]) -> Sink:
        """The sink; connects to nothing yet."""
        return ElasticsearchSink(name, read_options(options))
