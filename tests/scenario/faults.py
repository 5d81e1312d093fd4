"""What goes wrong between the daemon and a server: each way a network breaks.

The one thing to know: every fault here holds until `FaultProxy.heal`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.fixtures.proxy import FaultProxy, Way

Inflict: TypeAlias = Callable[[FaultProxy, random.Random], Awaitable[None]]


async def _half_close(proxy: FaultProxy, dice: random.Random) -> None:
    await proxy.half_close(dice.choice((Way.UP, Way.DOWN)))


async def _truncate(proxy: FaultProxy, dice: random.Random) -> None:
    await proxy.truncate(dice.randint(1, 3000), dice.choice((Way.UP, Way.DOWN)))


NETWORK: dict[str, Inflict] = {
    "cut": lambda proxy, _: proxy.cut(),
    "refused": lambda proxy, _: proxy.refuse(),
    "stalled": lambda proxy, _: proxy.stall(),
    "answers stalled": lambda proxy, _: proxy.stall(Way.DOWN),
    "deaf": lambda proxy, _: proxy.deaf(),
    "half-closed": _half_close,
    "slow": lambda proxy, dice: proxy.slow(dice.choice((2_000, 20_000))),
    "truncated": _truncate,
}
