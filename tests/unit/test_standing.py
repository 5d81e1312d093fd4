"""What is written down of a generation: its position, and since when it is behind."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from bridge.ledger import Ledger
from bridge.standing import Standing
from bridge.store.rows import LogKnown, ProgressRow
from tests.unit.parts import GENERATION


async def test_what_a_sink_has_answered_for_is_written_down_as_it_grows() -> None:
    """And told to the sink by the process that comes after."""
    row, expected = SimpleNamespace(name="cache", answered=7), list[int]()
    saved: list[tuple[str, int]] = []

    async def save(name: str, answered: int) -> None:
        saved.append((name, answered))

    async def sinks() -> list[SimpleNamespace]:
        return [row]

    async def log() -> LogKnown:
        return LogKnown(1, 1)

    store = SimpleNamespace(sinks=sinks, log=log, save_answered=save)
    sink = SimpleNamespace(answered=7, expect=expected.append)
    ledger = Ledger(lambda: None)
    standing = Standing(cast("Any", store), cast("Any", {"cache": sink}), 1, ledger)
    await standing.start({})
    for sink.answered in (7, 9, 9, 8):
        await standing.answered(["cache"])
    await standing.answered()
    assert (expected, saved) == ([7], [("cache", 9)])


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
