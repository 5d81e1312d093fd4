"""Noticing that a server has evicted keys which it was to keep.

A server says only how many it evicted, not which. So every document that was to stay is
derived again, once more keys are gone than the last time that this was done. Where the
policy takes only keys that expire anyway, nothing is missed.

The one thing to know: the count as it was then stands in the server, together with the
id of its run, under a key that can be evicted itself; where it is missing, everything
is taken for lost that may be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.sink import Generation, Loss
from sinks.redis.layout import Layout, evicted_key, lost_key
from sinks.redis.losses import Losses
from sinks.redis.server import Server

EVICTED = "the server has evicted keys"
PAUSE_S = 30.0
"""Between two repairs: a server that goes on evicting would be filled for ever."""


class Evictions:
    """Of one sink."""

    def __init__(
        self,
        sink: str,
        server: Server,
        losses: Losses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink, self._key = sink, evicted_key(sink)
        self._server = server
        self._losses = losses
        self._clock = clock
        self._seen_s = clock() - PAUSE_S

    async def look(
        self, facts: Mapping[str, Any], layouts: Mapping[Generation, Layout]
    ) -> None:
        """Add what was evicted to the losses. `facts` are INFO's."""
        count = int(facts.get("evicted_keys", 0))
        kept = [g for g, each in layouts.items() if each.mirrors]
        if not count or not kept:
            return
        now = f"{facts.get('run_id')}:{count}"
        with self._server.sorting():
            before = await self._server.client.get(self._key)
        if before == now.encode():
            return
        pipeline = self._server.client.pipeline(transaction=True)
        pipeline.set(self._key, now)
        if not str(facts.get("maxmemory_policy", "")).startswith("volatile"):
            if self._clock() < self._seen_s + PAUSE_S:
                return
            self._seen_s = self._clock()
            self._losses.add(Loss(generation, None, EVICTED) for generation in kept)
            # A crash before the repair must not leave a count that hides it.
            pipeline.set(lost_key(self._sink), "0", nx=True)
        with self._server.sorting():
            await pipeline.execute()
