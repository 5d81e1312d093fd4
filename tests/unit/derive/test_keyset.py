"""Keys that are to be derived: each once, in memory or on disk."""

from __future__ import annotations

import random

import pytest

from bridge.derive.keyset import KeySet
from bridge.errors import Halt


def keys(count: int) -> list[tuple[str | None, ...]]:
    return [(str(n), None if n % 7 == 0 else f"ü{n % 3}") for n in range(count)]


@pytest.mark.parametrize("memory_max", [10, 1000, 100_000])
def test_each_key_comes_once_whatever_is_on_disk(memory_max: int) -> None:
    found = KeySet(memory_max)
    dice = random.Random(1)
    wanted = keys(3000)
    for _ in range(4):
        dice.shuffle(wanted)
        for at in range(0, len(wanted), 500):
            found.add(wanted[at : at + 500])
    assert found.on_disk == (memory_max < 3000)
    assert len(found) >= 3000
    pieces = list(found.pieces(64))
    assert max(map(len, pieces)) <= 64
    taken = [key for piece in pieces for key in piece]
    assert len(taken) == 3000
    assert set(taken) == set(wanted)
    assert len(found) == 0


def test_what_is_in_memory_stays_within_its_limit() -> None:
    found = KeySet(100)
    for key in keys(5000):
        found.add([key])
        assert len(found._keys) <= 100


def test_a_full_disk_halts() -> None:
    found = KeySet(10, "/nonexistent")
    with pytest.raises(Halt, match="do not fit on disk"):
        found.add(keys(100))
