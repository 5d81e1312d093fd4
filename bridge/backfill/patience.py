"""Making a call again while the source is not available; ending what is under way.

The one thing to know: only `Transient` is waited for; whatever else happens is the
caller's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.errors import Transient

T = TypeVar("T")
_AGAIN_S = 1.0
_FIRST_S, _MAX_S = 0.2, 5.0


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer, however long the source is away."""
    delay = _FIRST_S
    while True:
        try:
            return await call()
        except Transient:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_S)


async def ended(task: asyncio.Task[object]) -> None:
    """Cancel a task until it has ended: a library may take the first time for an error
    of its own connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
