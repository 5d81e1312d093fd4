"""Blocking calls made from the event loop, in daemon threads.

The one thing to know: `asyncio.to_thread` shares one small pool with everybody, and its
threads are waited for when the process ends; a server that does not answer would hold
up both. These threads belong to one sink and die with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Up to `count` calls at a time; more wait their turn."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, made in a thread. When the caller is cancelled the
        call goes on to its end, and its result is dropped; one that has not begun is
        not made."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            if future.cancelled():
                self._rest()
                return
            try:
                outcome: Any = call()
                settle: Callable[[Any], None] = future.set_result
            except BaseException as error:  # noqa: BLE001 - raised in the caller's task
                outcome, settle = error, future.set_exception
            # before the caller goes on: its next call shall find this thread idle
            self._rest()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, settle, outcome)

        self._put(work)
        return await future

    def close(self) -> None:
        """Let idle threads end. A call under way is not waited for."""
        for _ in range(self._started):
            self._queue.put(None)

    def _put(self, work: Callable[[], None]) -> None:
        with self._lock:
            start = self._idle == 0 and self._started < self._count
            if start:
                self._started += 1
            else:
                self._idle -= 1
        self._queue.put(work)
        if start:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()

    def _rest(self) -> None:
        with self._lock:
            self._idle += 1


def _settle(
    future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any
) -> None:
    if not future.done():
        settle(outcome)
