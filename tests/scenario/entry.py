"""`pgbridge` with probes that kill or hold it, or without one of its rules.

The one thing to know: what is before the command itself are arguments of this module,
in the order in which `Armed` has them; `harness.Daemon` writes them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from bridge import probes
from bridge.cli import main
from tests.fixtures.waiting import eventually


class Armed(NamedTuple):
    """What is done to the process, as its arguments say it; empty: nothing."""

    kill_at: str = ""
    """It dies at that probe, with SIGKILL: nothing of Python tidies up."""
    after: str = "0"
    """How often it passes that probe before."""
    mutant: str = ""
    """The rule that is taken out (`mutants.py`)."""
    hold: str = ""
    """A folder: it stops once at the probe that its file `armed` names, which becomes
    `reached`, until that is removed."""


def armed() -> None:
    """Run a command as its first arguments say."""
    given = Armed(*sys.argv[1:5])
    if given.kill_at:
        probes.register(given.kill_at, _killer(int(given.after)))
    if given.hold:
        for name in probes.NAMES:
            probes.register(name, _holder(name, Path(given.hold)))
    if given.mutant:
        from tests.scenario import mutants

        mutants.apply(given.mutant)
    sys.argv = ["pgbridge", *sys.argv[5:]]
    main()


def _killer(left: int) -> Callable[[], None]:
    def act() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def _holder(name: str, folder: Path) -> Callable[[], Awaitable[None]]:
    at, reached = folder / "armed", folder / "reached"

    async def act() -> None:
        if not at.exists() or at.read_text() != name:
            return
        at.rename(reached)
        await eventually(lambda: not reached.exists(), every_s=0.01)

    return act
