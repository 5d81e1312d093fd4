"""A build that cannot go on: what another life is to know of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill.life import Life
from bridge.batch import FanOut
from bridge.control.letters import generation_key
from bridge.errors import Halt
from bridge.sink import Generation, Owner
from bridge.store.rows import BackfillKind, GenerationState
from tests.unit.parts import GENERATION, OTHER, LaneBench

pytestmark = pytest.mark.unit


class Obstructed:
    """A sink in which something is in the way, and what is written down meanwhile."""

    concurrency = 1

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.bench = LaneBench()
        self.fan_out = FanOut(self.bench.ledger)
        self.fan_out.add(self.bench.lane, GENERATION)

    async def prepare(self, generation: Generation, _owner: Owner) -> None:
        """See `Sink.prepare`."""
        raise Halt(f"an index is in the way of {generation}")

    async def open(self) -> list[SimpleNamespace]:
        """See `Backfills.open`: builds of two generations, and a sweep of one."""
        kinds = (BackfillKind.BUILD, GENERATION), (BackfillKind.SWEEP, GENERATION)
        return [
            SimpleNamespace(id=at, kind=kind, key=generation_key(generation))
            for at, (kind, generation) in enumerate(
                (*kinds, (BackfillKind.BUILD, OTHER))
            )
        ]

    async def note(self, what: str, which: object, *_: object) -> None:
        """Something is written down of it, when it is fed no more."""
        assert self.fan_out.outlet(GENERATION) is None
        self.told.append((what, which))

    def life(self) -> Life:
        """One that builds there."""
        store = SimpleNamespace(
            backfills=SimpleNamespace(
                open=self.open, restart=lambda row: self.note("begun again", row)
            ),
            positions=SimpleNamespace(forget=lambda key: self.note("forgotten", key)),
            generations=SimpleNamespace(halt=lambda key, _: self.note("halted", key)),
        )
        assembly = SimpleNamespace(
            store=store,
            owner=Owner("1", "shop", "pgbridge"),
            sinks={"sink": self},
            lanes={"sink": self.bench.lane},
            pipeline=SimpleNamespace(fan_out=self.fan_out),
            halted={},
            spawn=lambda work, _: asyncio.ensure_future(work),
        )
        life = Life(cast(Any, assembly))
        life.claimed["sink"].set()
        life.states[GENERATION] = GenerationState.BUILDING
        return life


async def test_a_build_without_a_place_begins_again_and_has_no_position() -> None:
    """It misses changes from then on. Ranges that were done would not be read again,
    and a position that stays behind would say that somebody has moved the slot."""
    sink = Obstructed()
    await sink.life().builds.begin(GENERATION)
    key = generation_key(GENERATION)
    assert sink.told == [("begun again", 0), ("forgotten", key), ("halted", key)]
