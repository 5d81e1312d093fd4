"""The pipeline's own promises; everything else about it is simulated."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import Halt, Transient
from bridge.pipeline import _together


async def test_a_life_that_is_ended_while_it_fails_is_ended() -> None:
    """An error at the same moment must not hide it: the next life would begin."""
    began = asyncio.Event()

    async def fails() -> None:
        began.set()
        try:
            await asyncio.sleep(1000)
        finally:
            raise Transient("the stream has ended")

    task = asyncio.create_task(_together(fails(), fails()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reason_to_stop_goes_before_one_to_try_again() -> None:
    async def transient() -> None:
        raise Transient("away")

    async def halt() -> None:
        raise Halt("no")

    for _ in range(5):
        with pytest.raises(Halt):
            await _together(transient(), halt(), transient())


async def test_what_ends_in_order_ends_nothing_else() -> None:
    done = asyncio.Event()

    async def ends() -> None:
        done.set()

    task = asyncio.create_task(_together(ends(), asyncio.sleep(1000)))
    await done.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
