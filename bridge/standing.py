"""How far each generation is, written down twice: in its sink, and beside the slot.

What the sink was seen to hold is written here only after it is written there. So a
sink that, after a restart, says less than is written here has lost something, and one
that was merely not told yet has not.

The one thing to know: the slot moves past a change only after both were written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bridge.control.letters import generation_key
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
        content: Callable[[Generation], int],
    ) -> None:
        """`content` tells the end of the newest batch with anything for it."""
        self._store = store
        self._sinks = sinks
        self._epoch = epoch
        self._content = content
        self._rows: dict[Generation, ProgressRow] = {}
        self._turn = asyncio.Lock()

    def start(self, rows: Mapping[Generation, ProgressRow]) -> None:
        """What was written down in this epoch by those that went before."""
        self._rows = dict(rows)

    async def save(self, positions: Mapping[Generation, int]) -> None:
        """Write down how far these generations are. Transient, Halt."""
        await self._save({g: (lsn, 0) for g, lsn in positions.items()})

    async def record(self, generation: Generation, lsn: int) -> None:
        """Have the sink note that it holds everything up to `lsn`, then note it here.

        Transient, Halt.
        """
        held = min(self._content(generation), lsn)
        sink = self._sinks[generation.target.sink]
        await sink.record(generation, Position(self._epoch, lsn))
        await self._save({generation: (lsn, held)})

    async def _save(self, positions: Mapping[Generation, tuple[int, int]]) -> None:
        async with self._turn:
            rows = {}
            for generation, (lsn, held) in positions.items():
                before = self._rows.get(generation)
                rows[generation] = ProgressRow(
                    generation_key(generation),
                    Position(
                        self._epoch, max(lsn, before.position.lsn if before else 0)
                    ),
                    max(held, before.content_lsn if before else 0),
                )
            await self._store.positions.save(list(rows.values()))
            self._rows.update(rows)
