"""Positions above everything issued before: markers put into the log.

A derivation that no change caused (a backfill, a repair, an owed key) needs a version
of its own. It puts a message into the log and waits until the stream has brought it
back; the end of that transaction is above every version that was issued before.

The one thing to know: a marker's position counts only once everything before it in
the stream has been taken in; reading for it still goes through the gate.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

CONTENT = "marker:"


class Markers:
    """Emits markers and tells their positions. Callers that come together share."""

    def __init__(self, emit: Callable[[str], Awaitable[None]]) -> None:
        self._emit = emit
        self._next: asyncio.Task[int] | None = None
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._tasks: set[asyncio.Task[int]] = set()

    async def next(self) -> int:
        """The end LSN of a marker put into the log after this call began.

        Transient when the source cannot be reached.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._one())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._next)

    async def push(self) -> None:
        """Have the log written out as it is now: a message that nobody waits for.

        Transient when the source cannot be reached.
        """
        await self._emit(CONTENT)

    def arrived(self, content: str, lsn: int) -> None:
        """The stream has brought a message and all before it was taken in."""
        future = self._awaited.pop(content, None)
        if future is not None and not future.done():
            future.set_result(lsn)

    async def close(self) -> None:
        """Nothing will be brought back any more: whoever waits is cancelled."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self) -> int:
        await asyncio.sleep(0)  # let callers of the same moment join
        self._next = None
        content = f"{CONTENT}{uuid.uuid4()}"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited[content] = future
        try:
            await self._emit(content)
            return await future
        finally:
            self._awaited.pop(content, None)
