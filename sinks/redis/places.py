"""The life of generations: prepared, published, dropped, and how far each is.

The one thing to know: a generation exists while its number stands in its target's
hash `generations`. Dropping takes it out first, in one step, and then removes keys in
bounded steps; what an interrupted drop left is listed under `dropping`, with all that
is needed to go on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bridge.sink import WHOLE, Halt, Owner, Part, Position, Target, Transient
from sinks.redis.function import CLAIM, RECORD, RELEASE
from sinks.redis.layout import (
    NAMES,
    OWNER,
    Layout,
    TargetKeys,
    beat_key,
    lost_key,
    mark_key,
    names_described,
    naming_described,
    number_of,
    parse_version,
)
from sinks.redis.options import Encoding
from sinks.redis.server import Server
from sinks.redis.template import is_reserved

SCAN_COUNT = 1_000
"""Keys that the server looks at in one step of a scan."""
CURSOR_BITS = 64


class Places:
    """Bookkeeping of one sink's generations. Raises `Transient` and `Halt` only."""

    def __init__(self, sink: str, server: Server) -> None:
        self._sink = sink
        self._client = server.client
        self._sorting = server.sorting
        self._placing: dict[str, asyncio.Lock] = {}
        """By the target's name: what is being removed from a place must be gone before
        anything is written there again."""

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Record owner and epoch. Halt for another owner or a higher epoch."""
        keys = (OWNER, mark_key(self._sink))
        with self._sorting():
            found, highest = await self._client.eval(
                CLAIM, len(keys), *keys, str(owner), str(epoch)
            )
        if found and found.decode() != str(owner):
            raise taken(found.decode())
        if highest and int(highest) > epoch:
            raise Halt(
                f"epoch {int(highest)} has written here, this is epoch {epoch}",
                hint="a later history is followed here: stop this one; or, if the other"
                " is gone for good, `pgbridge apply --take-over`",
            )

    async def release(self, owner: Owner) -> None:
        """Remove the record of this owner, the mark and what stands beside it."""
        keys = (OWNER, mark_key(self._sink), lost_key(self._sink), beat_key(self._sink))
        with self._sorting():
            await self._client.eval(RELEASE, len(keys), *keys, str(owner))

    async def highest_epoch(self, owner: Owner) -> int:
        """0 when nobody, or another owner, has claimed."""
        with self._sorting():
            found, epoch = await self._client.hmget(OWNER, "owner", "epoch")
        return int(epoch) if found and found.decode() == str(owner) else 0

    async def other_owner(self, owner: Owner) -> str:
        """Who else has claimed; "" when nobody has."""
        with self._sorting():
            found = await self._client.hget(OWNER, "owner")
        return "" if found is None or found.decode() == str(owner) else found.decode()

    async def described(self, target: Target) -> dict[int, dict[str, Any]]:
        """What is known of the target's generations, by number."""
        with self._sorting():
            found = await self._client.hgetall(TargetKeys(target.name).generations)
        return {int(number): json.loads(text) for number, text in found.items()}

    async def prepare(self, layout: Layout, owner: Owner) -> None:
        """Make the generation exist. Halt when another's is in the way."""
        if other := await self.other_owner(owner):
            raise taken(other)
        keys = layout.keys
        async with self._alone(keys):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hvals(keys.generations)
            pipeline.hgetall(keys.dropping)
            pipeline.hget(NAMES, layout.names)
            known, dropping, named = await pipeline.execute()
            for text in known:
                if stranger := in_the_way(json.loads(text), layout.sink):
                    raise stranger
            if stranger := named_alike(layout, named):
                raise stranger
            for number, text in dropping.items():
                if json.loads(text)["place"] == layout.place:
                    await self._remove(keys, int(number), json.loads(text))
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hset(NAMES, layout.names, keys.name)
            pipeline.hsetnx(keys.generations, str(layout.number), layout.described())
            await pipeline.execute()

    @asynccontextmanager
    async def _alone(self, keys: TargetKeys) -> AsyncIterator[None]:
        """Nothing else is prepared or dropped of the target meanwhile."""
        async with self._placing.setdefault(keys.name, asyncio.Lock()):
            with self._sorting():
                yield

    async def named_alike(self, layout: Layout) -> Halt | None:
        """Why another target is in the way of this one's values."""
        with self._sorting():
            return named_alike(layout, await self._client.hget(NAMES, layout.names))

    async def exists(self, layout: Layout) -> bool:
        """Whether it was prepared and not dropped."""
        with self._sorting():
            return bool(
                await self._client.hexists(layout.keys.generations, str(layout.number))
            )

    async def missing(self, layouts: Sequence[Layout]) -> list[bool]:
        """For each whether it is not there; one round trip."""
        with self._sorting():
            pipeline = self._client.pipeline(transaction=False)
            for layout in layouts:
                pipeline.hexists(layout.keys.generations, str(layout.number))
            return [not there for there in await pipeline.execute()]

    async def publish(self, layout: Layout) -> None:
        """Name it the live one. Transient when it is not there."""
        if not await self.exists(layout):
            raise Transient("the generation to be published is not there")
        with self._sorting():
            await self._client.set(layout.keys.live, str(layout.number))

    async def published(self, target: Target) -> int | None:
        """The live generation's number."""
        with self._sorting():
            found = await self._client.get(TargetKeys(target.name).live)
        return number_of(found)

    async def record(self, layout: Layout, position: Position) -> None:
        """Note the position where the generation is. Transient when it is not."""
        keys = (layout.keys.generations, layout.keys.positions)
        with self._sorting():
            done = await self._client.eval(
                RECORD, len(keys), *keys, str(layout.number), str(position)
            )
        if not done:
            raise Transient("the generation whose position is recorded is not there")

    async def recorded(self, layout: Layout) -> Position | None:
        """The position noted last."""
        with self._sorting():
            found = await self._client.hget(layout.keys.positions, str(layout.number))
        return Position.parse(found.decode()) if found is not None else None

    async def drop(self, layout: Layout) -> None:
        """Take it out, then remove its keys unless another generation shares them."""
        keys, number = layout.keys, str(layout.number)
        async with self._alone(keys):
            known = await self._client.hgetall(keys.generations)
            described = known.pop(number.encode(), None)
            if described is not None:
                held = _holds(json.loads(described))
                place = json.loads(described)["place"]
                others = [json.loads(text) for text in known.values()]
                # Where the others only remove, nothing of this one is theirs.
                shared = any(
                    other["place"] == place and (_holds(other) or not held)
                    for other in others
                )
                live = await self._client.get(keys.live)
                pipeline = self._client.pipeline(transaction=True)
                if not shared:
                    pipeline.hset(keys.dropping, number, described)
                pipeline.hdel(keys.generations, number)
                pipeline.hdel(keys.positions, number)
                if live == number.encode():
                    pipeline.delete(keys.live)
                former = json.loads(described)["sink"]
                if former != self._sink:  # that is not in the file any more
                    of_it = mark_key(former), lost_key(former), beat_key(former)
                    pipeline.delete(*of_it)
                await pipeline.execute()
            unfinished = await self._client.hget(keys.dropping, number)
            if unfinished is not None:
                await self._remove(keys, layout.number, json.loads(unfinished))

    async def _remove(
        self, keys: TargetKeys, number: int, described: dict[str, Any]
    ) -> None:
        """All values and versions of a place, the versions last: they tell what is
        left to be removed when this is interrupted."""
        naming = naming_described(described, keys.name, number)
        prefix = keys.versions(described["place"])
        pages = self.pages(prefix) if _holds(described) else _nothing()
        async for names, versions in pages:
            values: list[str | bytes] = []
            for name, stored in zip(names, versions, strict=True):
                _, deleted, value = parse_version(stored)
                if not deleted:
                    text = name[len(prefix) :].decode()
                    value = value or naming.of_text(text)
                    assert value is not None, "digests are stored with their name"
                    if not is_reserved(value):
                        values.append(value)
            pipeline = self._client.pipeline(transaction=False)
            if values:
                pipeline.unlink(*values)
            pipeline.unlink(*names)
            await pipeline.execute()
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(keys.count(described["place"]))
        pipeline.hdel(keys.dropping, str(number))
        own, known = (
            names_described(described, keys.name, number),
            await self._client.hgetall(keys.generations),
        )
        if not any(
            names_described(json.loads(text), keys.name, int(other)) == own
            for other, text in known.items()
        ):
            pipeline.hdel(NAMES, own)
        await pipeline.execute()

    async def pages(
        self, prefix: str, part: Part = WHOLE
    ) -> AsyncIterator[tuple[list[bytes], list[bytes]]]:
        """Names of versions and the versions, in pages. A name may come twice.

        A cursor counts with its bits reversed, so that it can begin, and be seen to
        have come, anywhere. But each process has an order of its own: Transient where
        another one answers by now. Raises what the client raises.
        """
        cursor = _reversed((part.number << CURSOR_BITS) // part.of)
        end = ((part.number + 1) << CURSOR_BITS) // part.of
        begun: str | None = None
        while True:
            run, cursor, names = await self._step(cursor, f"{prefix}*")
            if begun not in {None, run}:
                raise Transient("another Redis server answers than the one before")
            begun = run
            if names:
                versions = await self._client.mget(names)
                found = [
                    (name, version)
                    for name, version in zip(names, versions, strict=True)
                    if version is not None
                ]
                if found:
                    yield [name for name, _ in found], [each for _, each in found]
            if cursor == 0 or _reversed(cursor) >= end:
                return

    async def _step(self, cursor: int, match: str) -> tuple[str, int, list[bytes]]:
        """Which process answers; where to go on with it; names that it has found."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.info("server")
        pipeline.info("replication")
        pipeline.scan(cursor, match=match, count=SCAN_COUNT)
        server, replication, (after, names) = await pipeline.execute()
        if replication.get("role") != "master":
            raise Transient("the Redis server has become a replica")
        return str(server.get("run_id")), int(after), names


def _reversed(cursor: int) -> int:
    return int(f"{cursor:0{CURSOR_BITS}b}"[::-1], 2)


def taken(other: str) -> Halt:
    """Another bridge has claimed the database."""
    return Halt(
        f"this Redis database belongs to {other}",
        hint="give the sink another database number; or run `pgbridge drop --targets`"
        f" with the other's file, or, where that is gone for good, `redis-cli -n N del"
        f" {OWNER}` with the database's number, then `pgbridge resume` the sink",
    )


def _holds(described: dict[str, Any]) -> bool:
    """Whether a generation has values, and their versions."""
    return bool(described["encoding"] != Encoding.NONE)


def named_alike(layout: Layout, found: bytes | None) -> Halt | None:
    """Why the values of a generation would be another target's, whose name was found
    with their names: what the one removes, the other would lack."""
    if found is None or found.decode() == layout.keys.name:
        return None
    return Halt(
        f"the keys {layout.names} are those of target {found.decode()}",
        hint="give this one another `key`; or, where that one is no longer in the file,"
        f" `pgbridge apply --prune` and then `pgbridge resume {layout.sink}`",
    )


def in_the_way(described: dict[str, Any], sink: str) -> Halt | None:
    """Why a generation of this target, found by its name, is another's: in one sink a
    name is one target's, whatever its view is called by now."""
    if described["sink"] == sink:
        return None
    return Halt(
        f"the name is taken by the view {described['view']} of the sink "
        f"{described['sink']} in the same Redis database",
        hint="give the target another `name`; or, where that sink is no longer in the"
        f" file, `pgbridge apply --prune` and then `pgbridge resume {sink}`",
    )


async def _nothing() -> AsyncIterator[tuple[list[bytes], list[bytes]]]:
    return
    yield [], []
