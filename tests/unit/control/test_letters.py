"""Which letters of a key there are, and when they are cleared."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.batch import FanOut
from bridge.control.letters import Letters, generation_key
from bridge.lanes import Outcomes
from bridge.operations import Operation, Rejection, Report
from bridge.store.rows import GenerationKey, Letter
from tests.unit.parts import GENERATION, LaneBench, operation, until

pytestmark = pytest.mark.unit


class Bench:
    """Letters of one generation, over a table as the database keeps it."""

    def __init__(self) -> None:
        lane = LaneBench()
        fan_out = FanOut(lane.ledger)
        fan_out.add(lane.lane, GENERATION)
        self.dead = lane.lane.feeds[GENERATION].dead
        self.table: dict[str, int] = {}
        self.saving: asyncio.Event | None = None
        """Where it is there, a letter is written down when it is set."""
        self.letters = Letters(
            cast(Any, SimpleNamespace(letters=self)),
            fan_out,
            count_max=2,
            too_many=lambda _, count: self.too_many.append(count),
        )
        self.too_many: list[int] = []

    async def save(
        self, _key: GenerationKey, _view: str, letters: Collection[Letter]
    ) -> None:
        """See `DeadLetters.save`."""
        if self.saving is not None:
            await self.saving.wait()
        for one in letters:
            self.table[one.key] = max(one.version, self.table.get(one.key, 0))

    async def clear(
        self, _key: GenerationKey, kept: Collection[tuple[str, int]]
    ) -> None:
        """See `DeadLetters.clear`."""
        for text, version in kept:
            if self.table.get(text, version + 1) <= version:
                del self.table[text]

    async def keys(self) -> dict[GenerationKey, dict[str, int]]:
        """See `DeadLetters.keys`."""
        return {generation_key(GENERATION): dict(self.table)} if self.table else {}

    async def refuse(self, key: str, version: int) -> None:
        """Its document cannot be made."""
        refused = [((key,), Rejection(key, "division by zero"))]
        await self.letters.of_generations([GENERATION], refused, version)

    async def write(self, *operations: Operation, refused: Sequence[int] = ()) -> None:
        """A sink has answered for these."""
        report = Report(rejections={at: Rejection("", "mapping") for at in refused})
        claims = [cast(Any, None)] * len(operations)
        await self.letters.of_write(
            Outcomes(GENERATION, report, operations, claims, self.dead)
        )

    def known(self) -> dict[str, int]:
        """The letters that there are, known in memory as in the table."""
        assert self.dead == self.table
        return dict(self.table)


async def test_a_letter_is_cleared_by_a_version_that_is_not_below_it() -> None:
    bench = Bench()
    await bench.refuse("1", 20)
    await bench.write(operation("1", 10), operation("2", 30))
    assert bench.known() == {"1": 20}, "an older one was still under way"
    await bench.write(operation("1", 30))
    assert bench.known() == {}


async def test_of_two_letters_the_later_is_to_be_cleared() -> None:
    bench = Bench()
    await bench.write(operation("1", 20), refused=[0])
    await bench.refuse("1", 10)
    await bench.write(operation("1", 15))
    assert bench.known() == {"1": 20}
    await bench.write(operation("1", 20))
    assert bench.known() == {}


async def test_what_is_kept_while_a_letter_is_written_down_clears_it() -> None:
    bench = Bench()
    bench.saving = asyncio.Event()
    refusal = asyncio.create_task(bench.refuse("1", 10))
    await until(lambda: bench.dead)
    write = asyncio.create_task(bench.write(operation("1", 20)))
    for _ in range(10):
        await asyncio.sleep(0)
    bench.saving.set()
    await asyncio.gather(refusal, write)
    assert bench.known() == {}


async def test_letters_of_an_earlier_life_are_known_and_dropped_ones_are_not() -> None:
    bench = Bench()
    bench.table = {"1": 10, "2": 20}
    await bench.letters.load()
    assert bench.known() == {"1": 10, "2": 20}
    del bench.table["2"]
    await bench.letters.forget_dropped()
    assert bench.known() == {"1": 10}
    await bench.write(operation("1", 10))
    assert bench.known() == {}


async def test_too_many_letters_are_told() -> None:
    bench = Bench()
    for at in range(3):
        await bench.refuse(str(at), at)
    assert bench.too_many == [3]
