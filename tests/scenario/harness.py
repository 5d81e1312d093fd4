"""The daemon as a process of its own, with traffic, faults, and the final comparison.

The one thing to know: a daemon that is to die at a probe kills itself there with
SIGKILL, so that nothing of Python is given a chance to tidy up.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bridge.config import load
from bridge.errors import BridgeError
from bridge.verify.verify import verify
from tests.fixtures.forkserver import Child, forkserver
from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.entry import Armed

_ROOT = Path(__file__).parents[2]
_ENTRY = "tests.scenario.entry:armed"
_FRESH = "from tests.scenario.entry import armed; armed()"


class Died(Exception):
    """The daemon has ended and should not have."""


@dataclass
class Daemon:
    """`pgbridge run` of one configuration file."""

    config: Path
    http: str
    fresh: bool = False
    """Whether it is a program of its own, not forked from one that has imported it: for
    those who look at its arguments, or measure it."""
    process: Child | subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.config.with_suffix(".log")

    def start(
        self,
        *options: str,
        kill_at: str = "",
        after: int = 0,
        mutant: str = "",
        hold: Path | None = None,
    ) -> None:
        """Start it; with `kill_at` it dies at that probe, reached `after` times.

        With `mutant` a rule is taken out of it (`mutants.py`). With `hold` it stops
        once at the probe named by the file `armed` there, which becomes `reached`,
        until that is removed.
        """
        assert self.process is None
        given = Armed(kill_at, str(after), mutant, str(hold or ""))
        command = [*given, "run", "--debug", "-c", str(self.config), *options]
        if not self.fresh:
            self.process = forkserver().start(
                _ENTRY, ["pgbridge", *command], stdout=self.log, stderr=self.log
            )
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _FRESH, *command],
                stdout=log,
                stderr=log,
                cwd=_ROOT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    async def ended(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it has ended by itself; its exit code (negative: the signal)."""
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, deadline_s=deadline_s)
        self.process = None
        return int(process.returncode or 0)

    async def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory is short."""
        if self.process is not None:
            self.process.kill()
            await self.ended()

    def destroy(self) -> None:
        """SIGKILL, whatever state it is in; for the end of a test."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ready(self) -> None:
        """Wait until every target is live, and none is being built."""
        await eventually(self.is_ready)

    async def is_ready(self) -> bool:
        """Whether every target is live, and none is being built."""
        self.must_run()
        targets = (await self.status()).get("targets") or []
        return bool(targets) and all(
            target["state"] == "live" and not target["building"] for target in targets
        )

    async def well(self) -> bool:
        """Whether, besides, every sink takes what comes."""
        sinks = (await self.status()).get("sinks") or []
        return all(sink["state"] == "ok" for sink in sinks) and await self.is_ready()

    def must_run(self) -> None:
        """Died, with the end of its log, when it has ended."""
        if not self.running:
            raise Died(self.log.read_text()[-4000:])

    async def status(self) -> dict[str, Any]:
        """The status document; empty while nobody answers."""
        answer = await self.page("status")
        return {} if answer is None else dict(answer.json())

    async def page(self, name: str) -> httpx.Response | None:
        """What `/name` answers; None while nobody does."""
        # To load certificates that plain HTTP never needs costs 30 ms a look.
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            try:
                return await client.get(f"http://{self.http}/{name}", timeout=2.0)
            except httpx.HTTPError:
                return None

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 while nobody answers."""
        answer = await self.page("metrics")
        lines = answer.text.splitlines() if answer is not None else []
        found = [line for line in lines if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def resident_bytes(self) -> int:
        """Resident memory of the process, now."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def resident_bytes_max(self) -> int:
        """The most that was ever resident of the process."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024


def pgbridge(config: Path, *arguments: str) -> tuple[int, str, str]:
    """One command as its user runs it: exit code, stdout, stderr."""
    environment = os.environ | {"PGBRIDGE_CONFIG": str(config)}
    code, out, err = forkserver().run(arguments, environment, DEADLINE_S)
    assert "Traceback" not in err, err
    return code, out, err


def killed(config: Path, probe: str, *arguments: str) -> int:
    """The exit code of one command that is to die at a probe."""
    given, log = Armed(kill_at=probe), config.with_suffix(".log")
    command = ["pgbridge", *given, *arguments, "-c", str(config)]
    child = forkserver().start(_ENTRY, command, stdout=log, stderr=log)
    try:
        return child.wait(DEADLINE_S)
    finally:
        child.kill()


_LEFT_ALONE = 1_000_000


class Traffic:
    """Writers that insert, update, delete, move keys and roll back.

    Some rows are written twice and never again: whatever is lost of them stays lost,
    where that of other rows would soon be hidden by their next change.
    """

    def __init__(
        self,
        dsn: str,
        seed: int,
        *,
        writers: int = 2,
        rows: int = 500,
        pause_s: float = 0.01,
    ) -> None:
        self._dsn = dsn
        self._seed = seed
        self._rows = rows
        self._pause_s = pause_s
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(writers)]
        self._stopping = asyncio.Event()
        self.committed = 0
        self._left = [(n + 1) * _LEFT_ALONE for n in range(writers)]

    async def stop(self) -> int:
        """Stop in order; how many transactions were committed."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self.committed

    async def _write(self, number: int) -> None:
        dice = random.Random(f"{self._seed}/{number}")
        while not self._stopping.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(self._dsn) as own:
                    while not self._stopping.is_set():
                        await self._transaction(own, dice, number)
                        # Some hundred transactions a second: a load, not a flood.
                        await asyncio.sleep(dice.random() * self._pause_s)
            except psycopg.OperationalError:
                # The server is being restarted: that is part of the test.
                await asyncio.sleep(0)
                continue

    async def _transaction(
        self,
        own: psycopg.AsyncConnection[object],
        dice: random.Random,
        number: int,
    ) -> None:
        try:
            for _ in range(dice.randint(1, 6)):
                await self._statement(own, dice)
            await self._leave_alone(own, number)
        except psycopg.IntegrityError:  # two writers moved rows to one key
            await own.rollback()
            return
        if dice.random() < 0.1:
            await own.rollback()
        else:
            await own.commit()
            self.committed += 1

    async def _leave_alone(
        self, own: psycopg.AsyncConnection[object], number: int
    ) -> None:
        self._left[number] += 1
        last = self._left[number]
        await own.execute(
            "insert into item (id, name, n) values (%s, 'first', %s)"
            " on conflict do nothing",
            [last, last],
        )
        await own.execute(
            "update item set name = 'last', n = n + 1 where id = %s", [last - 1]
        )

    async def _statement(
        self, own: psycopg.AsyncConnection[object], dice: random.Random
    ) -> None:
        key, other = dice.randint(1, self._rows), dice.randint(1, self._rows)
        text = f"{dice.random():.12f} {'ü' * dice.randint(0, 3)}"
        match dice.randint(0, 9):
            case 0 | 1:
                await own.execute("delete from item where id = %s", [key])
            case 2 | 3 | 4:
                await own.execute(
                    "insert into item (id, name, n) values (%s, %s, %s)"
                    " on conflict (id) do update set name = excluded.name",
                    [key, text, other],
                )
            case 5:
                await own.execute(
                    "update item set id = %s where id = %s and not exists"
                    " (select from item where id = %s)",
                    [self._rows + other, key, self._rows + other],
                )
            case _:
                await own.execute(
                    "update item set name = %s, n = n + 1 where id = %s", [text, key]
                )


SCHEMA = """
create table item (id bigint primary key, name text, n integer not null,
                   at timestamptz not null default clock_timestamp(), note text);
alter table item alter column note set storage external;
insert into item (id, name, n, note)
select g, 'item ' || g, g, repeat('long ', 600) from generate_series(1, 500) g
"""


class Differs(AssertionError):
    """Some document or key is not what SQL says it must be."""


async def exact(config: Path, *, empty: bool = False, former: bool = False) -> None:
    """Every document and key equals SQL; at rest, after all has been applied.

    Differs says which do not, or that a target is not there to be compared. That a
    view has none at all is no answer unless it may be `empty`; nor is what was built
    from another definition than the file's, unless it may be `former`.
    """
    try:
        verified = await verify(load(config))
    except BridgeError as problem:
        raise Differs(str(problem)) from problem
    old = [f"{v.sink}/{v.name} g{v.number}" for v in verified if v.former]
    if old and not former:
        raise Differs(f"not of the file's definition: {old}")
    found = {f"{v.sink}/{v.name}": v.found for v in verified}
    wrong = {
        name: (c.missing[:3], list(c.different.values())[:3], c.extra[:3])
        for name, c in found.items()
        if c.wrong or c.unsettled
    }
    if wrong:
        raise Differs(str(wrong))
    assert empty or all(c.checked for c in found.values()), "nothing was compared"


def unused_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
