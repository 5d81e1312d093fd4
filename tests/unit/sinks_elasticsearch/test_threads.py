"""Blocking calls beside the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sinks.elasticsearch.threads import Threads


async def test_results_and_errors_come_back() -> None:
    threads = Threads("test", 2)
    assert await threads.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    threads.close()


async def test_no_more_calls_at_once_than_threads() -> None:
    threads = Threads("test", 3)
    lock, now, most = threading.Lock(), 0, 0
    meet = threading.Barrier(3, timeout=10)

    def call() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meet.wait()
        with lock:
            now -= 1

    await asyncio.gather(*(threads.run(call) for _ in range(12)))
    assert most == 3
    threads.close()


async def test_idle_threads_are_used_again() -> None:
    threads = Threads("test", 8)
    names = {await threads.run(threading.get_ident) for _ in range(20)}
    assert len(names) == 1
    threads.close()


async def test_a_cancelled_call_that_has_not_begun_is_not_made() -> None:
    threads = Threads("test", 1)
    release, made = threading.Event(), []
    first = asyncio.create_task(threads.run(lambda: release.wait(10)))
    second = asyncio.create_task(threads.run(lambda: made.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    assert await first
    assert await threads.run(lambda: 1) == 1
    assert made == []
    threads.close()


async def test_a_call_that_hangs_does_not_hold_up_the_end() -> None:
    threads = Threads("test", 1)
    release = threading.Event()
    task = asyncio.create_task(threads.run(release.wait))
    await asyncio.sleep(0)
    threads.close()
    hanging = [thread for thread in threading.enumerate() if thread.name == "test"]
    assert all(thread.daemon for thread in hanging)
    task.cancel()
    release.set()
