"""One running server process, as its owner sees it.

The one thing to know: between the owner and the server stands a keeper (`keeper.py`),
which ends the server when the owner ends, so that nothing survives Ctrl-C or kill -9.
When the keeper has ended, everything that the server had started is gone too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.dev import keeper
from bridge.dev.place import Place
from bridge.errors import Halt

POLL_S = 0.02
LOG_TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `remove` is the directory to delete if the owner dies.

    `detached` leaves the server running when the owner ends (`pgbridge dev up`).
    """

    argv: Sequence[str | Path]
    cwd: Path
    log: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    remove: Path | None = None
    detached: bool = False


class Process:
    """A server that was started. Every method may be called from any thread."""

    def __init__(self, place: Place, order: Order) -> None:
        self.log = order.log
        self.name = Path(order.argv[0]).name
        user = place.user
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the owner alone
        )
        assert self._keeper.stdin and self._keeper.stdout
        wanted = {
            "argv": [str(word) for word in order.argv],
            "env": dict(order.environment),
            "cwd": str(order.cwd),
            "log": str(order.log),
            "uid": user.uid if user else None,
            "gid": user.gid if user else None,
            "stop_signal": int(order.stop_signal),
            "remove": str(order.remove) if order.remove else None,
            "detached": order.detached,
        }
        self._keeper.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._keeper.stdin.flush()
        self.pid = int(self._keeper.stdout.readline())
        if order.detached:
            self._keeper.wait()

    @property
    def running(self) -> bool:
        """Whether the server's own process is still there."""
        return is_running(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's own process; nothing if it has ended."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """SIGKILL to the server and all that it started, and wait until they are gone.

        Stopped first, so that no part of it sees another part die.
        """
        self.signal(signal.SIGSTOP)
        keeper.kill_all([self.pid, *keeper.descendants(self.pid)])
        self.wait(10.0)

    def wait(self, deadline_s: float) -> None:
        """Until it has ended; `Halt` when it has not after `deadline_s` seconds."""
        try:
            self._keeper.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Halt(
                f"{self.name} did not end within {deadline_s:g} s",
                hint=f"see {self.log}",
            ) from None
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe:
                pipe.close()

    def until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Wait until `ready()` is true.

        Raises `Halt` with the end of the log when the process ends before that, or
        after `deadline_s` seconds.
        """
        deadline = time.monotonic() + deadline_s
        while not ready():
            if not self.running:
                raise Halt(f"{self.name} ended at its start: {self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise Halt(
                    f"{self.name} was not ready after {deadline_s:g} s: {self.tail()}"
                )
            time.sleep(POLL_S)

    def tail(self) -> str:
        """The end of what it logged."""
        try:
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return "(no log)"


def is_running(pid: int) -> bool:
    """Whether process `pid` is there and not a zombie.

    One of whose threads another still ends is there: it still holds its ports.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX" or len(tasks) > 1


def started_at(pid: int) -> int:
    """When `pid` was started, in ticks since boot; 0 if it is not there.

    Together with the pid it names a process for ever; the pid alone is used again.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])
