"""Noticing what the server lost, and forgetting keys that it can no longer lose.

The one thing to know: the mark is read on the connection of its own, so that an audit
works while nothing is written; what is durable is learnt from the replicas' offsets
and, where there is an append-only file, from WAITAOF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from bridge.sink import Generation, Loss, Owner, Transient
from sinks.redis.evictions import Evictions
from sinks.redis.health import durable_offset
from sinks.redis.layout import Layout, beat_key, lost_key, mark_key, number_of
from sinks.redis.losses import Losses
from sinks.redis.places import Places
from sinks.redis.server import Server
from sinks.redis.writer import Writer

AOF_WAIT_MS = 1_200
"""`appendfsync everysec` syncs within a second of the write."""
AGE_S = 60.0
"""Without replicas and append-only file nothing becomes durable: keys are remembered
for so long. A crash later than that loses everything anyway, or back to a snapshot."""

EMPTY = "the server no longer has the generation"


@dataclass(slots=True)
class Audit:
    """Marks and losses of one sink."""

    sink: str
    server: Server
    places: Places
    writer: Writer
    losses: Losses
    evictions: Evictions
    _offsets: list[tuple[int, int]] = field(default_factory=list)
    """(number, offset of the replication stream at which it had been carried out)."""

    async def audit(
        self,
        layouts: Mapping[Generation, Layout],
        claimed: tuple[Owner, int] | None,
    ) -> list[Loss]:
        """All that is lost of these generations and not repaired."""
        journal = self.writer.journal
        # Before the server is asked: it may only be ahead.
        started, answered = self.writer.started, journal.mark
        with self.server.sorting():
            pipeline = self.server.client.pipeline(transaction=False)
            pipeline.mget(mark_key(self.sink), lost_key(self.sink))
            pipeline.info()
            (mark, lost), facts = await pipeline.execute()
        if facts.get("role") != "master":
            await self.server.renew()
            await self.writer.close()
            raise Transient("the Redis server has become a replica")
        found = number_of(mark)
        if not self.writer.started:
            self.writer.looked(found)
        elif started and answered > (found or 0):
            self.writer.compare(found)
        self.writer.noted(lost)
        await self._missing(layouts)
        await self.evictions.look(facts, layouts)
        if found is None and claimed is not None:
            await self.places.claim(*claimed)
        if not self.losses.none:
            with self.server.sorting():
                await self.server.client.set(lost_key(self.sink), "0", nx=True)
        await self._settle(answered, facts)
        return self.losses.told(list(layouts))

    async def settle_losses(self) -> None:
        """Take the server's own note of a loss away once nothing is lost."""
        if self.losses.none:
            with self.server.sorting():
                await self.server.client.delete(lost_key(self.sink))

    async def _missing(self, layouts: Mapping[Generation, Layout]) -> None:
        if not layouts:
            return
        gone = await self.places.missing(list(layouts.values()))
        for generation, missing in zip(layouts, gone, strict=True):
            if missing:
                self.losses.add_missing(generation, EMPTY)

    async def _settle(
        self,
        answered: int,
        facts: Mapping[str, Any],
    ) -> None:
        """Forget the keys of numbers that are durable."""
        journal = self.writer.journal
        if not journal.unsettled:
            return
        offset = int(facts.get("master_repl_offset", 0))
        self._offsets.append((answered, offset))
        replicas = durable_offset(facts)
        aof = bool(facts.get("aof_enabled"))
        durable = answered
        if replicas is None and not aof:
            self._offsets.clear()
            journal.aged(AGE_S)
            return
        if replicas is not None:
            reached = [number for number, at in self._offsets if at <= replicas]
            durable = min(durable, max(reached, default=0))
            self._offsets = [each for each in self._offsets if each[1] > replicas]
        else:
            self._offsets.clear()
        if aof and durable:
            synced = await self._synced()
            if synced is None:  # a server that cannot tell
                journal.aged(AGE_S)
            if not synced:
                return
        journal.settled(durable)

    async def _synced(self) -> bool | None:
        """Whether the append-only file holds all that was written so far; None where
        the server is older than WAITAOF."""
        with self.server.sorting():
            # WAITAOF speaks of what its own connection wrote, and of all before that.
            async with self.server.client.client() as one:
                await one.set(beat_key(self.sink), "")
                try:
                    local, _ = await one.execute_command("WAITAOF", 1, 0, AOF_WAIT_MS)
                except ResponseError:
                    return None
        return int(local) >= 1
