"""What is to end ends, also where a cancellation was not heard the first time."""

from __future__ import annotations

import asyncio

import pytest

from bridge.backfill import patience
from bridge.backfill.patience import all_ended


async def deaf(times: int, heard: asyncio.Event) -> None:
    """As a call of a library that takes a cancellation for an error of its own."""
    for _ in range(times):
        heard.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    heard.set()
    await asyncio.Event().wait()


async def test_what_was_started_is_cancelled_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_ALL_AGAIN_S", 0.01)
    heard = asyncio.Event()
    other = asyncio.create_task(asyncio.Event().wait())
    known = asyncio.all_tasks()

    async def group() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(deaf(2, heard))

    task = asyncio.create_task(group())
    await heard.wait()
    async with asyncio.timeout(10):
        await all_ended([task], known)
    assert task.cancelled()
    assert not other.done()
    other.cancel()
