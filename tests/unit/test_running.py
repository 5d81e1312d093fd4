"""When a backfill counts as done, and what it is told that it came to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.backfill.running import Backfills, Cancelled
from bridge.errors import Halt
from bridge.ledger import Holder, Ledger
from bridge.store.rows import BackfillKind, BackfillRow, GenerationKey, WorkState
from tests.fixtures.waiting import eventually
from tests.unit.parts import GENERATION, ledger

KEY = GenerationKey("sink", "name", 1)


def row(state: WorkState = WorkState.WAITING, message: str = "") -> BackfillRow:
    return BackfillRow(
        id=1,
        command=1,
        view="view",
        key=KEY,
        kind=BackfillKind.KEYS,
        condition=None,
        keys=("1",),
        state=state,
        message=message,
        marker=None,
        documents=3,
        estimate=None,
        created_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
    )


class Rows:
    """`Store.backfills`, of one row."""

    def __init__(self, found: BackfillRow) -> None:
        self.found = found

    async def start(self, _backfill: int) -> bool:
        return self.found.state is WorkState.WAITING

    async def finish(self, _backfill: int, *_: Any) -> bool:
        return self.found.state is WorkState.WAITING

    async def read(self, _backfill: int) -> BackfillRow:
        return self.found


class Looks(dict[Holder, int]):
    """What an entry holds, and how often somebody has asked."""

    asked = 0

    def __contains__(self, holder: object) -> bool:
        self.asked += 1
        return super().__contains__(holder)


def backfills(rows: Rows, entries: Ledger) -> Backfills:
    async def at_once(*_: Any) -> int:
        return 3

    claimed = asyncio.Event()
    claimed.set()
    assembly: Any = SimpleNamespace(
        store=SimpleNamespace(backfills=rows),
        pipeline=SimpleNamespace(ledger=entries, ready=at_once),
        generation=lambda _key: GENERATION,
    )
    jobs: Any = SimpleNamespace(run=at_once)
    return Backfills(assembly, jobs, {"sink": claimed})


async def test_what_was_left_to_the_stream_is_there_when_it_is_done() -> None:
    """Who asked for a key finds it when he is told that it is done."""
    entries = ledger()
    entry = entries.enter(20, 0.0)
    entry.holds = looks = Looks()
    entries.hold(entry, GENERATION, 1)
    entries.derived(entry)
    task = backfills(Rows(row()), entries).run(row())
    await eventually(lambda: looks.asked > 6)
    assert not task.done()
    entries.release(entry, GENERATION, 1)
    assert await task == 3


@pytest.mark.parametrize(
    ("state", "error", "told"),
    [
        (WorkState.CANCELLED, Cancelled, "the generation was dropped"),
        (WorkState.FAILED, Halt, "no such column"),
        (WorkState.DONE, None, ""),
    ],
)
async def test_what_has_ended_is_told_as_it_ended(
    state: WorkState, error: type[Halt] | None, told: str
) -> None:
    """A generation that was dropped meanwhile was not derived again."""
    task = backfills(Rows(row(state, told)), ledger()).run(row())
    if error is None:
        assert await task == 3
        return
    with pytest.raises(error, match=told):
        await task
