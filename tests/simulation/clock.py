"""An event loop whose time stands still while anybody works, and jumps when all wait.

The one thing to know: one thread, no sockets, no real time, so that the order of
everything follows from the dice alone.
"""

from __future__ import annotations

import asyncio
from asyncio.base_events import BaseEventLoop
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everybody waits for somebody, and nobody for a time."""


class _Jump:
    """In the place of a selector: instead of waiting, the clock is put forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("everybody waits, and no time would change it")
        self.now += timeout
        return []

    def close(self) -> None:
        return


class SimulatedLoop(BaseEventLoop):
    """asyncio on simulated time, from 0 s."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Jump()
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._selector.now

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end under simulated time."""
    loop = SimulatedLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
