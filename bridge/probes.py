"""Named points in the code where a test can wait, hold, raise or kill.

The one thing to know: in production a probe is one dictionary look-up that finds
nothing. Tests register an action by name; a name that was never registered here is a
mistake in the test and raises KeyError.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Action: TypeAlias = Callable[[], Awaitable[None] | None]

NAMES = frozenset(
    {
        "capture.batch",  # a batch of whole transactions was handed to the pipeline
        "derive.keys",  # keys of a batch are known, nothing was read yet
        "derive.piece",  # a piece of a batch of very many keys is in the lanes
        "derive.documents",  # documents are read, not yet in a lane
        "deliver.send",  # a write is about to be sent
        "deliver.kept",  # the sink has answered, the ledger does not know yet
        "ledger.acknowledge",  # the slot's position is about to move
        "store.progress",  # positions are about to be written
        "backfill.chunk",  # a chunk was read, not yet in a lane
        "backfill.kept",  # a chunk was kept, not yet recorded
        "parking.parked",  # it is written down, the slot still waits for the sink
        "parking.recorded",  # debts are durable, the ledger does not know yet
        "parking.paid",  # debts were kept, their records are still there
        "generation.prepared",  # an index was created, not yet recorded
        "generation.abandoned",  # a rebuild is given up for good, and still there
        "command.begun",  # a command is noted as begun, nothing of it is done
        "command.done",  # everything of it is done, its outcome not yet noted
        "generation.altering",  # its new options are about to be written down
        "generation.altered",  # it was altered in its sink, not yet recorded
        "generation.built",  # every range was kept, readers do not see it yet
        "generation.publish",  # a generation is about to be promoted
        "generation.published",  # the sink was switched, not yet recorded
        "generation.recorded",  # it is recorded, and nothing done that follows from it
        "generation.lost",  # another one is to be built for it, and is not begun
        "generation.dropped",  # it is gone from the sink, and still recorded
        "schema.noticed",  # the log tells that something was altered; not looked yet
        "schema.looked",  # something is found to be altered, and nothing done for it
        "schema.derived",  # everything is derived for it, that is not yet written down
    }
)

_actions: dict[str, Action] = {}


def register(name: str, action: Action) -> None:
    """Have `action` run whenever the probe is reached. KeyError: no such probe."""
    if name not in NAMES:
        raise KeyError(name)
    _actions[name] = action


def clear() -> None:
    """Forget all actions."""
    _actions.clear()


async def reach(name: str) -> None:
    """The point `name` is reached; a no-op unless a test registered an action."""
    if _actions and (action := _actions.get(name)) is not None:
        outcome = action()
        if inspect.isawaitable(outcome):
            await outcome
