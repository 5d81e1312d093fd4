"""Markers: a position above everything issued before the call."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import Transient
from bridge.markers import CONTENT, Markers
from tests.unit.parts import until


class Log:
    def __init__(self) -> None:
        self.emitted: list[str] = []
        self.error: Transient | None = None

    async def emit(self, content: str) -> None:
        if self.error is not None:
            raise self.error
        self.emitted.append(content)


async def test_a_marker_is_where_the_stream_has_brought_it_back() -> None:
    log = Log()
    markers = Markers(log.emit)
    task = asyncio.create_task(markers.next())
    await until(lambda: log.emitted)
    markers.arrived("marker:of somebody else", 50)
    await asyncio.sleep(0)
    assert not task.done(), "anybody may emit a message"
    markers.arrived(log.emitted[0], 100)
    assert await task == 100
    assert log.emitted[0].startswith(CONTENT)


async def test_callers_of_one_moment_share_and_later_ones_do_not() -> None:
    log = Log()
    markers = Markers(log.emit)
    tasks = [asyncio.create_task(markers.next()) for _ in range(3)]
    await until(lambda: log.emitted)
    later = asyncio.create_task(markers.next())
    await until(lambda: len(log.emitted) == 2)
    markers.arrived(log.emitted[0], 100)
    assert await asyncio.gather(*tasks) == [100, 100, 100]
    assert not later.done(), "its marker has to be put in after its call"
    markers.arrived(log.emitted[1], 200)
    assert await later == 200


async def test_a_source_that_is_away_is_told_to_all_who_wait() -> None:
    log = Log()
    log.error = Transient("away")
    markers = Markers(log.emit)
    tasks = [asyncio.create_task(markers.next()) for _ in range(2)]
    for task in tasks:
        with pytest.raises(Transient):
            await task
    log.error = None
    task = asyncio.create_task(markers.next())
    await until(lambda: log.emitted)
    markers.arrived(log.emitted[0], 100)
    assert await task == 100


async def test_a_marker_that_comes_again_after_a_restart_is_taken_once() -> None:
    log = Log()
    markers = Markers(log.emit)
    task = asyncio.create_task(markers.next())
    await until(lambda: log.emitted)
    markers.arrived(log.emitted[0], 100)
    markers.arrived(log.emitted[0], 100)
    assert await task == 100
