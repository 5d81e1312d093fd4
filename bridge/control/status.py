"""How everything is, read from the source's own tables: needs no daemon.

The one thing to know: this has the form of `/status`; the daemon answers from memory,
which knows more of the moment, and this from what is written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bridge.config import Config
from bridge.control.check import one
from bridge.control.installing import unpublished
from bridge.control.session import Session, session, wrapped
from bridge.control.survey import survey
from bridge.errors import BridgeError, sentence
from bridge.position import Position, parse_lsn
from bridge.store import Store, migrate
from bridge.store.rows import (
    CommandRow,
    DaemonRow,
    GenerationKey,
    SinkRow,
    SinkState,
    moving,
)

NOT_INSTALLED = "not installed"
STOPPED = "stopped"
_COMMANDS = 10
"""So many of the last commands are told."""


async def status(config: Config) -> dict[str, Any]:
    """Source, sinks and targets. Transient when the source is away, Halt when it
    refuses."""
    dsn = config.source.dsn
    if len(await migrate.pending(dsn)) == len(migrate.read()):
        reason = "nothing was applied to this database yet"
        return {
            "source": _source(NOT_INSTALLED, reason, None, None, None),
            "sinks": [],
            "targets": [],
            "commands": [],
        }
    async with await Store.open(dsn) as store, session(dsn) as connection:
        slot = await one(connection, "slot", slot=config.source.slot)
        source, daemon = await store.read_source(), await store.read_daemon()
        alive = daemon is not None and daemon.alive
        owed: dict[str, int] = {}
        for key, count in (await store.owed.count()).items():
            owed[key.sink] = owed.get(key.sink, 0) + count
        differences = await store.differences.count()
        position = None
        if source is not None and slot is not None and slot["confirmed"]:
            position = str(Position(source.epoch, parse_lsn(slot["confirmed"])))
        open_backfills = await store.backfills.open()
        shown = [
            row
            | {"differences": differences.get(_shown(row), 0)}
            | moving(open_backfills, row)
            for row in await targets(connection)
        ]
        if alive:
            shown += await _left_out(config, shown)
        waiting = {} if alive else _pauses(await store.commands.open())
        return {
            "source": _source(*_state(daemon, slot), slot, position, daemon)
            | {"wal_budget_bytes": config.source.wal_budget_bytes},
            "sinks": [
                {
                    "name": row.name,
                    "type": row.type,
                    "owed_keys": owed.get(row.name, 0),
                }
                | _sink_state(row, waiting)
                for row in await store.sinks()
            ],
            "targets": shown,
            "commands": [
                _command(row) for row in await store.commands.newest(_COMMANDS)
            ],
        }


def _pauses(rows: Sequence[CommandRow]) -> dict[str, int | None]:
    """For sinks of which a pause or its end waits for a daemon: the command that
    pauses, None where it is to go on. The last that was asked for holds."""
    found: dict[str, int | None] = {}
    for row in sorted(rows, key=lambda row: row.id):
        if row.kind in ("pause", "resume"):
            found[str(row.arguments.get("sink"))] = (
                row.id if row.kind == "pause" else None
            )
    return found


def _sink_state(
    row: SinkRow, waiting: Mapping[str, int | None]
) -> dict[str, str | None]:
    command = waiting.get(row.name)
    if command is None:
        return {"state": row.shown.value, "reason": row.reason}
    reason = f"command {command} pauses it from the daemon's start on"
    return {"state": SinkState.PAUSED.value, "reason": reason}


def _command(row: CommandRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "by": row.issued_by,
        "at": row.issued_at.isoformat(),
        "state": row.state.value,
        "message": row.message,
    }


async def _left_out(
    config: Config, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of targets that the daemon has not taken up, each with what it waits for;
    nothing is written down of these."""
    known = {(row["sink"], row["name"]) for row in rows}
    new = [each for each in config.targets() if (each.sink, each.name) not in known]
    if not new:
        return []
    why: Mapping[str, BridgeError]
    try:
        async with survey(config, partial=True) as looked:
            why = {**looked.lacking, **unpublished(looked)}
    except BridgeError as error:
        why = dict.fromkeys(config.views, error)
    return [
        {
            "view": each.view,
            "sink": each.sink,
            "name": each.name,
            "state": "halted" if each.view in why else "building",
            "reason": sentence(why[each.view]) if each.view in why else "",
            **dict.fromkeys(("generation", "building", "previous", "position")),
            **dict.fromkeys(("lag_bytes", "lag_seconds")),
            **moving((), {}),
            **dict.fromkeys(("documents", "dead_letters", "differences"), 0),
        }
        for each in new
    ]


def _shown(row: Mapping[str, Any]) -> GenerationKey:
    return GenerationKey(row["sink"], row["name"], row["generation"] or 0)


async def targets(connection: Session) -> list[dict[str, Any]]:
    """A row a target, as `bridge.status()` tells."""
    with wrapped():
        cursor = await connection.execute("select * from bridge.status()")
        return [dict(row) for row in await cursor.fetchall()]


def _source(
    state: str,
    reason: str,
    slot: Mapping[str, Any] | None,
    position: str | None,
    daemon: DaemonRow | None,
) -> dict[str, Any]:
    refused = daemon.refused if daemon is not None and daemon.alive else ""
    return {
        "state": state,
        "reason": reason,
        "position": position,
        "lag_bytes": slot["lag_bytes"] if slot else None,
        "retained_bytes": slot["retained_bytes"] if slot else None,
        "configuration_refused": refused or None,
    }


def _state(daemon: DaemonRow | None, slot: Mapping[str, Any] | None) -> tuple[str, str]:
    if daemon is None or not daemon.alive:
        return STOPPED, absence(daemon)
    if slot is None:
        return daemon.state, daemon.reason or "there is no replication slot"
    return daemon.state, daemon.reason


def absence(daemon: DaemonRow | None) -> str:
    """That no daemon runs, and when one was last seen."""
    if daemon is None:
        return "no daemon has run yet"
    minutes = (datetime.now(UTC) - daemon.seen_at).total_seconds() / 60
    if minutes < 1:
        ago = "a moment ago"
    else:
        ago = f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"
    return f"no daemon is running; the last was seen on {daemon.host} {ago}"
