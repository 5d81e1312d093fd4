"""`pgbridge demo`: a small shop with live traffic, the real daemon, real servers.

    servers ─▶ shop ─▶ apply, run ─▶ traffic and scenes, shown ─▶ compared with SQL

`witness.py` asks what is there, `traffic.py` writes, `scenes.py` tells what one change
does, `screen.py` shows it, `daemon.py` runs the bridge.

The one thing to know: everything that it starts ends with it, and the exit code is that
of the comparison at the end.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeAlias

import psycopg

from bridge.config import load
from bridge.dev.demo.daemon import Daemon, Latency, mean_s, own_place, shop_sql
from bridge.dev.demo.scenes import scenes
from bridge.dev.demo.screen import Picture, Screen
from bridge.dev.demo.traffic import Traffic
from bridge.dev.demo.witness import Witness
from bridge.dev.place import open_place
from bridge.dev.postgres import create_database
from bridge.dev.servers import Servers, running
from bridge.errors import Exit, Halt, errors_in
from bridge.verify.verify import differences

SECONDS = 30.0
_TRANSACTIONS_PER_S = 40.0
_LOOK_S = 0.5
_SCENE_PAUSE_S = 3.0
_BUILD_DEADLINE_S = 120.0
_TARGETS = 5
Handler: TypeAlias = Callable[[int, FrameType | None], object]


def run(seconds: float = SECONDS) -> int:
    """Show it for `seconds`; gives the exit code. Halt when a part cannot be run.

    Blocks. KeyboardInterrupt at SIGINT, SIGTERM and SIGHUP, with everything removed.
    """
    screen = Screen()
    start = time.monotonic()
    with _signals():
        place = open_place()
        try:
            screen.say(
                "Starting Postgres 18, Elasticsearch and Valkey "
                "(downloaded the first time)"
            )
            with running(place) as servers:
                screen.say(f"They run after {time.monotonic() - start:.0f} s")
                return _with(servers, screen, seconds)
        except KeyboardInterrupt:
            screen.say("Ended early; servers and data are removed.")
            raise
        finally:
            place.close()


@contextmanager
def _signals() -> Iterator[None]:
    """A closed terminal and a kill end it like Ctrl-C, in order."""
    handlers: dict[signal.Signals, Handler] = {
        # Ignored where a script has put us into the background.
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: _interrupt,
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = _interrupt
    before = {number: signal.signal(number, how) for number, how in handlers.items()}
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def _with(servers: Servers, screen: Screen, seconds: float) -> int:
    database = create_database(servers.postgres.dsn, "shop")
    with psycopg.connect(database) as connection:
        connection.execute(shop_sql().encode())
    place = own_place(open_place())
    daemon = Daemon(place, servers, database)
    try:
        daemon.apply()
        daemon.start()
        screen.say("`pgbridge run` keeps 3 views in 5 targets, as configured in")
        screen.say(f"  {daemon.config}")
        return asyncio.run(_show(servers, daemon, database, screen, seconds))
    finally:
        daemon.close()
        place.close()


async def _show(
    servers: Servers, daemon: Daemon, database: str, screen: Screen, seconds: float
) -> int:
    witness = Witness(database, servers.elasticsearch.url, servers.valkey.url)
    traffic = Traffic(database, random.Random(1))  # noqa: S311
    try:
        await _built(daemon)
        built = sum(c.documents + (c.keys or 0) for c in await witness.counts())
        screen.say(f"{built:,} documents and keys are built; the shop opens")
        screen.say(screen.legend)
        screen.say("")
        picture = Picture(seconds=seconds)
        with screen, suppress(TimeoutError):
            await _open(daemon, witness, traffic, screen, picture)
    finally:
        await witness.close()
    screen.say("")
    screen.say(
        f"The shop is closed after {traffic.transactions:,} transactions; "
        "every document and key against SQL:"
    )
    return await _compare(daemon, screen)


async def _built(daemon: Daemon) -> None:
    """Wait until every target is live."""
    try:
        async with asyncio.timeout(_BUILD_DEADLINE_S):
            while True:
                targets = (await daemon.status()).get("targets") or []
                states = {target["state"] for target in targets}
                if len(targets) == _TARGETS and states == {"live"}:
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise Halt(
            f"the targets are not live after {_BUILD_DEADLINE_S:g} s: {daemon.tail()}"
        ) from None


async def _open(
    daemon: Daemon, witness: Witness, traffic: Traffic, screen: Screen, picture: Picture
) -> None:
    """Let the shop work until the time is over. TimeoutError then."""
    try:
        async with asyncio.timeout(picture.seconds), asyncio.TaskGroup() as group:
            group.create_task(traffic.run(_TRANSACTIONS_PER_S))
            group.create_task(_scenes(witness, picture))
            group.create_task(_look(daemon, witness, traffic, picture))
            group.create_task(_draw(screen, picture))
    except BaseExceptionGroup as errors:
        if (problems := errors_in(errors)) is None:
            raise
        raise problems[0] from errors


async def _scenes(witness: Witness, picture: Picture) -> None:
    async for told in scenes(witness):
        picture.told.append(told)
        await asyncio.sleep(_SCENE_PAUSE_S)


async def _look(
    daemon: Daemon, witness: Witness, traffic: Traffic, picture: Picture
) -> None:
    before: dict[str, Latency] = {}
    start = time.monotonic()
    while True:
        now = await daemon.latencies()
        status = await daemon.status()
        targets = status.get("targets") or []
        picture.counts = await witness.counts()
        picture.latencies_s = {
            target: mean_s(before.get(target, Latency()), latency)
            for target, latency in now.items()
        }
        picture.behind_s = max((t["lag_seconds"] or 0.0 for t in targets), default=0.0)
        picture.transactions, picture.rows = traffic.transactions, traffic.rows
        picture.elapsed_s = time.monotonic() - start
        before = now
        await asyncio.sleep(_LOOK_S)


async def _draw(screen: Screen, picture: Picture) -> None:
    while True:
        screen.show(picture)
        await asyncio.sleep(_LOOK_S / 2)


async def _compare(daemon: Daemon, screen: Screen) -> int:
    found = await differences(load(daemon.config))
    for target, comparison in found.items():
        wrong = len(comparison.wrong) + len(comparison.unsettled)
        screen.say(f"  {target:<16}{comparison.checked:>7,} compared, {wrong} differ")
    wrong = sum(len(c.wrong) + len(c.unsettled) for c in found.values())
    compared = sum(comparison.checked for comparison in found.values())
    if len(found) != _TARGETS or not all(c.checked for c in found.values()):
        raise Halt("not every target was compared: this is a defect of pgbridge")
    noun = "difference" if wrong == 1 else "differences"
    screen.say(
        f"{wrong} {noun} in {compared:,} documents and keys",
        "red" if wrong else "green",
    )
    return Exit.FAILED if wrong else Exit.DONE
