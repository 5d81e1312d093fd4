"""Commands that the running daemon carries out: issue one, and see what comes of it.

The one thing to know: a command is a row in the source, ordered with the data; it is
carried out once, whatever is restarted meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bridge.cli.output import note
from bridge.errors import BridgeError, Halt

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.store import Store
    from bridge.store.rows import CommandRow

_LOOK_FIRST_S, _LOOK_S = 0.05, 0.5


async def require_daemon(store: Store) -> None:
    """Halt, telling when one was last seen, when no daemon runs."""
    from bridge.control.status import absence

    daemon = await store.read_daemon()
    if daemon is None or not daemon.alive:
        raise Halt(absence(daemon), hint="start one: `pgbridge run`")


async def is_running(store: Store) -> bool:
    """Whether a daemon runs; says to stderr when the last was seen, if not."""
    from bridge.control.status import absence

    daemon = await store.read_daemon()
    if daemon is not None and daemon.alive:
        return True
    note(f"{absence(daemon)}; `pgbridge run` goes on with what waits")
    return False


async def outcome(
    store: Store,
    command: int,
    look: Callable[[], Awaitable[None]] | None = None,
) -> CommandRow:
    """Wait until the command is carried out. BridgeError when it failed.

    `look` is called between two looks at it, to show how far it is. What it waits for
    is told, whenever that is something else.
    """
    from bridge.store.rows import CommandState

    delay, told = _LOOK_FIRST_S, ""
    while True:
        row = await store.commands.read(command)
        if row is None:
            raise Halt(
                f"command {command} is gone",
                hint="see `pgbridge status`, and try again",
            )
        match row.state:
            case CommandState.DONE:
                return row
            case CommandState.FAILED | CommandState.CANCELLED:
                # As `errors.sentence` joins them.
                what, _, hint = row.message.partition("; ")
                raise BridgeError(what or f"command {command} {row.state}", hint=hint)
            case _:
                if row.message and row.message != told:
                    note(f"command {command} {row.message}")
                told = row.message
                if look is not None:
                    await look()
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, _LOOK_S)


def carry_out(
    config: Config, issue: Callable[[Store], Awaitable[int]], *, later: bool = False
) -> str | None:
    """Issue a command and wait for its outcome: what the daemon says of it.

    None where no daemon runs and `later` is allowed: the command waits in its table.
    Refusal when it cannot be, Halt when no daemon runs.
    """

    async def go() -> str | None:
        from bridge.store import Store

        async with await Store.open(config.source.dsn) as store:
            if later:
                command = await issue(store)
                if not await is_running(store):
                    return None
            else:
                await require_daemon(store)
                command = await issue(store)
            return (await outcome(store, command)).message

    return asyncio.run(go())
