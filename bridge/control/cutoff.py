"""Switches of readers that a crash has cut off: made in the sink, not yet recorded.

The one thing to know: readers see the other generation by then, and perhaps newer
documents than the recorded one has. So the switch is recorded, never taken back.
"""

from __future__ import annotations

from contextlib import suppress

from bridge.control.commands import Promote, RollBack, parse
from bridge.errors import Refusal
from bridge.sink import Sink, Target
from bridge.store import Store
from bridge.store.rows import (
    BackfillKind,
    CommandState,
    GenerationKey,
    GenerationRow,
    GenerationState,
)


async def record_cut_off(
    store: Store, sink: Sink, target: Target, known: list[GenerationRow]
) -> dict[int, GenerationState]:
    """Record what readers of a target see, where it is not what is recorded.

    `known` are its generations. The new states of those that changed; an alias that
    somebody has pointed elsewhere by hand changes nothing. Transient, Halt.
    """
    number = await sink.published(target)
    row = next((row for row in known if row.key.number == number), None)
    if row is None:
        return {}
    match row.state:
        case GenerationState.BUILDING:
            if await is_built(store, row.key) or await _asked(store, row.key, Promote):
                return await store.generations.promote(row.key)
        case GenerationState.PREVIOUS:
            if await _asked(store, row.key, RollBack):
                return await store.generations.roll_back(row.key)
    return {}


async def is_built(store: Store, key: GenerationKey) -> bool:
    """Whether every range of a generation's build is kept. Transient."""
    for row in await store.backfills.open():
        if row.kind is BackfillKind.BUILD and row.key == key:
            ranges = await store.backfills.ranges(row.id)
            whole = bool(ranges) and ranges[-1].bounds.upper is None
            return whole and all(each.done for each in ranges)
    return False


async def _asked(
    store: Store, key: GenerationKey, kind: type[Promote | RollBack]
) -> bool:
    """Whether a command was being carried out that lets readers see this one."""
    for row in await store.commands.open():
        if row.state is not CommandState.RUNNING:
            continue
        with suppress(Refusal):
            command = parse(row)
            if isinstance(command, kind) and key in command.generations:
                return True
    return False
