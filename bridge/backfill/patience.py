"""Making a call again while the source is not available.

The one thing to know: only `Transient` is waited for; whatever else happens is the
caller's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.errors import Transient

T = TypeVar("T")
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
