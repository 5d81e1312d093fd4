"""Whole histories of the bridge under faults; a seed is a history.

`make simulate SEEDS=…` runs as many as one likes, `make simulate SEED=…` repeats one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation import clock, worlds
from tests.simulation.faults import FAULTS
from tests.simulation.world import World, simulate

AT_LEAST = 500
"""Histories of a run that does not say how many."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Seeds in blocks: a history is a matter of milliseconds, a test is not."""
    if "block" not in metafunc.fixturenames:
        return
    alone = metafunc.config.getoption("--seed")
    if alone is not None:
        blocks = [range(alone, alone + 1)]
    else:
        count = max(AT_LEAST, metafunc.config.getoption("--seeds"))
        blocks = [range(at, min(at + 50, count + 1)) for at in range(1, count + 1, 50)]
    metafunc.parametrize("block", blocks, ids=lambda b: f"seeds={b.start}-{b.stop - 1}")


def test_every_document_is_right_and_the_slot_moves(block: range) -> None:
    for seed in block:
        simulate(seed)


def test_the_same_seed_is_the_same_history() -> None:
    assert simulate(7).trace == simulate(7).trace
    assert simulate(7).trace != simulate(8).trace


def test_every_fault_happens() -> None:
    happened = {kind for seed in range(1, 60) for kind in simulate(seed).happened}
    assert happened == set(FAULTS)


def test_crashes_while_little_log_may_be_held_back() -> None:
    """Sinks are parked, and stand somewhere, while the stream begins again."""
    for seed in range(30, 45):
        world = World(seed, faults=("crash",))
        world.limits = replace(world.limits, wal_budget_bytes=1000)
        clock.run(world.run())


@pytest.mark.parametrize("world", range(len(worlds.FAIR)))
def test_worlds_that_are_full_of_one_thing(world: int) -> None:
    """Each of these is what some rule is for."""
    for seed in range(1, 11):
        clock.run(worlds.FAIR[world](seed).run())
