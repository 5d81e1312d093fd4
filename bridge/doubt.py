"""What reads have seen, and a crash of the server may have taken back.

A snapshot shows commits that are not durable yet (`synchronous_commit = off`). When the
server crashes, what was derived from them stays behind in the sinks. Most of those keys
are derived again, since their change was not acknowledged and the stream brings it once
more; but at the version that the sinks hold already, which they refuse. And a key to
which only the lost commit had led is not found again at all.

The one thing to know: every key that was read together with log not yet durable is
remembered until that log has come back in the stream. After a crash these, and all that
the stream brings again, are derived once more at a marker, above everything written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from bridge.keys import Parts
from bridge.ledger import Ledger
from bridge.markers import Markers
from bridge.position import page_start

_KEYS_MAX = 200_000
"""Keys that wait for their log to be durable; whoever derives more waits."""
_LOOK_S = 0.05


class Doubt:
    """The keys of one slot that may have to be derived again after a crash."""

    def __init__(
        self,
        ledger: Ledger,
        markers: Markers,
        rederive: Callable[[str, list[Parts]], Awaitable[None]],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        """`rederive` derives keys of a view at a marker and returns when they are kept;
        `settled` is told when nothing of a crash is left."""
        self.suspect = False
        """Set this when the server has crashed since it was read from."""
        self._ledger = ledger
        self._markers = markers
        self._rederive = rederive
        self._settled = settled
        self._fresh: deque[tuple[int, str, Sequence[Parts]]] = deque()
        self._count = 0
        self._again: dict[str, dict[Parts, None]] | None = None

    def start(self) -> None:
        """The stream begins (again)."""
        self._ledger.frozen = self.suspect
        if not self.suspect:
            return
        if self._again is None:
            self._again = {}
        for _seen, view, keys in self._fresh:
            self._again.setdefault(view, {}).update(dict.fromkeys(keys))
        self._fresh.clear()
        self._count = 0

    def reads(self, view: str, keys: Sequence[Parts], seen: int) -> None:
        """These keys are about to be read, together with log up to `seen`."""
        if self._again is not None:
            self._again.setdefault(view, {}).update(dict.fromkeys(keys))
        if not self._ledger.sent(seen):
            self._fresh.append((page_start(seen), view, keys))
            self._count += len(keys)

    @property
    def full(self) -> bool:
        """Whether so many keys wait for their log that no more should be derived."""
        while self._fresh and self._ledger.sent(self._fresh[0][0]):
            self._count -= len(self._fresh.popleft()[2])
        return self._count > _KEYS_MAX

    async def settle(self) -> None:
        """Derive again what a crash has made doubtful; nothing where there was none.

        Whatever the crash has taken back comes before a marker put into the log now.
        Until the keys up to there are kept nothing is acknowledged.
        """
        if not self.suspect:
            return
        lsn = await self._markers.next()
        while not self._ledger.derived_to(lsn):  # noqa: ASYNC110 - many things move it
            await asyncio.sleep(_LOOK_S)
        # What is read meanwhile, behind the marker, is remembered but not doubtful.
        again = {view: list(keys) for view, keys in (self._again or {}).items()}
        for view, keys in again.items():
            await self._rederive(view, keys)
        await self._settled()
        self._again = None
        self.suspect = self._ledger.frozen = False
