"""A Redis or Valkey server as a sink.

The one thing to know: one function call carries out many operations, compares their
versions itself; `write.lua` is where a document meets the server.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

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
    Stored,
    Target,
    Transient,
)
from sinks.redis import health
from sinks.redis.audit import EMPTY, Audit
from sinks.redis.evictions import Evictions
from sinks.redis.layout import Layout, layout_of
from sinks.redis.losses import Losses
from sinks.redis.options import Options, TargetOptions, read_target_options
from sinks.redis.places import Places
from sinks.redis.reading import Reading, same
from sinks.redis.request import Encoder
from sinks.redis.server import Server
from sinks.redis.template import pattern, require_key
from sinks.redis.writer import Writer


@dataclass(frozen=True, slots=True)
class _Known:
    """A generation that was used in this process."""

    layout: Layout
    encoder: Encoder


class RedisSink:
    """See `bridge.sink.Sink` for what each method promises."""

    concurrency = 4
    batch_bytes_max = 4 << 20
    batch_count_max = 5_000

    def __init__(self, name: str, options: Options, *, functions: bool = True) -> None:
        self._name = name
        self._server = Server(options)
        self._losses = Losses()
        self._writer = Writer(name, self._server, self._losses, functions=functions)
        self._places = Places(name, self._server)
        self._reading = Reading(self._server, self._places)
        self._audit = Audit(
            name,
            self._server,
            self._places,
            self._writer,
            self._losses,
            Evictions(name, self._server, self._losses),
        )
        self._known: dict[tuple[str, int, str], _Known] = {}
        self._prepared: set[tuple[str, int]] = set()
        self._claimed: tuple[Owner, int] | None = None

    @property
    def answered(self) -> int:
        """The number of the last request that was answered."""
        return self._writer.journal.mark

    def expect(self, answered: int) -> None:
        """A lower mark tells that requests were lost which an earlier process knew."""
        self._writer.expected = answered

    async def close(self) -> None:
        """Release connections."""
        await self._writer.close()
        await self._server.close()

    async def check(self) -> list[Finding]:
        """Version, role, eviction, durability."""
        return await health.check(self._server)

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Record owner and epoch under `pgbridge:owner`."""
        await self._places.claim(owner, epoch)
        self._claimed = owner, epoch

    async def highest_epoch(self, owner: Owner) -> int:
        """The epoch claimed last."""
        return await self._places.highest_epoch(owner)

    async def release(self, owner: Owner) -> None:
        """Remove `pgbridge:owner` and what is kept for the sink as a whole."""
        self._claimed = None
        await self._places.release(owner)

    def side_by_side(self, target: Target, other: Target | None = None) -> bool:
        """Whether the key template names the generation, or is another one."""
        one, two = [
            pattern(
                read_target_options(each.options).template,
                each.name,
                len(each.shape.key),
                number,
            )
            for number, each in enumerate((target, other or target))
        ]
        return one != two

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Template, owner, eviction, and keys that are somebody else's."""
        return await health.examine(self._server, self._places, target, owner)

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """Memory, where there is a limit."""
        return await health.room(self._server, builds)

    def fingerprint(self, target: Target) -> str:
        """Of template, encoding and time to live; not of the channel."""
        options = read_target_options(target.options)
        if options.template:
            require_key(options.template, target.shape.key)
        template = options.template or f"{target.name}:"
        text = json.dumps([template, options.encoding, options.ttl_ms])
        return sha256(text.encode()).hexdigest()

    def alteration(self, before: Target, after: Target) -> Alteration | None:
        """Of template, encoding, time to live, channel."""
        old, new = (
            read_target_options(before.options),
            read_target_options(after.options),
        )
        found = [f"its {name} is another" for name in _moved(old, new)]
        if old.ttl_ms != new.ttl_ms:
            found.append("its ttl is another")
        if old.channel != new.channel:
            found.append("its channel is another")
        if not found:
            return None
        return Alteration(
            what="; ".join(found),
            in_place=not _moved(old, new),
            rewrites=old.ttl_ms != new.ttl_ms,
        )

    async def alter(self, generation: Generation) -> None:
        """Every call tells what it needs."""

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """Enter it among the target's generations."""
        await self._places.prepare(self._of(generation).layout, owner)
        self._prepared.add(_number(generation))

    async def exists(self, generation: Generation) -> bool:
        """Whether it is entered there."""
        there = await self._places.exists(self._of(generation).layout)
        if there:
            self._prepared.add(_number(generation))
        return there

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        """Compare and set, in calls of bounded size over one connection."""
        was_there = _number(generation) in self._prepared

        async def restore() -> None:
            # Else it is prepared while this write is on its way: nothing is lost.
            if not was_there:
                raise Transient(f"{generation} is not there")
            await self._restore(generation)

        known = self._of(generation)
        return await self._writer.write(generation, known.encoder, operations, restore)

    async def refresh(self, generation: Generation) -> None:
        """What is written is visible at once."""

    async def publish(self, generation: Generation) -> None:
        """Set the number under `pgbridge:NAME:live`."""
        await self._places.publish(self._of(generation).layout)

    async def published(self, target: Target) -> int | None:
        """The number that stands there."""
        return await self._places.published(target)

    async def drop(self, generation: Generation) -> None:
        """Remove all its keys, unless a later generation has the same ones."""
        self._prepared.discard(_number(generation))
        self._losses.dropped(generation)
        await self._places.drop(self._of(generation).layout)
        await self._audit.settle_losses()

    async def inherits(self, target: Target, owner: Owner) -> bool:
        """Whether that sink has entered generations of it."""
        if await self._places.other_owner(owner):
            return False
        described = await self._places.described(target)
        return any(each["sink"] == target.sink for each in described.values())

    async def record(self, generation: Generation, position: Position) -> None:
        """Note the position beside the generation."""
        await self._places.record(self._of(generation).layout, position)

    async def recorded(self, generation: Generation) -> Position | None:
        """The position noted last."""
        return await self._places.recorded(self._of(generation).layout)

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """Compare the server's mark with what it has answered."""
        layouts = {each: self._of(each).layout for each in generations}
        return await self._audit.audit(layouts, self._claimed)

    async def repaired(self, loss: Loss) -> None:
        """Forget the loss."""
        self._losses.repaired(loss)
        await self._audit.settle_losses()

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """By key text; an expired value is an empty document."""
        return await self._reading.read(self._of(generation).layout, keys)

    async def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """By the names of versions, over all keys of the server."""
        layout = self._of(generation).layout
        async for page in self._reading.scan(layout, documents=documents, part=part):
            yield page

    async def count(self, generation: Generation) -> int:
        """As counted by the function."""
        return await self._reading.count(self._of(generation).layout)

    def same(self, target: Target, expected: bytes, stored: bytes) -> bool:
        """Byte for byte; a hash field by field."""
        return same(read_target_options(target.options), expected, stored)

    async def _restore(self, generation: Generation) -> None:
        """Enter a generation again that the server lost; the loss is told by `audit`.

        Transient when it was dropped, or never prepared.
        """
        if self._claimed is None or _number(generation) not in self._prepared:
            raise Transient(f"{generation} is not there")
        self._losses.add_missing(generation, EMPTY)
        await self._places.claim(*self._claimed)
        await self._places.prepare(self._of(generation).layout, self._claimed[0])

    def _of(self, generation: Generation) -> _Known:
        options = generation.target.options
        address = (*_number(generation), repr(sorted(options.items())))
        if (known := self._known.get(address)) is None:
            layout = layout_of(generation, self._name)
            known = self._known[address] = _Known(layout, Encoder(layout))
        return known


def _moved(old: TargetOptions, new: TargetOptions) -> list[str]:
    """What moves documents to other keys, or makes other values of them."""
    return [
        name
        for name, differs in (
            ("key", old.template != new.template),
            ("encoding", old.encoding != new.encoding),
        )
        if differs
    ]


def _number(generation: Generation) -> tuple[str, int]:
    return generation.target.name, generation.number
