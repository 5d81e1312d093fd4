"""What a life finds of the ones before it: whether the slot was moved, and for whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.control.letters import generation_key
from bridge.control.survey import MISSED
from bridge.gate import Gate
from bridge.position import Position
from bridge.sink import Generation
from bridge.store.rows import (
    GenerationKey,
    GenerationRow,
    GenerationState,
    ProgressRow,
)
from bridge.watch import Watch
from tests.unit.parts import GENERATION, OTHER

pytestmark = pytest.mark.unit

SLOT_AT = 100
BARRIER = 7


class Found:
    """What was written down of two generations; a `Watch` that starts with it."""

    def __init__(self, at: dict[Generation, int]) -> None:
        self.generations = list(at)
        self.positions = self
        self.rows: dict[GenerationKey, GenerationRow] = {}
        self.progress: dict[GenerationKey, ProgressRow] = {}
        self.swept: list[GenerationKey] = []
        self.raised: list[int] = []
        for generation, lsn in at.items():
            key = generation_key(generation)
            self.rows[key] = GenerationRow(
                key=key,
                view="view",
                state=GenerationState.LIVE,
                fingerprint="mapping",
                view_fingerprint="plan",
                documents=0,
                progress=1.0,
                halted=None,
                sweep=False,
                created_at=datetime.now(UTC),
                prepared_at=None,
                published_at=None,
            )
            self.progress[key] = ProgressRow(key, Position(1, lsn), 0)

    def becomes(self, generation: Generation, **changes: Any) -> None:
        """Something else was written down of it."""
        key = generation_key(generation)
        self.rows[key] = replace(self.rows[key], **changes)

    async def load(self) -> dict[GenerationKey, ProgressRow]:
        """See `Positions.load`."""
        return self.progress

    async def start(self) -> None:
        """As a life does, before anything streams."""

        async def nothing(*_: object, **__: object) -> dict[str, int]:
            return {}

        async def all_rows() -> list[GenerationRow]:
            return list(self.rows.values())

        async def sweep(key: GenerationKey, *, sweep: bool) -> None:
            assert sweep
            self.swept.append(key)

        async def passed() -> int:
            return 0

        gate = Gate()
        gate.raise_barrier = self.raised.append  # type: ignore[method-assign]
        store = SimpleNamespace(
            positions=self,
            generations=SimpleNamespace(all=all_rows, set_sweep=sweep),
            owed=SimpleNamespace(count=nothing),
            sinks=nothing,
            passed=passed,
            save_passed=nothing,
        )
        progress = SimpleNamespace(expect=lambda _: None)
        assembly = SimpleNamespace(
            epoch=1,
            store=store,
            lanes={},
            plans={},
            pipeline=SimpleNamespace(gate=gate, progress=progress),
            generation={generation_key(g): g for g in self.generations}.get,
        )
        await _Watch(cast(Any, assembly), cast(Any, None), cast(Any, None)).start()


class _Watch(Watch):
    async def _confirmed(self) -> int:
        return SLOT_AT

    async def _barrier(self) -> int:
        return BARRIER


async def test_a_slot_that_is_beyond_what_is_written_down_was_moved() -> None:
    found = Found({GENERATION: SLOT_AT, OTHER: SLOT_AT - 1})
    await found.start()
    assert found.swept == list(found.rows)
    assert found.raised == [BARRIER]


@pytest.mark.parametrize(
    "how", [{"view_fingerprint": MISSED}, {"state": GenerationState.DROPPED}]
)
async def test_what_is_fed_no_more_tells_nothing_of_the_slot(how: Any) -> None:
    """Its view has halted, or its sink is away: each start derived all of the others
    again, behind the longest open transaction."""
    found = Found({GENERATION: SLOT_AT, OTHER: SLOT_AT - 1})
    found.becomes(OTHER, sweep=True, **how)
    await found.start()
    assert (found.swept, found.raised) == ([], [])


async def test_that_the_slot_was_moved_is_found_beside_one_that_is_fed_no_more() -> (
    None
):
    found = Found({GENERATION: SLOT_AT - 1, OTHER: SLOT_AT - 2})
    found.becomes(OTHER, view_fingerprint=MISSED)
    await found.start()
    assert found.swept == [generation_key(GENERATION)]
    assert found.raised == [BARRIER]


async def test_where_nothing_is_fed_the_slot_may_have_been_moved() -> None:
    """What it was moved past may be invisible to whoever builds anew."""
    found = Found({GENERATION: SLOT_AT - 1})
    found.becomes(GENERATION, view_fingerprint=MISSED)
    await found.start()
    assert (found.swept, found.raised) == ([], [BARRIER])
