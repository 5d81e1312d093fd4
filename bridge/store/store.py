"""The store: everything that the bridge remembers between two runs.

    store.generations   views, targets, and the life of their builds
    store.positions     how far each generation is
    store.backfills     backfills and their ranges
    store.owed          keys to be derived again
    store.letters       documents that were refused for good
    store.differences   documents that were found wrong
    store.commands      what operators ask for

The one thing to know: every call is one statement and one transaction, may be made
again when it raised `Transient`, and is durable when it returns (positions alone are
not: what a crash takes from them is only kept once more).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from bridge.errors import Halt
from bridge.position import format_lsn, parse_lsn
from bridge.store.backfills import Backfills
from bridge.store.commands import Commands
from bridge.store.differences import Differences
from bridge.store.generations import Generations
from bridge.store.letters import DeadLetters
from bridge.store.locks import LEASE, LOCK_CLASS
from bridge.store.owed import OwedKeys
from bridge.store.positions import Positions
from bridge.store.rows import (
    DaemonRow,
    LogKnown,
    ServerLife,
    SinkRow,
    SinkState,
    SourceRow,
)
from bridge.store.session import Session, superseded


class Store:
    """The tables of one source, over one connection that is made again when lost.

    All methods may raise `Transient` (the source is away: call again) or `Halt` (no
    privilege, no tables: the hint says what to do). Safe for concurrent use; calls
    wait for each other.
    """

    def __init__(self, session: Session) -> None:
        """Connects nowhere; `open` is the way in."""
        self._session = session
        self._token: UUID = uuid4()
        self.generations = Generations(session)
        self.positions = Positions(session, self._token)
        self.backfills = Backfills(session)
        self.owed = OwedKeys(session)
        self.letters = DeadLetters(session)
        self.differences = Differences(session)
        self.commands = Commands(session)

    @classmethod
    async def open(cls, dsn: str, *, application_name: str = "pgbridge store") -> Store:
        """A store of the database `dsn` names; the schema must be migrated.

        Transient when the source cannot be reached, Halt when it refuses or the
        tables are not there, Refusal when libpq does not take the dsn.
        """
        session = Session(dsn, application_name)
        try:
            await session.rows("read_source")
        except BaseException:
            await session.close()
            raise
        return cls(session)

    @classmethod
    def over(cls, connection: AsyncConnection[DictRow]) -> Store:
        """A store over a connection that its caller has opened, and closes."""
        return cls(Session.over(connection))

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # — the source —

    async def read_source(self) -> SourceRow | None:
        """The history that the bridge is in; None before the first start."""
        row = await self._session.row("read_source")
        return None if row is None else SourceRow(**row)

    async def save_source(self, source: SourceRow) -> None:
        """The history from now on. To be called *before* a new slot is made, so that
        nobody takes the new slot's position for one of the old history.

        Halt when a higher epoch is recorded: somebody else has gone on.
        """
        saved = await self._session.row(
            "save_source",
            system_identifier=source.system_identifier,
            timeline=source.timeline,
            database=source.database,
            slot=source.slot,
            epoch=source.epoch,
            barrier=source.barrier,
            fingerprint=source.fingerprint,
            owner=source.owner,
        )
        if saved is None:
            raise Halt(
                f"epoch {source.epoch} is older than the one recorded in the source",
                hint="another daemon has taken over; stop this one",
            )

    async def save_passed(self, lsn: int) -> None:
        """The slot may move to `lsn` although a parked sink has not come so far.
        Durable on return. Halt when another daemon has taken over."""
        saved = await self._session.row(
            "save_passed", token=self._token, lsn=format_lsn(lsn)
        )
        if saved is None:
            raise superseded()

    async def passed(self) -> int:
        """How far `save_passed` has let the slot move in this epoch; 0: nowhere."""
        row = await self._session.row("read_passed")
        return parse_lsn(row["passed_lsn"]) if row and row["passed_lsn"] else 0

    async def save_noted(self, lsn: int) -> None:
        """Sinks may be told from now on that they are at `lsn`. Durable on return.
        Halt when another daemon has taken over."""
        saved = await self._session.row(
            "save_noted", token=self._token, lsn=format_lsn(lsn)
        )
        if saved is None:
            raise superseded()

    async def log(self) -> LogKnown:
        """How much of the log this database knows of."""
        row = await self._session.row("read_log")
        assert row is not None
        noted = row["noted"]
        return LogKnown(parse_lsn(noted) if noted else None, parse_lsn(row["ends"]))

    async def doubt(self, reason: str) -> None:
        """Note why this may not be the history that the sinks have followed. The
        next look at the source asks the operator."""
        await self._session.run("doubt_source", reason=reason)

    async def read_facts(self) -> dict[str, Any]:
        """What was known of tables and publication when all followed from them."""
        row = await self._session.row("read_facts")
        return {} if row is None else dict(row["facts"])

    async def save_facts(self, facts: Mapping[str, Any]) -> None:
        """Every document now follows from this. Writes only what has changed."""
        await self._session.run("save_facts", facts=Jsonb(dict(facts)))

    async def emit_marker(self, content: str) -> int:
        """Put a transactional message `pgbridge` into the log, committed on return.

        Returns where it was written. The position to use is the *end* of its commit,
        which only the stream tells: make `content` unique and wait for it there.
        """
        row = await self._session.row("emit_marker", content=content)
        assert row is not None
        return parse_lsn(row["lsn"])

    # — the daemon —

    async def take_over(
        self, *, host: str, pid: int, version: str, http: str, state: str
    ) -> None:
        """From now on this store writes positions, and no store opened before.

        To be called once the lease is held.
        """
        await self._session.run(
            "take_over",
            token=self._token,
            host=host,
            pid=pid,
            version=version,
            http=http,
            state=state,
        )

    async def heartbeat(self, state: str, reason: str = "", refused: str = "") -> None:
        """What the daemon does now, why, and why an edited configuration was refused.

        Writes only what has changed, and each minute that it is there, so that an idle
        daemon makes next to no log; whether it lives, its lease tells.
        """
        await self._session.run(
            "save_daemon",
            token=self._token,
            state=state,
            reason=reason,
            refused=refused,
        )

    async def read_daemon(self) -> DaemonRow | None:
        """The daemon that writes or wrote last; None when there never was one."""
        row = await self._session.row(
            "read_daemon", lock_class=LOCK_CLASS, lock_object=LEASE
        )
        return None if row is None else DaemonRow(**row)

    async def server(self) -> ServerLife:
        """The server's life as it is now."""
        row = await self._session.row("look_at_server")
        assert row is not None
        return ServerLife(**row)

    async def settled_server(self) -> ServerLife | None:
        """The server's life of which everything is settled; None: it is not known."""
        row = await self._session.row("read_server")
        known = row is not None and row["started"] and row["recovered"]
        return ServerLife(**row) if row is not None and known else None

    async def settle_server(self, server: ServerLife) -> None:
        """Nothing that reads have seen in an earlier life is doubtful any more."""
        await self._session.run("save_server", token=self._token, **server._asdict())

    # — sinks —

    async def save_sink(self, name: str, kind: str) -> None:
        """A configured sink of type `kind`; what is known of it stays."""
        await self._session.run("save_sink", name=name, type=kind)

    async def sinks(self) -> list[SinkRow]:
        """All sinks by name."""
        rows = await self._session.rows("list_sinks")
        return [SinkRow(**row | {"state": SinkState(row["state"])}) for row in rows]

    async def set_sink_state(
        self, name: str, state: SinkState, reason: str = ""
    ) -> None:
        """What a sink does now; writes only what has changed."""
        await self._session.run(
            "set_sink_state", name=name, state=state.value, reason=reason
        )

    async def set_sink_paused(self, name: str, *, paused: bool) -> None:
        """What the operator wants; it outlives restarts."""
        await self._session.run("set_sink_paused", name=name, paused=paused)

    async def save_answered(self, name: str, answered: int) -> None:
        """So many writes a sink has answered for. Durable on return. Halt when another
        daemon has taken over."""
        saved = await self._session.row(
            "save_answered", token=self._token, name=name, answered=answered
        )
        if saved is None:
            raise superseded()

    async def remove_sink(self, name: str) -> bool:
        """Forget a sink; False while it has targets, or when there is none."""
        return await self._session.run("remove_sink", name=name) > 0
