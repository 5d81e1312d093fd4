"""What is written down of a generation: its position, and since when it is behind."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from bridge.ledger import Ledger
from bridge.standing import Standing
from bridge.store.rows import ProgressRow
from tests.unit.parts import GENERATION


async def test_since_when_a_generation_is_behind_is_written_down() -> None:
    saved: list[ProgressRow] = []

    async def save(rows: list[ProgressRow]) -> None:
        saved.extend(rows)

    store = cast("Any", SimpleNamespace(positions=SimpleNamespace(save=save)))
    ledger = Ledger(lambda: None)
    ledger.start(10)
    entry = ledger.enter(100, 1_000.0)
    ledger.hold(entry, GENERATION, 1)
    ledger.derived(entry)
    standing = Standing(store, {}, 1, ledger)
    await standing.save({GENERATION: 10})
    ledger.release(entry, GENERATION, 1)
    await standing.save({GENERATION: 100})
    behind, level = saved
    assert behind.behind_since == datetime.fromtimestamp(1_000.0, UTC)
    assert (level.behind_since, level.position.lsn) == (None, 100)
