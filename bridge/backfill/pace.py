"""How fast backfills may go: a rate limit, and never at the stream's expense.

The one thing to know: all backfills share one pace, so that several at once do not
add up to more than the operator has allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_LOOK_S = 0.05
_PATIENCE_S = 2.0


class Pace:
    """The permission to go on."""

    def __init__(
        self,
        *,
        lag_s: Callable[[], float] = lambda: 0.0,
        lag_s_max: float = 1.0,
        rate: float | None = None,
    ) -> None:
        """`lag_s` tells how far the stream is behind, in seconds; `rate` is a limit
        of documents per second, None for none."""
        self._lag_s = lag_s
        self._lag_s_max = lag_s_max
        self._rate = rate
        self._next_s = 0.0

    async def wait(self) -> None:
        """Before the next range: let a stream that is behind go first.

        Only for a while: a stream that stays behind must not starve a build, which
        may be what makes it catch up.
        """
        waited = 0.0
        while self._lag_s() > self._lag_s_max and waited < _PATIENCE_S:
            await asyncio.sleep(_LOOK_S)
            waited += _LOOK_S

    @property
    def burst(self) -> int | None:
        """The most documents that are to go at once: a second's; None: any number."""
        return None if self._rate is None else max(1, int(self._rate))

    def chunk(self, documents: int) -> int:
        """So many at most are to be read at once: what is read waits for the rate with
        its snapshot open, and keeps the source from cleaning up."""
        return documents if self.burst is None else min(documents, 2 * self.burst)

    async def spend(self, documents: int) -> None:
        """Wait until that many documents fit under the rate."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_s)
        self._next_s = start + documents / self._rate
        await asyncio.sleep(start - now)
