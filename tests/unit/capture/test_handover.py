"""The hand-over keeps order and bounds, and wakes both of its sides."""

from __future__ import annotations

import asyncio
import select
import threading

import pytest

from bridge.capture.handover import HandOver, Waker
from bridge.changes import Keepalive


def woken(waker: Waker) -> bool:
    """Whether a thread that waits now is not held up."""
    if not waker.begin_wait():
        waker.end_wait(readable=False)
        return True
    poll = select.poll()
    poll.register(waker.fileno(), select.POLLIN)
    readable = bool(poll.poll(0))
    waker.end_wait(readable=readable)
    return readable


def queue(waker: Waker, *, bytes_max: int = 100, count_max: int = 3) -> HandOver[str]:
    loop = asyncio.get_running_loop()
    return HandOver(loop, waker, bytes_max=bytes_max, count_max=count_max)


async def test_items_come_in_order() -> None:
    items = queue(Waker())
    for item in "abc":
        items.put(item, 1)
    assert [await items.get() for _ in range(3)] == ["a", "b", "c"]
    assert items.empty


async def test_full_by_bytes_and_by_count() -> None:
    by_count, by_bytes = queue(Waker()), queue(Waker())
    for _ in range(3):
        assert not by_count.full
        by_count.put("x", 0)
    assert by_count.full
    by_bytes.put("x", 99)
    assert not by_bytes.full
    by_bytes.put("y", 1)
    assert by_bytes.full
    await by_bytes.get()
    assert not by_bytes.full


async def test_keepalives_in_a_row_become_the_last() -> None:
    items = queue(Waker())
    items.put(Keepalive(1), 0)
    items.put(Keepalive(2), 0)
    items.put("a", 5)
    items.put(Keepalive(3), 0)
    items.put(Keepalive(4), 0)
    taken = [await items.get() for _ in range(3)]
    assert taken == [Keepalive(2), "a", Keepalive(4)]


async def test_a_keepalive_takes_no_room() -> None:
    items = queue(Waker(), count_max=1)
    items.put(Keepalive(1), 0)
    assert items.empty
    assert not items.full


async def test_taking_wakes_the_thread() -> None:
    waker = Waker()
    items = queue(waker)
    items.put("a", 1)
    items.put("b", 1)
    await items.get()
    assert not woken(waker), "nobody waited for that"
    items.awaited = True
    await items.get()
    assert woken(waker)
    assert not woken(waker)


async def test_a_put_from_a_thread_wakes_whoever_waits() -> None:
    items = queue(Waker())
    taken = asyncio.create_task(items.get())
    await asyncio.sleep(0)
    threading.Thread(target=items.put, args=("a", 1)).start()
    assert await asyncio.wait_for(taken, 30) == "a"


async def test_a_failure_is_raised_before_what_is_queued_and_again() -> None:
    items = queue(Waker())
    items.put("a", 1)
    items.fail(ValueError("gone"))
    for _ in range(2):
        with pytest.raises(ValueError, match="gone"):
            await items.get()


async def test_a_failure_wakes_whoever_waits() -> None:
    items = queue(Waker())
    taken = asyncio.create_task(items.get())
    await asyncio.sleep(0)
    threading.Thread(target=items.fail, args=(ValueError("gone"),)).start()
    with pytest.raises(ValueError, match="gone"):
        await asyncio.wait_for(taken, 30)


async def test_a_cancelled_get_takes_nothing() -> None:
    items = queue(Waker())
    taken = asyncio.create_task(items.get())
    await asyncio.sleep(0)
    taken.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taken
    items.put("a", 1)
    assert await items.get() == "a"


def test_a_waker_wakes_the_wait_that_is_and_the_one_that_comes() -> None:
    waker = Waker()
    poll = select.poll()
    poll.register(waker.fileno(), select.POLLIN)
    assert waker.begin_wait()
    for _ in range(100_000):
        waker.wake()
    assert poll.poll(0)
    waker.end_wait(readable=True)
    assert not poll.poll(0), "one wait, one byte"
    assert not woken(waker)
    waker.wake()
    assert not poll.poll(0), "nobody waits: nothing is sent"
    assert not waker.begin_wait()
    waker.end_wait(readable=False)


def test_a_waker_may_be_woken_after_close() -> None:
    waker = Waker()
    assert waker.begin_wait()
    waker.close()
    waker.wake()
