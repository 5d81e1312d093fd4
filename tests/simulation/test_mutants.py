"""A few of the mutants on every change; `make mutants` has them all."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import hunt
from tests.simulation.taken_out import MUTANTS

QUICK = (
    "no gate",
    "only the newest",
    "starts again",
    "counts as applied",
    "progress of a build",
)
SEEDS = 60


@pytest.mark.parametrize("words", QUICK)
def test_a_rule_that_is_left_out_shows(words: str) -> None:
    [mutant] = [each for each in MUTANTS if words in each.rule]
    assert hunt(mutant, SEEDS) is not None
