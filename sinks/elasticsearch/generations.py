"""The life of a generation: prepared, published, dropped; claimed, recorded, audited.

The one thing to know: every step looks first and then does what is missing, so that
each can be repeated from wherever it was cut off; and nothing that is not the owner's
is ever changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.sink import Generation, Halt, Loss, Owner, Position, Target, Transient
from sinks.elasticsearch.altering import dynamic
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.meta import (
    Index,
    Meta,
    find,
    find_histories,
    find_one,
    put_meta,
)
from sinks.elasticsearch.places import Place, Places, identified, in_the_way, loss
from sinks.elasticsearch.plan import index_name, plan, write_alias

SHARD_WAIT_S = 30
ACTIVE_WAIT_S = 1
"""Who publishes holds what readers see meanwhile, and tries again."""
CLOSED_LOOKS = 2
"""How often an index is found closed before it is opened: whoever closes it to restore
it in place has the time to."""
WRITTEN = {"is_hidden": True, "is_write_index": True}
"""Of several indexes under one alias only one can be written: this."""
OURS = "*--g*"
"""What indexes of generations are called."""


class Generations:
    """What the contract asks for beside documents."""

    def __init__(self, client: Client, places: Places) -> None:
        self._client, self._places = client, places

    # Whose it is.

    async def claim(self, owner: Owner, epoch: int) -> None:
        """Put the epoch into every index of the owner; those to come will have it.

        An index of another owner stays what it is: it is in the way only of a target
        of the same name.
        """
        if self._places.owner not in (None, owner):
            raise Halt(
                f"{self._client.sink} is written by {self._places.owner}",
                hint="one bridge a sink: stop the other",
            )
        mine = await self._of(owner)
        highest = max([self._places.epoch, *(meta.epoch for _, meta in mine)])
        if highest > epoch:
            raise Halt(
                f"{self._client.sink}: epoch {highest} has written here, this is"
                f" epoch {epoch}",
                hint="a later history is followed here: stop this one; or, if the other"
                " is gone for good, `pgbridge apply --take-over`",
            )
        self._places.owner, self._places.epoch = owner, epoch
        for index, meta in mine:
            if meta.epoch < epoch:
                await put_meta(self._client, index.name, replace(meta, epoch=epoch))

    def release(self, owner: Owner) -> None:
        """What is left of a claim is in this process alone."""
        if self._places.owner == owner:
            self._places.owner, self._places.epoch = None, 0

    async def highest_epoch(self, owner: Owner) -> int:
        """The highest epoch that any index of the owner tells."""
        known = self._places.epoch if self._places.owner == owner else 0
        return max([known, *(meta.epoch for _, meta in await self._of(owner))])

    async def _of(self, owner: Owner) -> list[tuple[Index, Meta]]:
        found = await find(self._client, [OURS])
        return [
            (index, index.meta)
            for index in found.values()
            if index.meta and index.meta.owner == str(owner)
        ]

    # From nothing to live.

    async def prepare(self, generation: Generation, owner: Owner) -> None:
        """The index, its write alias, and its identity; also of one that somebody has
        made again, from a snapshot or as a copy."""
        if self._places.owner not in (None, owner):
            raise Halt(
                f"{self._client.sink} is written by {self._places.owner},"
                f" not by {owner}",
                hint="one bridge a sink: stop the other",
            )
        await self._readers_are_free(generation.target, owner)
        found = await find_one(self._client, generation)
        if found is None:
            await self._create(generation, owner)
            found = await find_one(self._client, generation)
        if found is None:
            raise Transient(f"{self._client.sink}: {generation} is not there yet")
        if found.meta is None or not found.meta.is_of(generation, owner):
            raise in_the_way(self._client, found, generation.target.name)
        wanted = plan(generation.target).fingerprint
        if found.meta.fingerprint != wanted:
            raise Halt(
                f"{self._client.sink}: index {found.name} was made for other mappings"
                " or settings",
                hint="pgbridge backfill VIEW --rebuild makes a new generation",
            )
        meta = found.meta
        if not found.is_whole:
            meta = await self._identify(found, meta)
        if write_alias(generation) not in found.aliases:
            add = {"index": found.name, "alias": write_alias(generation), **WRITTEN}
            await self._client.ask("POST", "/_aliases", {"actions": [{"add": add}]})
        known = self._places.known(generation)
        if known is None or known.meta.uuid != meta.uuid:
            place = self._places.remember(generation, meta)
            if known is not None:  # it was there before, and is empty now
                place.lost = known.lost or "the index is gone"

    async def _identify(self, found: Index, meta: Meta) -> Meta:
        """Write down which index this is, so that another in its place is noticed."""
        histories = (await find_histories(self._client, [found.name])).get(found.name)
        if histories is None or len(histories) < found.shards:
            raise not_started(self._client, found.name)
        mapping = f"{found.mapping}:{await self._version()}"
        meta = replace(meta, uuid=found.uuid, histories=histories, mapping=mapping)
        if meta != found.meta:
            await put_meta(self._client, found.name, meta)
        return meta

    async def _version(self) -> str:
        return ".".join(map(str, await self._client.version()))

    async def _create(self, generation: Generation, owner: Owner) -> None:
        made = plan(generation.target)
        meta = Meta(
            owner=str(owner),
            epoch=self._places.epoch,
            view=generation.target.view,
            target=generation.target.name,
            generation=generation.number,
            fingerprint=made.fingerprint,
        )
        settings = dict(made.building)
        if made.keeps_vectors and await self._client.version() >= (9, 2):
            settings["index.mapping.exclude_source_vectors"] = False
        body = {
            "settings": settings,
            "mappings": {**made.mapping, "_meta": meta.dump()},
            "aliases": {write_alias(generation): WRITTEN},
        }
        name = index_name(generation)
        answer = await self._client.request(
            "PUT", f"/{name}?timeout={SHARD_WAIT_S}s", body
        )
        if answer.error[0] == "resource_already_exists_exception":
            return  # somebody was quicker; whose it is will be seen
        if not answer.ok:
            raise self._client.failure(answer, f"making index {name}")
        if not answer.json.get("shards_acknowledged"):
            raise not_started(self._client, name)

    async def alter(self, generation: Generation) -> None:
        """New fields and settings into the index as it is, and that it has them."""
        place = await self._places.open(generation)
        wanted = plan(generation.target)
        async with place.lock:
            found = await self._places.look(place)
            if found.meta.fingerprint == wanted.fingerprint:
                place.plan = wanted
                return
            settings = dynamic(wanted.building)
            if generation.target.name in found.held.aliases:
                settings |= wanted.serving
            # Until it is known how the server prints it, nobody has changed it.
            meta = replace(found.meta, fingerprint=wanted.fingerprint, mapping="")
            body = {
                "properties": wanted.mapping["properties"],
                "_meta": meta.dump(),
            }
            for path, part in (("_settings", settings), ("_mapping", body)):
                if not part:
                    continue
                answer = await self._client.request(
                    "PUT", f"/{place.index}/{path}", part
                )
                if answer.status == 400:
                    raise Halt(
                        f"{self._client.sink}: {place.index} does not take what its"
                        f" target asks for: {answer.error[1]}",
                        hint=f"`pgbridge backfill {generation.target.view} --rebuild`",
                    )
                if not answer.ok:
                    raise self._client.failure(answer, f"altering {place.index}")
            place.plan, place.meta = wanted, meta
        made = await find_one(self._client, generation)
        if made is not None:
            version = await self._version()
            await self._places.describe(place, f"{made.mapping}:{version}")

    async def _readers_are_free(self, target: Target, owner: Owner) -> None:
        """Halt when something else has the name that readers use."""
        for name, index in (await find(self._client, [target.name])).items():
            if name == target.name or not _serves(index, target, owner):
                raise in_the_way(self._client, index, target.name)

    async def exists(self, generation: Generation) -> bool:
        """Whether the index is there, is the one prepared, and can be written."""
        found = await find_one(self._client, generation)
        return (
            found is not None
            and found.is_whole
            and found.meta is not None
            and found.meta.is_of(generation, self._places.owner)
            and write_alias(generation) in found.aliases
        )

    async def refresh(self, generation: Generation) -> None:
        """Every shard, or Transient."""
        await refresh(self._client, index_name(generation))

    async def publish(self, generation: Generation) -> None:
        """The user's settings, all primaries active, a refresh, then one swap.

        The readers' alias is not for writing: a plain write through it is refused, so
        that nobody's document gets between by mistake.
        """
        place = await self._places.open(generation)
        target = generation.target
        await self._client.ask("PUT", f"/{place.index}/_settings", place.plan.serving)
        await refresh(self._client, place.index)
        found = await find(self._client, [target.name])
        actions: list[dict[str, object]] = []
        for name, index in found.items():
            if name == target.name or not _serves(index, target, self._places.owner):
                raise in_the_way(self._client, index, target.name)
            if name != place.index:
                remove = {"index": name, "alias": target.name, "must_exist": True}
                actions.append({"remove": remove})
        if place.index not in found or actions:
            add = {
                "index": place.index,
                "alias": target.name,
                "is_write_index": False,
            }
            actions.append({"add": add})
            await self._client.ask("POST", "/_aliases", {"actions": actions})

    async def published(self, target: Target) -> int | None:
        """The generation that the alias points at; None where it is not ours."""
        for name, index in (await find(self._client, [target.name])).items():
            if name != target.name and _serves(index, target, self._places.owner):
                assert index.meta is not None
                return index.meta.generation
        return None

    async def drop(self, generation: Generation) -> None:
        """Delete the index; its aliases go with it. Another's of that name stays."""
        found = await find_one(self._client, generation)
        if found is not None:
            if found.meta is None or not found.meta.is_of(
                generation, self._places.owner
            ):
                if self._places.known(generation) is None:
                    return  # this one was never made
                raise in_the_way(self._client, found, generation.target.name)
            answer = await self._client.request("DELETE", f"/{found.name}")
            if not answer.ok and answer.status != 404:
                raise self._client.failure(answer, f"deleting index {found.name}")
        self._places.forget(generation)

    # How far it is, and whether it is still there.

    async def record(self, generation: Generation, position: Position) -> None:
        """In `_meta`, beside everything else that stands there."""
        place = await self._places.open(generation)
        await self._places.record(place, position)

    async def recorded(self, generation: Generation) -> Position | None:
        """As the index tells it now."""
        found = await find_one(self._client, generation)
        if found is None or found.meta is None:
            return None
        if not found.meta.is_of(generation, self._places.owner):
            return None
        return found.meta.position

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """Two requests for forty generations."""
        names = [index_name(generation) for generation in generations]
        known = [self._places.known(generation) for generation in generations]
        kept = {place.index: place.meta.position for place in known if place}
        found = await find(self._client, names)
        histories = await find_histories(self._client, list(found))
        losses: list[Loss] = []
        for generation, name in zip(generations, names, strict=True):
            index = found.get(name)
            place = self._places.known(generation)
            if place is None:
                if (
                    index
                    and index.meta
                    and index.is_whole
                    and index.meta.is_of(generation, self._places.owner)
                ):
                    place = self._places.remember(generation, index.meta)
                else:
                    reason = "the index was replaced" if index else "the index is gone"
                    losses.append(Loss(generation, None, reason))
                    continue
            if index is not None and index.meta is None:
                index = identified(place, index)
                if index is not None and index.meta is not None:
                    await self._places.describe(place, index.meta.mapping)
            position, seen = kept.get(name), histories.get(name)
            place.lost = place.lost or loss(place, index, position, seen)
            if place.lost:
                losses.append(Loss(generation, None, place.lost))
            elif index is not None and (changed := await self._changed(place, index)):
                losses.append(changed)
        return losses

    async def _changed(self, place: Place, index: Index) -> Loss | None:
        """What somebody did by hand to an index that still is the one that was kept."""
        generation = place.generation
        place.closed = place.closed + 1 if index.closed else 0
        if place.closed > CLOSED_LOOKS:
            path = f"/{index.name}/_open?wait_for_active_shards=0"
            await self._client.ask("POST", path)
            return Loss(generation, (), "the index was closed, and is opened again")
        kept = place.meta.mapping
        made, _, version = kept.partition(":")
        if made == index.mapping:
            return None
        now = await self._version()
        if kept and version == now:
            reason = "the mapping was changed by hand"
            return Loss(generation, None, reason, serves=True)
        # Made by an earlier release, or told by another server's version.
        await self._places.describe(place, f"{index.mapping}:{now}")
        return None

    async def repaired(self, loss: Loss) -> None:
        """From now on what is there is what is kept."""
        if loss.keys is not None:
            return  # told once, and nothing is missing
        found = await find_one(self._client, loss.generation)
        self._places.forget(loss.generation)
        if (
            found
            and found.meta
            and found.meta.is_of(loss.generation, self._places.owner)
        ):
            meta = await self._identify(found, found.meta)
            self._places.remember(loss.generation, meta)


def _serves(index: Index, target: Target, owner: Owner | None) -> bool:
    """Whether it is a generation of the target."""
    meta = index.meta
    return (
        meta is not None
        and meta.target == target.name
        and (owner is None or meta.owner == str(owner))
    )


def not_started(client: Client, index: str) -> Transient:
    """What is said of an index without all its shards."""
    return Transient(
        f"{client.sink}: the shards of {index} have not started",
        hint=f"curl '{client.shown_url}/_cluster/allocation/explain'",
    )


async def refresh(client: Client, index: str) -> None:
    """Make what was written visible. Transient when a shard did not do it.

    All primaries must be active: one that is not is waited for by the server, for a
    minute, and is not told as failed.
    """
    answer = await client.request(
        "GET",
        f"/_cluster/health/{index}?wait_for_status=yellow&timeout={ACTIVE_WAIT_S}s",
    )
    if answer.status == 408:
        raise not_started(client, index)
    if not answer.ok:
        raise client.failure(answer, "asking for health")
    answer = await client.ask("POST", f"/{index}/_refresh")
    if answer["_shards"]["failed"]:
        raise Transient(f"{client.sink}: not every shard of {index} was refreshed")
