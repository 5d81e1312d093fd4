"""Commands as rows: issued, found, carried out once.

The one thing to know: issuing is the one call of the store that must not be made
again blindly after `Transient`, since a second row is a second command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from bridge.position import format_lsn, page_start, parse_lsn
from bridge.store.rows import CommandRow, CommandState
from bridge.store.session import Session


class Commands:
    """`bridge.command`, and the public functions that fill it.

    Those that issue give the command's id, and raise `Refusal` with a hint when the
    function refuses: no such view, sink, generation or backfill.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    # — issuing —

    async def issue(self, kind: str, arguments: Mapping[str, Any]) -> int:
        """A command without a public function (`configure`); for the daemon's role."""
        return await self._issue(
            "issue_command", kind=kind, arguments=Jsonb(dict(arguments))
        )

    async def backfill(
        self,
        view: str,
        *,
        target: str | None = None,
        keys: Sequence[str] | None = None,
        condition: str | None = None,
        rebuild: bool = False,
    ) -> int:
        """As `bridge.backfill`."""
        return await self._issue(
            "issue_backfill",
            view=view,
            target=target,
            keys=None if keys is None else list(keys),
            condition=condition,
            rebuild=rebuild,
        )

    async def promote(
        self, view: str, *, target: str | None = None, force: bool = False
    ) -> int:
        """As `bridge.promote`."""
        return await self._issue("issue_promote", view=view, target=target, force=force)

    async def roll_back(self, view: str, *, target: str | None = None) -> int:
        """As `bridge.rollback`."""
        return await self._issue("issue_rollback", view=view, target=target)

    async def pause(self, sink: str) -> int:
        """As `bridge.pause`."""
        return await self._issue("issue_pause", sink=sink)

    async def resume(self, sink: str) -> int:
        """As `bridge.resume`."""
        return await self._issue("issue_resume", sink=sink)

    async def cancel(self, command: int) -> int:
        """As `bridge.cancel`."""
        return await self._issue("issue_cancel", id=command)

    async def retry(self, view: str, keys: Sequence[str] | None = None) -> int:
        """As `bridge.retry`."""
        return await self._issue(
            "issue_retry", view=view, keys=None if keys is None else list(keys)
        )

    async def _issue(self, name: str, **values: object) -> int:
        row = await self._session.row(name, **values)
        assert row is not None
        return int(row["id"])

    # — carrying out —

    async def open(self) -> list[CommandRow]:
        """Those without an outcome, in the order of their ids."""
        return [_command(row) for row in await self._session.rows("list_open_commands")]

    async def newest(self, count: int) -> list[CommandRow]:
        """The last that were issued, the newest first."""
        rows = await self._session.rows("list_newest_commands", count=count)
        return [_command(row) for row in rows]

    async def read(self, command: int) -> CommandRow | None:
        """One by its id; None when there is none (anybody may emit a message)."""
        row = await self._session.row("read_command", id=command)
        return None if row is None else _command(row)

    async def start(self, command: int, *, lsn: int | None = None) -> bool:
        """It is being carried out, at the end `lsn` of the commit that issued it.
        False when it has an outcome already: skip it."""
        touched = await self._session.run(
            "start_command", id=command, lsn=None if lsn is None else format_lsn(lsn)
        )
        return touched > 0

    async def tell(self, command: int, message: str) -> None:
        """What it waits for while it is being carried out; empty: nothing."""
        await self._session.run("tell_command", id=command, message=message)

    async def finish(
        self, command: int, state: CommandState, message: str = ""
    ) -> bool:
        """Its outcome; False when it had one before, which stays."""
        assert state not in (CommandState.PENDING, CommandState.RUNNING)
        touched = await self._session.run(
            "finish_command", id=command, state=state.value, message=message
        )
        return touched > 0


def _command(row: dict[str, Any]) -> CommandRow:
    lsn = row["lsn"]
    return CommandRow(
        **row
        | {
            "state": CommandState(row["state"]),
            "lsn": None if lsn is None else parse_lsn(lsn),
            "log_end": page_start(parse_lsn(row.get("log_end", "0/0"))),
        }
    )
