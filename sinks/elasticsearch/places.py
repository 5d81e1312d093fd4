"""Where generations are, as far as this process knows; the memory of the sink.

The one thing to know: what is remembered here only saves requests or makes a loss
known earlier. Everything that must outlive the process stands in the index's `_meta`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bridge.sink import Generation, Halt, Owner, Position, Transient
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.meta import Index, Meta, find_one, put_meta
from sinks.elasticsearch.plan import IndexPlan, index_name, plan, write_alias

VERSION_MAX = (1 << 63) - 1
CEILING_STEP = 1 << 30
"""How far ahead the ceiling is moved: a write to `_meta` for each GiB of log."""


@dataclass(slots=True)
class Place:
    """One generation's index."""

    generation: Generation
    plan: IndexPlan
    meta: Meta
    """As written last by this process, or found at its first look."""
    highest: int
    """No version above this one was ever issued: those of an earlier process are told
    by the ceiling, those of this one are known."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: int = 0
    """How often in a row it was found closed."""
    lost: str = ""
    """Why what was kept is lost; empty when it is not."""

    @property
    def index(self) -> str:
        """For reading."""
        return index_name(self.generation)

    @property
    def alias(self) -> str:
        """For writing."""
        return write_alias(self.generation)


class Found(NamedTuple):
    """An index that is the one that was kept, and what it says of itself."""

    held: Index
    meta: Meta


class Places:
    """The places that were looked at, by index name."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, Place] = {}
        self.owner: Owner | None = None
        self.epoch = 0

    def known(self, generation: Generation) -> Place | None:
        """What is remembered of a generation."""
        return self._known.get(index_name(generation))

    def remember(self, generation: Generation, meta: Meta) -> Place:
        """Take note of a generation that was prepared, or found."""
        place = Place(generation, plan(generation.target), meta, meta.ceiling)
        self._known[place.index] = place
        return place

    def forget(self, generation: Generation) -> None:
        """It was dropped."""
        self._known.pop(index_name(generation), None)

    async def open(self, generation: Generation) -> Place:
        """The place of a generation. Transient when it is not there, which `audit`
        tells as a loss; Halt when it is somebody else's."""
        place = self.known(generation)
        if place is None:
            found = await find_one(self._client, generation)
            place = self.remember(generation, self.mine(generation, found))
        return place

    def mine(self, generation: Generation, found: Index | None) -> Meta:
        """The identity of an index that was looked up for a generation."""
        if found is None or (found.meta and not found.meta.uuid):
            raise Transient(f"{self._client.sink}: {index_name(generation)} is gone")
        if found.meta is None or not found.meta.is_of(generation, self.owner):
            raise in_the_way(self._client, found, generation.target.name)
        return found.meta

    async def issue(self, place: Place, highest: int) -> None:
        """Make it known that versions up to `highest` are issued, before they are.

        A version above all that were issued is somebody else's. After a crash the
        stream repeats itself with lower versions than some that were written, so the
        bound must outlive the process; it is kept loosely and moved in large steps.
        """
        if highest > place.meta.ceiling:
            async with place.lock:
                if highest > place.meta.ceiling:
                    ceiling = min(highest + CEILING_STEP, VERSION_MAX)
                    await self._update(place, ceiling=ceiling)
        place.highest = max(place.highest, highest)

    async def record(self, place: Place, position: Position) -> None:
        """Note the position, unless the index is no longer the one that was kept."""
        async with place.lock:
            ahead = min(position.version + CEILING_STEP // 2, VERSION_MAX)
            ceiling = max(place.meta.ceiling, ahead)
            await self._update(place, ceiling=ceiling, position=position)
            place.highest = max(place.highest, position.version)

    async def describe(self, place: Place, mapping: str) -> None:
        """Note what the mapping is like (`Meta.mapping`)."""
        async with place.lock:
            await self._update(place, ceiling=place.meta.ceiling, mapping=mapping)

    async def look(self, place: Place) -> Found:
        """The index as it is now; the place is locked. Transient when it is not the
        one that was kept."""
        index = identified(place, await find_one(self._client, place.generation))
        if reason := loss(place, index, place.meta.position):
            place.lost = reason
            raise Transient(f"{self._client.sink}: {place.index}: {reason}")
        assert index is not None and index.meta is not None, "else it were lost"
        return Found(index, index.meta)

    async def _update(
        self,
        place: Place,
        *,
        ceiling: int,
        position: Position | None = None,
        mapping: str = "",
    ) -> None:
        """Write `_meta` after seeing that the index is still the one it was."""
        found = await self.look(place)
        position = position or found.meta.position
        mapping = mapping or found.meta.mapping
        meta = replace(found.meta, ceiling=ceiling, position=position, mapping=mapping)
        await put_meta(self._client, place.index, meta)
        place.meta = meta


def identified(place: Place, found: Index | None) -> Index | None:
    """An index whose `_meta` somebody has overwritten is known by its own id."""
    if found is None or found.meta is not None or found.uuid != place.meta.uuid:
        return found
    return replace(found, meta=place.meta)


def loss(
    place: Place,
    found: Index | None,
    kept: Position | None,
    histories: Mapping[str, str] | None = None,
) -> str:
    """Why the index that was found is not the one that was kept; empty: it is.

    `kept` is the position that had been recorded before it was looked for: it may have
    moved meanwhile. `histories` of shards that are not known at the moment are not
    missed.
    """
    if found is None:
        return "the index is gone"
    if found.meta is None or found.meta.generation != place.generation.number:
        return "the index was replaced by another"
    if found.uuid != found.meta.uuid:
        return "the index was made again, from a snapshot or by hand"
    held = found.meta.position
    if kept is not None and (held is None or held < kept):
        return "the index says an older position than was recorded: it was restored"
    for shard, history in (histories or {}).items():
        if found.meta.histories.get(shard) != history:
            return f"shard {shard} has begun anew: from a snapshot, a copy or empty"
    if place.alias not in found.aliases:
        return "the alias that it is written through was removed"
    return ""


def in_the_way(client: Client, found: Index, target: str) -> Halt:
    """Something that is not this target's stands where it should."""
    whose = (
        f"belongs to target {found.meta.target} of {found.meta.owner}"
        if found.meta
        else "is not the bridge's"
    )
    if target in found.aliases:
        remove = f'{{"remove":{{"index":"{found.name}","alias":"{target}"}}}}'
        return Halt(
            f"{client.sink}: {target} is an alias of index {found.name}, which {whose}",
            hint="give the target another `name`, or take the alias away: curl -X POST"
            f" '{client.shown_url}/_aliases' -H 'content-type: application/json'"
            f" -d '{{\"actions\":[{remove}]}}'",
        )
    return Halt(
        f"{client.sink}: there is an index {found.name}, which {whose}",
        hint="give the target another `name`, or, if nobody needs that index, delete"
        f" it: curl -X DELETE '{client.shown_url}/{found.name}'",
    )
