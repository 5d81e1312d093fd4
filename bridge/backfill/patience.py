"""Making a call again while the source is not available; ending what is under way.

The one thing to know: only `Transient` is waited for; whatever else happens is the
caller's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

from bridge.errors import Transient

T = TypeVar("T")
_AGAIN_S = 1.0
_ALL_AGAIN_S = 5.0
"""What ends well, and frees what it holds, takes less."""
_FIRST_S, _MAX_S = 0.2, 5.0


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer, however long the source is away."""
    delays = growing()
    while True:
        try:
            return await call()
        except Transient:
            await asyncio.sleep(next(delays))


def growing() -> Iterator[float]:
    """How long to wait before a call is made again, in seconds, time after time."""
    delay = _FIRST_S
    while True:
        yield delay
        delay = min(delay * 2, _MAX_S)


async def ended(task: asyncio.Task[object]) -> None:
    """Cancel a task until it has ended: a library may take the first time for an error
    of its own connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)


async def all_ended(
    tasks: Collection[asyncio.Task[Any]], known: Collection[asyncio.Task[Any]]
) -> None:
    """Cancel these until they have ended, and what they have started with them: every
    task that is not `known`. A group cancels its tasks once, and waits for one that has
    not heard it."""
    for task in tasks:
        task.cancel()
    while left := {task for task in tasks if not task.done()}:
        await asyncio.wait(left, timeout=_ALL_AGAIN_S)
        if any(not task.done() for task in left):
            kept = {asyncio.current_task(), *known}
            for task in asyncio.all_tasks() - kept:
                task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
