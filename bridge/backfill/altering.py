"""Giving a generation that readers see what its target asks for now, in place.

The one thing to know: that it is to be done is written down before (`apply`), and done
again until it is done; documents are written again only after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.patience import patiently
from bridge.control.letters import generation_key
from bridge.errors import Halt, Transient
from bridge.observe.logs import logger
from bridge.sink import Generation

_log = logger("bridge.backfill")
_AGAIN_S = 1.0


async def alter(
    assembly: Assembly,
    generation: Generation,
    kept: Callable[[Generation], bool],
    halt: Callable[[Generation, Halt], Awaitable[None]],
) -> None:
    """Alter it, as soon as the sink is there and for as long as it is `kept`."""
    sink = assembly.sinks[generation.target.sink]
    while kept(generation):
        try:
            await sink.alter(generation)
        except Transient:
            await asyncio.sleep(_AGAIN_S)
        except Halt as error:
            await halt(generation, error)
            return
        else:
            break
    else:
        return
    await probes.reach("generation.altered")
    key = generation_key(generation)
    await patiently(partial(assembly.store.generations.set_prepared, key))
    _log.info("altered", target=str(generation.target), generation=generation.number)
