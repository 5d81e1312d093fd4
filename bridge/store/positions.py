"""How far each generation is.

The one thing to know: writing makes log, and log makes the stream move; so write only
when something other than the bridge's own records moved a position.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from bridge import probes
from bridge.position import Position, format_lsn, parse_lsn
from bridge.store.literals import generation_key
from bridge.store.locks import LOCK_CLASS, WAITS, waited_for
from bridge.store.rows import GenerationKey, ProgressRow
from bridge.store.session import Session, superseded


class Positions:
    """`bridge.progress`, a row a generation."""

    def __init__(self, session: Session, token: UUID) -> None:
        self._session = session
        self._token = token

    async def save(self, rows: Collection[ProgressRow]) -> None:
        """Write positions of many generations in one statement, and that the daemon
        was seen. Durable on return. Forgotten generations are left out.

        Halt when another daemon has taken over since this store did (or none of its
        `take_over` was called): nothing is written then.
        """
        await probes.reach("store.progress")
        row = await self._session.row(
            "save_progress",
            token=self._token,
            sinks=[r.key.sink for r in rows],
            names=[r.key.name for r in rows],
            numbers=[r.key.number for r in rows],
            epochs=[r.position.epoch for r in rows],
            lsns=[format_lsn(r.position.lsn) for r in rows],
            content_lsns=[format_lsn(r.content_lsn) for r in rows],
            behind_since=[r.behind_since for r in rows],
        )
        assert row is not None
        if not row["writers"]:
            raise superseded()

    async def wanted(self, flushed: int) -> int:
        """The furthest position that a caller of `bridge.wait_for` waits for, of the
        log that is written out up to `flushed`; 0 where nobody does."""
        rows = await self._session.rows(
            "list_waits", lock_class=LOCK_CLASS, first=WAITS
        )
        return max((waited_for(row["number"], flushed) for row in rows), default=0)

    async def load(self) -> dict[GenerationKey, ProgressRow]:
        """The positions of all generations that have one."""
        found = {}
        for row in await self._session.rows("load_progress"):
            key = generation_key(row)
            found[key] = ProgressRow(
                key,
                Position(row["epoch"], parse_lsn(row["lsn"])),
                parse_lsn(row["content_lsn"]),
                row["behind_since"],
            )
        return found

    async def since(self) -> dict[GenerationKey, datetime]:
        """When the oldest commit was made that each generation has not kept, or, where
        there was none, when that was written down."""
        rows = await self._session.rows("list_since")
        return {generation_key(row): row["since"] for row in rows}

    async def forget(self, key: GenerationKey) -> None:
        """The generation holds nothing that can be relied on."""
        await self._session.run("forget_progress", **key._asdict())
