"""What is lost while the source is away, or while its view waits, is told or mended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill import patience
from bridge.backfill.life import Life
from bridge.backfill.mending import Mending
from bridge.batch import FanOut
from bridge.errors import Transient
from bridge.sink import Loss, Target
from bridge.store.rows import GenerationKey, GenerationState
from tests.unit.parts import GENERATION, LaneBench, nothing, until

pytestmark = pytest.mark.unit

FORMER = "view@1"
GONE = Loss(GENERATION, None, "the index is gone")
BY_HAND = Loss(GENERATION, None, "the mapping was changed by hand", serves=True)


class Losing:
    """A live generation that is lost, in a sink that has generations side by side."""

    def __init__(self, plans: Mapping[str, object]) -> None:
        self.away = True
        """Whether the source's connection is cut."""
        self.dropped: list[GenerationKey] = []
        self.created: list[Target] = []
        self.halted: list[str | None] = []
        bench = LaneBench()
        self.fan_out = FanOut(bench.ledger)
        name = "view" if "view" in plans else FORMER
        target = GENERATION.target
        sink = SimpleNamespace(side_by_side=lambda _: True, repaired=nothing)
        self.assembly = SimpleNamespace(
            plans=plans,
            plan=lambda g: plans.get(self.fan_out.plan(g) or ""),
            store=SimpleNamespace(
                generations=SimpleNamespace(drop=self._drop, halt=self._halt)
            ),
            sinks={"sink": sink},
            lanes={"sink": bench.lane},
            targets={("sink", "name"): target},
            pipeline=SimpleNamespace(fan_out=self.fan_out),
            halted={} if "view" in plans else {("sink", "name"): "grant it"},
            spawn=lambda work, _: asyncio.ensure_future(work),
        )
        self.life = Life(cast(Any, self.assembly))
        self.life.feed(GENERATION, GenerationState.LIVE, name)
        self.life.create = self._create  # type: ignore[method-assign]
        self.life.builds.begin = asyncio.ensure_future  # type: ignore[assignment]
        self.mending = Mending(cast(Any, self.assembly), self.life, nothing)

    async def _drop(self, key: GenerationKey) -> None:
        if self.away:
            raise Transient("the connection was cut")
        self.dropped.append(key)

    async def _halt(self, _key: GenerationKey, reason: str | None) -> None:
        self.halted.append(reason)

    async def _create(self, target: Target, _plan: object) -> Any:
        self.created.append(target)
        return nothing()

    @property
    def fed(self) -> bool:
        return self.life.is_fed(GENERATION)


async def test_what_is_lost_is_fed_until_it_is_written_down_that_it_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing tells of it again once it is fed no more: it was shown as live and level
    for as long as the daemon went on."""
    tries = 0

    async def sleep(_delay_s: float) -> None:
        nonlocal tries
        tries += 1
        losing.away = tries < 3
        assert losing.fed
        assert losing.life.live("sink", "name") == GENERATION

    losing = Losing({"view": object()})
    monkeypatch.setattr(patience, "asyncio", SimpleNamespace(sleep=sleep))
    await losing.mending.mend(GONE)
    assert (tries, len(losing.dropped), losing.created) == (3, 1, [GENERATION.target])
    assert not losing.fed


async def test_what_was_changed_is_fed_on_while_its_view_waits() -> None:
    """And said once, with what the view waits for."""
    losing = Losing({FORMER: object()})
    for _ in range(2):
        await losing.mending.mend(BY_HAND)
    assert losing.halted == [f"{BY_HAND.reason}, and its view waits: grant it"]
    assert losing.fed


async def test_what_is_gone_is_dropped_while_its_view_waits() -> None:
    """There is nothing to build another one by."""
    losing = Losing({FORMER: object()})
    losing.away = False
    await losing.mending.mend(GONE)
    await until(lambda: losing.dropped)
    assert (losing.fed, losing.created) == (False, [])


async def test_what_is_built_is_replaced_once_readers_see_it() -> None:
    """Another mapping keeps nothing from being built."""
    losing = Losing({"view": object()})
    losing.life.states[GENERATION] = GenerationState.BUILDING
    await losing.mending.mend(BY_HAND)
    assert (losing.fed, losing.created, losing.halted) == (True, [], [])
