"""How far each generation is, written down twice: in its sink, and beside the slot.

What the sink was seen to hold is written here only after it is written there. So a
sink that, after a restart, says less than is written here has lost something, and one
that was merely not told yet has not.

How many writes a sink has answered for is written down here too, before anything that
they were made for is closed. A sink that shows fewer to the next process has lost some:
what the process before it had written beside the stream, no position would tell.

The one thing to know: the slot moves past a change only after both were written. And
before a sink is told anything, it is written here how far it may be told: a sink that
says more than that has followed a log which the source no longer has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from bridge.control.history import log_is_missing
from bridge.control.letters import generation_key
from bridge.ledger import Ledger
from bridge.position import Position
from bridge.sink import Generation, Sink
from bridge.store import Store
from bridge.store.rows import ProgressRow


class Standing:
    """Writes positions down, never one that goes back."""

    def __init__(
        self,
        store: Store,
        sinks: Mapping[str, Sink],
        epoch: int,
        ledger: Ledger,
    ) -> None:
        self._store = store
        self._sinks = sinks
        self._epoch = epoch
        self._ledger = ledger
        self._rows: dict[Generation, ProgressRow] = {}
        self._answered: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self.noted = 0
        """So far sinks may be told that they are."""

    async def start(self, rows: Mapping[Generation, ProgressRow]) -> None:
        """What was written down in this epoch by those that went before. Transient."""
        self._rows = dict(rows)
        for row in await self._store.sinks():
            self._answered[row.name] = row.answered
            if (sink := self._sinks.get(row.name)) is not None:
                sink.expect(row.answered)
        known = await self._store.log()
        if known.noted_lsn is None:
            # None was told more than the log has.
            await self._store.save_noted(known.end_lsn)
        self.noted = known.noted_lsn or known.end_lsn

    async def missing_log(self, read_lsn: int) -> str:
        """Why the source is not the one that was read up to `read_lsn` and noted in;
        empty: it may be. Transient."""
        known = await self._store.log()
        if known.end_lsn < read_lsn:
            return log_is_missing(read_lsn, known.end_lsn)
        if (known.noted_lsn or 0) < self.noted:
            return log_is_missing(self.noted, known.noted_lsn or 0)
        return ""

    async def save(self, positions: Mapping[Generation, int]) -> None:
        """Write down how far these generations are. Transient, Halt."""
        await self._save({g: (lsn, 0) for g, lsn in positions.items()})

    async def record(self, generation: Generation, lsn: int) -> None:
        """Have the sink note that it holds everything up to `lsn`, then note it here.

        Transient, Halt.
        """
        held = min(self._ledger.content(generation), lsn)
        if lsn > self.noted:
            await self._store.save_noted(lsn)
            self.noted = max(self.noted, lsn)
        sink = self._sinks[generation.target.sink]
        await sink.record(generation, Position(self._epoch, lsn))
        await self.answered({generation.target.sink})
        await self._save({generation: (lsn, held)})

    async def answered(self, sinks: Iterable[str] | None = None) -> None:
        """Write down what these sinks, or all, have answered for. Transient, Halt."""
        for name in self._sinks if sinks is None else sinks:
            answered = self._sinks[name].answered
            if answered > self._answered.get(name, 0):
                await self._store.save_answered(name, answered)
                self._answered[name] = answered

    async def answered_by(self, generations: Iterable[Generation]) -> None:
        """The same for the sinks of these generations. Transient, Halt."""
        await self.answered({generation.target.sink for generation in generations})

    async def _save(self, positions: Mapping[Generation, tuple[int, int]]) -> None:
        async with self._turn:
            rows = {}
            for generation, (lsn, held) in positions.items():
                before = self._rows.get(generation)
                since_s = self._ledger.behind_since_s(generation)
                rows[generation] = ProgressRow(
                    generation_key(generation),
                    Position(
                        self._epoch, max(lsn, before.position.lsn if before else 0)
                    ),
                    max(held, before.content_lsn if before else 0),
                    datetime.fromtimestamp(since_s, UTC) if since_s else None,
                )
            await self._store.positions.save(list(rows.values()))
            self._rows.update(rows)
