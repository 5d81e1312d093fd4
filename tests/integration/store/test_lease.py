"""One daemon a database: the second stands by, and takes over from one that died."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bridge.control.lease import Lease
from bridge.errors import Halt, Transient
from bridge.store import Store
from tests.fixtures.proxy import MakeProxy
from tests.fixtures.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
INTERVAL_S = 0.05
HOLDER = """
import asyncio, sys
from bridge.control.lease import Lease
async def main():
    lease = await Lease.acquire(sys.argv[1])
    print("held", flush=True)
    await lease.watch()
asyncio.run(main())
"""


async def test_the_second_stands_by_until_the_first_is_done(database: str) -> None:
    told: list[Transient | None] = []
    first = await Lease.acquire(database)
    waiting = asyncio.create_task(
        Lease.acquire(database, interval_s=INTERVAL_S, standing_by=told.append)
    )
    await eventually(lambda: told)
    assert not waiting.done()
    assert told == [None]
    await first.release()
    assert not first.held
    async with await asyncio.wait_for(waiting, 30) as second:
        assert second.held
    assert len(told) == 1


async def test_another_database_has_its_own(database: str, postgres: object) -> None:
    async with await Lease.acquire(database):
        other = psycopg.conninfo.make_conninfo(database, dbname="postgres")
        async with await asyncio.wait_for(Lease.acquire(other), 30) as second:
            assert second.held


async def test_a_lost_connection_is_known_at_once(database: str) -> None:
    lease = await Lease.acquire(database)
    watching = asyncio.create_task(lease.watch())
    with psycopg.connect(database, autocommit=True) as connection:
        killed = connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'pgbridge lease'"
            " and datname = current_database()"
        ).fetchall()
    assert killed == [(True,)]
    with pytest.raises(Transient):
        await asyncio.wait_for(watching, 30)
    assert not lease.held


async def test_a_cancelled_watch_leaves_the_lease(database: str) -> None:
    async with await Lease.acquire(database) as lease:
        watching = asyncio.create_task(lease.watch())
        await asyncio.sleep(0)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert lease.held
        told: list[Transient | None] = []
        second = asyncio.create_task(
            Lease.acquire(database, interval_s=INTERVAL_S, standing_by=told.append)
        )
        await eventually(lambda: told)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_a_cancelled_standby_leaves_no_session(database: str) -> None:
    async with await Lease.acquire(database):
        told: list[Transient | None] = []
        second = asyncio.create_task(
            Lease.acquire(database, interval_s=INTERVAL_S, standing_by=told.append)
        )
        await eventually(lambda: told)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        with psycopg.connect(database, autocommit=True) as connection:

            def sessions() -> bool:
                return connection.execute(
                    "select count(*) from pg_stat_activity where"
                    " application_name = 'pgbridge lease'"
                    " and datname = current_database()"
                ).fetchone() == (1,)

            await eventually(sessions)


async def test_it_is_taken_over_from_a_killed_process(database: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        line = await asyncio.to_thread(holder.stdout.readline)
        assert line == b"held\n"
        told: list[Transient | None] = []
        waiting = asyncio.create_task(
            Lease.acquire(database, interval_s=INTERVAL_S, standing_by=told.append)
        )
        await eventually(lambda: told)
        holder.send_signal(signal.SIGKILL)
        lease = await asyncio.wait_for(waiting, 30)
        await lease.release()


async def test_it_is_taken_over_from_a_frozen_process(database: str) -> None:
    """The kernel still answers for it; the one that holds it must do so itself. When
    it wakes up it knows that it has lost it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as holder:
        assert holder.stdout is not None
        await asyncio.to_thread(holder.stdout.readline)
        holder.send_signal(signal.SIGSTOP)
        try:
            lease = await Lease.acquire(database, interval_s=INTERVAL_S)
        finally:
            holder.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(holder.wait) == 1
        assert lease.held
        await lease.release()


async def test_an_idle_holder_keeps_it(database: str) -> None:
    """It says that it is there, so that it is not taken for frozen."""
    async with await Lease.acquire(database) as lease:
        watching = asyncio.create_task(lease.watch())
        with psycopg.connect(database, autocommit=True) as connection:

            def said() -> bool:
                row = connection.execute(
                    "select state_change - backend_start > interval '3 s'"
                    " from pg_stat_activity where application_name = 'pgbridge lease'"
                    " and datname = current_database()"
                ).fetchone()
                return row is not None and bool(row[0])

            await eventually(said)
        assert lease.held and not watching.done()
        watching.cancel()


async def test_a_standby_survives_a_source_that_is_away(
    database: str, proxy: MakeProxy
) -> None:
    first = await Lease.acquire(database)
    between = await proxy(database)
    told: list[Transient | None] = []
    waiting = asyncio.create_task(
        Lease.acquire(between.url, interval_s=INTERVAL_S, standing_by=told.append)
    )
    await eventually(lambda: told)
    await between.refuse()
    await between.cut()
    await eventually(lambda: len(told) == 2)
    assert told[0] is None
    assert told[1] is not None
    await first.release()
    await between.accept()
    lease = await asyncio.wait_for(waiting, 30)
    await lease.release()


async def test_a_source_that_refuses_ends_the_waiting(database: str) -> None:
    dsn = psycopg.conninfo.make_conninfo(database, user="nosuch_role")
    with pytest.raises(Halt):
        await Lease.acquire(dsn)


async def test_who_holds_it_can_be_seen(store: Store, database: str) -> None:
    daemon = await store.read_daemon()
    assert daemon is not None and not daemon.alive
    async with await Lease.acquire(database):
        daemon = await store.read_daemon()
        assert daemon is not None and daemon.alive
