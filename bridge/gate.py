"""What may be read when: the rule that keeps every document as new as its version.

A committed transaction reaches the stream before other sessions can see it, and not
always in the order in which it becomes visible. So a snapshot may be read for position
*p* only if every transaction streamed up to *p* is visible in it, each checked by its
own id: the newest being visible says nothing of the others.

The one thing to know: the gate waits, for ever if need be; it never gives up and
reads anyway. Whoever waits is shown by `pgbridge_gate_wait_seconds`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

_XID_BITS = 1 << 32
_FIRST_DELAY_S, _DELAY_MAX_S = 0.001, 0.1
_OLD_S = 600.0
"""Far less than any sink remembers a delete."""


class Snapshot(NamedTuple):
    """`pg_current_snapshot()`: full (64-bit) top-level transaction ids.

    Everything below `xmin` has ended; nothing from `xmax` on had begun; of those
    between, `running` had not ended.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """`xmin:xmax:xip,xip,…` as Postgres prints it."""
        xmin, xmax, running = text.split(":")
        return cls(
            int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(","))))
        )

    def full_xid(self, xid: int) -> int:
        """The 64-bit id of a 32-bit one from the stream, the nearest to `xmax`."""
        full = self.xmax - self.xmax % _XID_BITS + xid
        if full > self.xmax + _XID_BITS // 2:
            full -= _XID_BITS
        elif full < self.xmax - _XID_BITS // 2:
            full += _XID_BITS
        return full

    def sees(self, xid: int) -> bool:
        """Whether the effects of the committed transaction `xid` (32 bits) show."""
        full = self.full_xid(xid)
        return full < self.xmin or (full < self.xmax and full not in self.running)


class Reading(Protocol):
    """One open snapshot of the source."""

    snapshot: Snapshot
    insert_lsn: int
    """`pg_current_wal_insert_lsn()` in the same transaction, at least as new as
    everything that the snapshot sees."""


ReadingT = TypeVar("ReadingT", bound=Reading)


class Gate:
    """Which streamed transactions have not been seen to be visible yet.

    `barrier` is a full transaction id of one's own, taken after the slot was made:
    what committed before the slot's start and is still invisible is in no stream, so
    nothing at all is read until every transaction older than the barrier has ended.
    """

    def __init__(
        self, barrier: int = 0, waited: Callable[[float], None] = lambda _: None
    ) -> None:
        self._barrier = barrier
        self._unseen: dict[int, int] = {}
        self._reached = 0
        self._waited = waited
        self._marks: deque[tuple[float, int]] = deque()
        self._old = 0
        self._shown: dict[int, int] = {}
        """What was seen to be visible while snapshots were asked for, and in which
        look."""
        self._looks = 0
        self._asked: list[int] = []
        """Of each snapshot that is asked for, after how many looks it was."""

    def raise_barrier(self, xid: int) -> None:
        """Read nothing before all transactions older than `xid` have ended."""
        self._barrier = max(self._barrier, xid)

    def streamed(self, xids: Iterable[int], start: int, end: int) -> None:
        """These transactions, all ending in (`start`, `end`], came in one batch."""
        self._unseen.update(dict.fromkeys(xids, start))
        self._reached = max(self._reached, end)

    def start(self, lsn: int) -> None:
        """The stream starts (again) at `lsn`, which was acknowledged.

        Whoever waits to read for a later position waits until the stream has come
        there again: only then it is known which transactions have to be visible.
        """
        self._unseen.clear()
        self._reached = lsn
        self._forget()

    def look(self, snapshot: Snapshot, now_s: float) -> None:
        """Remember what this snapshot shows, and what is old by now.

        A commit that stays invisible for longer than sinks remember a delete may have
        taken a document away; a snapshot that does not see it would bring that back. So
        nothing is read without it, for whatever position.
        """
        self.passes(snapshot, 0)
        if not self._unseen:
            self._forget()
            return
        if not self._marks or now_s - self._marks[-1][0] >= _OLD_S / 10:
            self._marks.append((now_s, self._reached))
        while now_s - self._marks[0][0] >= _OLD_S:
            self._old = self._marks.popleft()[1]
            if not self._marks:
                self._marks.append((now_s, self._reached))

    def _forget(self) -> None:
        self._marks.clear()
        self._old = 0

    @property
    def waiting(self) -> bool:
        """Whether anything streamed has not been seen to be visible."""
        return bool(self._unseen)

    def invisible_from(self) -> int | None:
        """Where the first batch with a transaction not yet visible begins.

        Everything that ended at or before this position was seen to be visible.
        """
        return next(iter(self._unseen.values()), None)

    def passes(self, snapshot: Snapshot, lsn: int, since: int | None = None) -> bool:
        """Whether this snapshot may be read for position `lsn`.

        Remembers what the snapshot has shown to be visible. It was asked for after
        `since` looks: what others have shown since then it must show itself, since it
        may be older than they are, although it is looked at later.
        """
        if snapshot.xmin < self._barrier:
            return False
        if self._unseen:
            self._see(snapshot)
        if since is not None and any(
            look > since and not snapshot.sees(xid) for xid, look in self._shown.items()
        ):
            return False
        if lsn > self._reached:
            return False
        first = self.invisible_from()
        return first is None or first >= max(lsn, self._old)

    def _see(self, snapshot: Snapshot) -> None:
        unseen = {x: at for x, at in self._unseen.items() if not snapshot.sees(x)}
        if self._asked and len(unseen) < len(self._unseen):
            self._looks += 1
            shown = self._unseen.keys() - unseen.keys()
            self._shown.update(dict.fromkeys(shown, self._looks))
        self._unseen = unseen

    def _answered(self, since: int) -> None:
        """One that was asked for after so many looks is there."""
        self._asked.remove(since)
        first = min(self._asked, default=self._looks)
        if self._shown:
            self._shown = {x: n for x, n in self._shown.items() if n > first}

    @asynccontextmanager
    async def open(
        self,
        take: Callable[[], AbstractAsyncContextManager[ReadingT]],
        lsn: int,
    ) -> AsyncIterator[ReadingT]:
        """A snapshot that may be read for position `lsn`; waits for it.

        `take` opens a fresh snapshot each time; one that does not pass is closed
        again before the next is taken, so that waiting holds nothing back.
        """
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), _FIRST_DELAY_S
        while True:
            since = self._looks
            self._asked.append(since)
            async with AsyncExitStack() as stack:
                try:
                    reading = await stack.enter_async_context(take())
                    passes = self.passes(reading.snapshot, lsn, since)
                finally:
                    self._answered(since)
                if passes:
                    self._waited(0.0)
                    yield reading
                    return
            self._waited(loop.time() - began)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _DELAY_MAX_S)
