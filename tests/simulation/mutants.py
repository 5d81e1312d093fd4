"""Every rule that is left out must show: in some history, or in a unit test.

`make mutants` prints for each the first seed that catches it, what broke, and the time
that took. The one thing to know: the unchanged bridge must pass the same history, or it
was not the rule that was missing.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from bridge.errors import Transient
from tests.simulation import clock
from tests.simulation.taken_out import MUTANTS, Mutant
from tests.simulation.world import World

T = TypeVar("T")
SEEDS_MAX = 200
UNIT = Path(__file__).parents[1] / "unit"


class Caught(NamedTuple):
    """What showed that a rule was missing."""

    seed: int
    seconds: float
    what: str


def hunt(mutant: Mutant, seeds: int = SEEDS_MAX) -> Caught | None:
    """The first seed whose history the mutant breaks."""
    began = time.perf_counter()
    for seed in range(1, seeds + 1):
        try:
            _with(mutant, partial(_live, mutant.world, seed))
        except (AssertionError, KeyError, Transient) as error:
            what = str(error).partition("\n")[0]
        else:
            continue
        _live(mutant.world if mutant.patches() else World, seed)
        return Caught(seed, time.perf_counter() - began, what[-80:])
    return None


def _live(world: Callable[[int], World], seed: int) -> None:
    clock.run(world(seed).run())


def fails(mutant: Mutant) -> bool:
    """Whether the mutant's unit test passes as it is, and fails without the rule."""
    return _passes(mutant.unit) and not _with(mutant, lambda: _passes(mutant.unit))


def _with(mutant: Mutant, act: Callable[[], T]) -> T:
    with ExitStack() as stack:
        for patch in mutant.patches():
            stack.enter_context(patch)
        return act()


def _passes(unit: str) -> bool:
    for name in [name for name in sys.modules if name.startswith("tests.unit.")]:
        del sys.modules[name]  # what it imports by name is to be what is patched
    with redirect_stdout(io.StringIO()):
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(UNIT / unit)])
    assert code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), (unit, code)
    return code is pytest.ExitCode.OK


def main() -> int:
    """Print the table; 1 when a mutant was not caught."""
    missed = 0
    chosen = [m for m in MUTANTS if all(w in m.rule for w in sys.argv[1:])]
    print(f"{'taken out':56} {'seed':>5} {'seconds':>8} {'unit':>6}  shown by")
    for mutant in chosen:
        unit = "" if not mutant.unit else "fails" if fails(mutant) else "PASSES"
        caught = hunt(mutant)
        seed, seconds, what = caught or ("-", "-", mutant.unit)
        if unit == "PASSES" or not (caught or unit):
            missed += 1
            what = "NOT CAUGHT"
        if caught:
            seconds = f"{caught.seconds:.1f}"
        print(f"{mutant.rule:56} {seed:>5} {seconds:>8} {unit:>6}  {what}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
