"""Backfills and the ranges that they consist of.

The one thing to know: a range is done when the sink has kept its documents, never
before; whatever is not done is read again after a restart, at a new marker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bridge.keys import Parts
from bridge.position import Position, format_lsn
from bridge.store.literals import generation_key, maybe_literal, position
from bridge.store.rows import (
    BackfillKind,
    BackfillRow,
    Bounds,
    GenerationKey,
    RangeRow,
    WorkState,
)
from bridge.store.session import Session


class Backfills:
    """`bridge.backfill` and `bridge.backfill_range`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(
        self,
        key: GenerationKey,
        *,
        view: str,
        kind: BackfillKind,
        condition: str | None = None,
        keys: Sequence[str] | None = None,
        command: int | None = None,
    ) -> int:
        """Plan a backfill; its id. The same one of the same command, or without a
        command the same one still open, is given back instead."""
        row = await self._session.row(
            "create_backfill",
            view=view,
            kind=kind.value,
            condition=condition,
            keys=None if keys is None else list(keys),
            command=command,
            **key._asdict(),
        )
        assert row is not None
        return int(row["id"])

    async def open(self) -> list[BackfillRow]:
        """Those that wait or run, in the order of their ids."""
        return await self._list(only_open=True)

    async def of_command(self, command: int) -> list[BackfillRow]:
        """Those that a command started."""
        return await self._list(command=command)

    async def read(self, backfill: int) -> BackfillRow | None:
        """One by its id; None when its generation was forgotten."""
        found = await self._list(backfill=backfill)
        return found[0] if found else None

    async def _list(
        self,
        *,
        only_open: bool = False,
        command: int | None = None,
        backfill: int | None = None,
    ) -> list[BackfillRow]:
        rows = await self._session.rows(
            "list_backfills", open=only_open, command=command, id=backfill
        )
        return [_backfill(row) for row in rows]

    async def start(
        self,
        backfill: int,
        *,
        marker: Position | None = None,
        estimate: int | None = None,
    ) -> bool:
        """It runs (again); what is given replaces what was recorded. False when it
        has ended, for instance because it was cancelled."""
        touched = await self._session.run(
            "start_backfill",
            id=backfill,
            epoch=marker and marker.epoch,
            lsn=None if marker is None else format_lsn(marker.lsn),
            estimate=estimate,
        )
        return touched > 0

    async def finish(self, backfill: int, state: WorkState, message: str = "") -> bool:
        """It has ended; False when it had before."""
        assert state not in (WorkState.WAITING, WorkState.RUNNING)
        touched = await self._session.run(
            "finish_backfill", id=backfill, state=state.value, message=message
        )
        return touched > 0

    async def set_documents(self, backfill: int, documents: int) -> None:
        """So many documents are kept, of a backfill that has no ranges."""
        await self._session.run("count_backfill", id=backfill, documents=documents)

    async def adopt(self, backfill: int, command: int) -> None:
        """It is done for a command, unless it was for another before."""
        await self._session.run("adopt_backfill", id=backfill, command=command)

    async def restart(self, backfill: int) -> None:
        """Forget ranges, marker and count: everything is to be done again."""
        await self._session.run("restart_backfill", id=backfill)

    async def add_ranges(
        self, backfill: int, ranges: Collection[tuple[int, Bounds]]
    ) -> None:
        """Ranges to be done, each under its number; those there stay as they are."""
        await self._session.run(
            "add_ranges",
            id=backfill,
            seqs=[seq for seq, _ in ranges],
            lowers=[maybe_literal(bounds.lower) for _, bounds in ranges],
            uppers=[maybe_literal(bounds.upper) for _, bounds in ranges],
        )

    async def ranges(self, backfill: int) -> list[RangeRow]:
        """All its ranges in order, done or not."""
        rows = await self._session.rows("list_ranges", id=backfill)
        return [
            RangeRow(
                row["seq"],
                Bounds(_parts(row["lower"]), _parts(row["upper"])),
                row["done"],
            )
            for row in rows
        ]

    async def finish_ranges(
        self, backfill: int, seqs: Collection[int], *, documents: int
    ) -> None:
        """These ranges are kept, with so many documents together. Counted once, when
        the same call is made again."""
        await self._session.run(
            "finish_ranges", id=backfill, seqs=list(seqs), documents=documents
        )


def _parts(array: list[str | None] | None) -> Parts | None:
    return None if array is None else tuple(array)


def _backfill(row: Mapping[str, Any]) -> BackfillRow:
    row = dict(row)
    return BackfillRow(
        key=generation_key(row),
        kind=BackfillKind(row["kind"]),
        state=WorkState(row["state"]),
        keys=None if row["keys"] is None else tuple(row["keys"]),
        marker=position(row),
        **{name: value for name, value in row.items() if name not in _NOT_AS_IT_IS},
    )


_NOT_AS_IT_IS = frozenset(
    {"sink", "name", "number", "kind", "state", "keys", "epoch", "lsn"}
)
