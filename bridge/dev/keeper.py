"""Runs one server and ends it when its owner ends.

The one thing to know: this file is started as a script (`python -I -S keeper.py`), so
that it needs nothing but the standard library. Its standard input is a pipe held open
by the owner: the first line is the order (JSON), and the end of the pipe, however the
owner died, ends the server. A server started with `"detached": true` lives on.

It is a process of its own, and not `prctl` in the owner's child, because the kernel
sends that signal when the *thread* that started the child ends, not the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 5.0  # between asking a server to end and making it
EXEC_FAILED = 127


def descendants(pid: int) -> list[int]:
    """Every live process below `pid`, in no order; the zombies are left out."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        state, above_it = text.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            parents[int(entry)] = int(above_it)
    found: list[int] = []
    for candidate, parent in parents.items():
        above = parent
        while above and above != pid:
            above = parents.get(above, 0)
        if above == pid:
            found.append(candidate)
    return found


def kill_all(pids: list[int]) -> None:
    """SIGKILL to each; those that are gone already do not matter."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _become(order: dict[str, Any], keeper: int) -> NoReturn:
    """In the forked child: turn into the server."""
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(caught, signal.SIG_DFL)
        if order["uid"] is not None:
            os.setgroups([])
            os.setgid(order["gid"])
            os.setuid(order["uid"])
        if not order["detached"]:
            # After setuid, which forgets it.
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(EXEC_FAILED)
        os.umask(0o077)
        os.chdir(order["cwd"])
        os.execve(order["argv"][0], order["argv"], order["env"])
    except BaseException as problem:  # noqa: BLE001 - a fork must not return
        os.write(2, f"{order['argv'][0]}: {problem}\n".encode())
    os._exit(EXEC_FAILED)


def _reap_until_empty(deadline: float) -> None:
    """Wait for every process below, and kill what is left at the deadline."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > deadline:
                kill_all(descendants(os.getpid()))
            time.sleep(0.01)


def _end(server: int, stop_signal: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, stop_signal)
    _reap_until_empty(time.monotonic() + GRACE_S)


def _watch(server: int, stop_signal: int, remove: str | None) -> int:
    """Until the server ends (its exit code) or the owner does (0)."""
    pidfd = os.pidfd_open(server)
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if pidfd in ready:
            _, status = os.waitpid(server, 0)
            # What it leaves behind (backends of a killed postmaster) ends by itself.
            _reap_until_empty(time.monotonic() + GRACE_S)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if 0 in ready and not os.read(0, 4096):
            _end(server, stop_signal)
            if remove:
                shutil.rmtree(remove, ignore_errors=True)
            return 0


def main() -> int:
    """Read the order, start the server, print its pid, and keep it."""
    order = json.loads(sys.stdin.buffer.readline())
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # Only the owner decides; Ctrl-C reaches the owner, and the pipe then ends.
        signal.signal(ignored, signal.SIG_IGN)
    if not order["detached"]:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        _become(order, keeper)
    sys.stdout.write(f"{server}\n")
    sys.stdout.flush()
    if order["detached"]:
        return 0
    return _watch(server, order["stop_signal"], order["remove"])


if __name__ == "__main__":
    sys.exit(main())
