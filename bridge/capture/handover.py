"""The bounded hand-over from the capture thread to the event loop.

The one thing to know: the thread never blocks in here. It asks `full`, and when there
is no room it sets `awaited` and goes on with its feedback until `waker` says that
something was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from bridge.changes import Keepalive

B = TypeVar("B")


class Waker:
    """Wakes a thread that polls: a pair of sockets, written to only if it waits.

    A system call lets go of the interpreter, and while the loop is busy it is not
    had back before a millisecond; hence as few of them as can be.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._woken = False
        self._waiting = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End the poll that is or comes next, from any thread."""
        self._woken = True
        if self._waiting:
            self._waiting = False
            # A full pipe has woken it already; a closed one has nobody waiting.
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")

    def begin_wait(self) -> bool:
        """To be called before the poll: False when it has been woken already."""
        self._waiting = True
        return not self._woken

    def end_wait(self, *, readable: bool) -> None:
        """To be called after the poll: wake-ups from here on are for the next."""
        self._waiting = self._woken = False
        if readable:
            with contextlib.suppress(OSError):
                self._reader.recv(4096)

    def close(self) -> None:
        """Give the sockets back."""
        self._reader.close()
        self._writer.close()


class HandOver(Generic[B]):
    """A queue from one thread to one coroutine, bounded by bytes and by count."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waker: Waker,
        *,
        bytes_max: int,
        count_max: int,
    ) -> None:
        self._loop = loop
        self._waker = waker
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._items: deque[tuple[B | Keepalive, int]] = deque()
        self._bytes = 0
        self._batches = 0
        self._lock = threading.Lock()
        self._filled = asyncio.Event()
        self._consumer_waits = False
        self._error: BaseException | None = None
        self.awaited = False
        """The thread waits for something to be taken: set before it looks."""

    @property
    def full(self) -> bool:
        """No room for another batch. One that is larger than all goes in alone."""
        return self._batches >= self._count_max or self._bytes >= self._bytes_max

    @property
    def empty(self) -> bool:
        """The loop has taken every batch."""
        return not self._batches

    def put(self, item: B | Keepalive, weight: int) -> None:
        """Add an item, from the thread. A keepalive takes the place of the last one."""
        with self._lock:
            items = self._items
            if not isinstance(item, Keepalive):
                self._batches += 1
            elif items and isinstance(items[-1][0], Keepalive):
                items.pop()
            items.append((item, weight))
            self._bytes += weight
            wake, self._consumer_waits = self._consumer_waits, False
        if wake:
            self._call(self._filled.set)

    def fail(self, error: BaseException) -> None:
        """From the thread: every `get` raises `error` from now on."""
        with self._lock:
            self._error = error
        self._call(self._filled.set)

    async def get(self) -> B | Keepalive:
        """The next item, for one coroutine at a time.

        A failure is raised at once: what is still queued must not be sent any more.
        """
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                if self._items:
                    item, weight = self._items.popleft()
                    self._bytes -= weight
                    self._batches -= not isinstance(item, Keepalive)
                    break
                self._consumer_waits = True
                self._filled.clear()
            await self._filled.wait()
        if self.awaited:
            self.awaited = False
            self._waker.wake()
        return item

    def _call(self, callback: Callable[[], object]) -> None:
        # The loop may be closed while the thread is still ending.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)
