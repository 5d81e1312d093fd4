"""A sink that is parked, and paid: who may end that, and what is owed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, Self, cast
from unittest import mock

import pytest

from bridge import parking as module
from bridge.control.letters import generation_key
from bridge.errors import BridgeError, Halt, Transient, ViewHalt, errors_in
from bridge.lanes import LaneState
from bridge.parking import Parking
from bridge.position import Position
from bridge.source import StatementRefused
from bridge.store.rows import GenerationKey, OwedKey, SinkState
from tests.unit.parts import GENERATION, LaneBench, operation, until

KEY = generation_key(GENERATION)
AWAY = Transient("away")


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    """What is looked at again and again is, at once."""
    every = {"_PROBE_S": 0.0, "_LOOK_S": 0.0, "_RECORD_S": 0.0}
    with mock.patch.multiple(module, **cast(Any, every)):
        yield


class Held:
    """A call that is under way until it is let go on."""

    def __init__(self) -> None:
        self._begun = False
        self.goes_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> None:
        self._begun = True
        await self.goes_on

    async def reached(self) -> None:
        await until(lambda: self._begun)


class Tables:
    """What is written down, in the order of the calls; any of them may be held."""

    def __init__(self) -> None:
        self.owed = self.generations = self
        self.sweeps: set[GenerationKey] = set()
        self.rows: dict[str, OwedKey] = {}
        self.state = SinkState.OK
        self.held: dict[object, Callable[[], Awaitable[None]]] = {}
        """By what is written."""

    async def _after(self, what: object) -> None:
        await asyncio.sleep(0)
        if (held := self.held.pop(what, None)) is not None:
            await held()

    async def set_sweep(self, key: GenerationKey, *, sweep: bool) -> None:
        (self.sweeps.add if sweep else self.sweeps.discard)(key)
        await self._after(sweep)

    async def set_sink_state(self, _name: str, state: SinkState, _: str = "") -> None:
        self.state = state
        await self._after(state)

    async def add(self, _key: GenerationKey, owed: list[OwedKey]) -> None:
        self.rows.update({one.key: one for one in owed})
        await self._after("add")

    async def count(self) -> dict[GenerationKey, int]:
        await self._after("count")
        return {KEY: len(self.rows)} if self.rows else {}

    async def page(
        self, _key: GenerationKey, *, after: str, count: int
    ) -> list[OwedKey]:
        await self._after("page")
        return [self.rows[key] for key in sorted(self.rows) if key > after][:count]

    async def remove(self, _key: GenerationKey, paid: list[tuple[str, Any]]) -> None:
        for key, _ in paid:
            self.rows.pop(key, None)

    async def remove_up_to(self, _key: GenerationKey, _position: Position) -> None:
        self.rows.clear()


class Paying(LaneBench):
    """A lane whose parking runs, over a stream that brings every marker at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables()
        self.claims: list[Any] = []
        """What becomes of the next claims: held ones, errors; then all are answered."""
        self.sweeping: list[Any] = []
        """Of the next sweeps."""
        self.swept = 0
        self.marker: Callable[[], Awaitable[None]] | None = None
        self.sink.claim = self._claim  # type: ignore[attr-defined]
        pipeline = SimpleNamespace(
            epoch=1,
            ledger=self.ledger,
            streaming=True,
            markers=SimpleNamespace(next=self._marker),
            progress=SimpleNamespace(
                reached=lambda _: 0, saved=lambda _: 1 << 40, want=lambda _: None
            ),
            ready=self._ready,
            level=self._ready,
        )
        pipeline.progress.save = self._ready
        config = SimpleNamespace(limits=SimpleNamespace(owed_keys_max=1000))
        assembly = SimpleNamespace(
            config=config,
            pipeline=pipeline,
            store=self.tables,
            owner=None,
            epoch=1,
            letters=SimpleNamespace(of_generations=None),
            plan=lambda _: SimpleNamespace(name="view"),
        )
        claimed = asyncio.Event()
        claimed.set()
        jobs = SimpleNamespace(sweep=self._sweep)
        self.parking = Parking(cast(Any, assembly), cast(Any, jobs), self.lane, claimed)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.running = asyncio.create_task(self.parking.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await super().__aexit__()

    async def _ready(self, *_: object) -> None:
        await asyncio.sleep(0)

    async def _marker(self) -> int:
        await asyncio.sleep(0)
        if self.marker is not None:
            held, self.marker = self.marker, None
            await held()
        return 100

    async def _claim(self, *_: object) -> None:
        await _next(self.claims)

    async def _sweep(self, *_: object) -> None:
        await _next(self.sweeping)
        self.swept += 1

    async def flows(self) -> None:
        """Wait until nothing is owed any more."""
        await until(lambda: not self.lane.in_debt)
        assert not self.lane.parked
        assert self.tables.state is SinkState.OK
        assert (self.tables.rows, self.tables.sweeps) == ({}, set())


async def _next(script: list[Any]) -> None:
    await asyncio.sleep(0)
    answer = script.pop(0) if script else None
    if isinstance(answer, BaseException):
        raise answer
    if answer is not None:
        await answer()


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [None, AWAY], ids=["it answers", "it is away"])
async def test_a_sink_that_is_paused_as_it_is_asked_stays_paused(
    answer: Transient | None,
) -> None:
    """A hung one is asked for a minute, in which the operator pauses it."""
    async with Paying() as bench:
        claim = Held()
        bench.claims = [AWAY, claim]
        bench.parking.ask("it is away")
        await claim.reached()
        bench.lane.set_state(LaneState.PAUSED)
        if answer is None:
            claim.goes_on.set_result(None)
        else:
            claim.goes_on.set_exception(answer)
        await turns()
        assert bench.lane.state is LaneState.PAUSED
        assert bench.lane.parked
        bench.lane.set_state(LaneState.OK)
        await bench.flows()


async def test_a_sink_that_is_paused_as_its_keys_are_looked_at_stays_paused() -> None:
    async with Paying() as bench:
        scan = Held()
        bench.sweeping = [scan]
        await bench.parking.owe_all(GENERATION)
        bench.parking.ask("lost")
        await scan.reached()
        bench.lane.set_state(LaneState.PAUSED)
        scan.goes_on.set_exception(AWAY)
        await until(lambda: bench.lane.parked)
        await turns()
        assert bench.lane.state is LaneState.PAUSED
        bench.lane.set_state(LaneState.OK)
        await bench.flows()


async def test_a_paused_sink_may_be_found_to_refuse() -> None:
    async with Paying() as bench:
        claim = Held()
        bench.claims = [claim]
        bench.parking.ask("it is away")
        await claim.reached()
        bench.lane.set_state(LaneState.PAUSED)
        claim.goes_on.set_exception(Halt("somebody else's"))
        await until(lambda: bench.lane.state is LaneState.HALTED)
        bench.lane.set_state(LaneState.OK)
        await bench.flows()


@pytest.mark.parametrize("asks", [True, False], ids=["a loss", "a sweep"])
async def test_what_is_owed_as_an_earlier_sweep_ends_stays_written_down(
    *, asks: bool
) -> None:
    async with Paying() as bench:
        sweep, marker = Held(), Held()
        bench.sweeping = [sweep]
        await bench.parking.owe_all(GENERATION)
        bench.parking.ask("lost")
        await sweep.reached()
        bench.marker = marker

        async def lose() -> None:
            await bench.parking.owe_all(GENERATION)
            if asks:
                bench.parking.ask("lost again")

        losing = asyncio.create_task(lose())
        await marker.reached()
        sweep.goes_on.set_result(None)
        await turns()
        second = Held()
        bench.sweeping = [second]
        marker.goes_on.set_result(None)
        await losing
        await second.reached()
        assert bench.tables.sweeps == {KEY}, "the next life knows nothing of it"
        second.goes_on.set_result(None)
        await bench.flows()
        assert bench.swept == 2


async def test_debts_are_recorded_though_the_end_of_a_sweep_was_cut_off() -> None:
    """It may be written down that nothing more is to be swept."""
    async with Paying() as bench:
        ending = Held()
        bench.tables.held[False] = ending
        await bench.parking.owe_all(GENERATION)
        bench.parking.ask("lost")
        await ending.reached()
        bench.claims = [AWAY, claim := Held()]
        bench.lane.hold()
        entry = bench.ledger.enter(100, 0.0)
        bench.lane.put(GENERATION, [operation("1", 100)], entry)
        bench.ledger.derived(entry)
        bench.parking.ask("slow")
        await claim.reached()
        await until(lambda: not bench.ledger.outstanding)
        assert list(bench.tables.rows) == ["1"] or bench.tables.sweeps


@pytest.mark.parametrize("turns_between", range(6))
async def test_what_is_lost_as_the_last_debt_is_paid_is_paid_too(
    turns_between: int,
) -> None:
    async with Paying() as bench:
        last = Held()
        bench.tables.held[SinkState.OK] = last
        bench.parking.ask("it was away")
        await last.reached()
        await bench.parking.owe_all(GENERATION)
        last.goes_on.set_result(None)
        await turns(turns_between)
        bench.parking.ask("lost")
        assert bench.lane.in_debt
        await bench.flows()
        assert bench.swept == 1


@pytest.mark.parametrize("all_keys", [True, False], ids=["all", "some"])
async def test_what_is_recorded_of_a_lane_that_flows_again_is_paid(
    *, all_keys: bool
) -> None:
    """It was parked when somebody was told to record it, and is not any more."""

    async def pay(*_args: object, **_rest: object) -> list[tuple[str, Position]]:
        return [(key, Position(1, 100)) for key in bench.tables.rows]

    async with Paying() as bench:
        bench.parking.ask("it was away")
        await bench.flows()
        with mock.patch.object(module, "pay", pay):
            if all_keys:
                await bench.parking.owe_all(GENERATION)
            else:
                await bench.parking.owe(GENERATION, [("1",)])
            await bench.flows()
        assert bench.swept == int(all_keys)


async def _ends_with(bench: Paying) -> list[BridgeError]:
    await asyncio.wait({bench.running}, timeout=5)
    error = bench.running.exception()
    assert error is not None
    found = errors_in(error)
    assert found is not None
    return found


async def test_a_view_whose_source_refuses_a_sweep_halts_alone() -> None:
    async with Paying() as bench:
        refusal = StatementRefused("there is no such column")
        bench.sweeping = [ExceptionGroup("ranges", [refusal])]
        await bench.parking.owe_all(GENERATION)
        bench.parking.ask("lost")
        (problem,) = await _ends_with(bench)
        assert isinstance(problem, ViewHalt)
        assert problem.view == "view"
        assert bench.lane.state is LaneState.OK
        assert bench.tables.sweeps == {KEY}


async def test_a_view_whose_source_refuses_what_is_paid_halts_alone() -> None:
    async def pay(*_args: object, **_rest: object) -> list[tuple[str, Position]]:
        raise refusal

    refusal = ViewHalt("view", "there is no such column")
    async with Paying() as bench:
        await bench.parking.owe(GENERATION, [("1",)])
        bench.parking.ask("it was away")
        with mock.patch.object(module, "pay", pay):
            assert await _ends_with(bench) == [refusal]
        assert bench.lane.state is LaneState.OK


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (AWAY, LaneState.DOWN),
        (Halt("refused"), LaneState.HALTED),
        (ExceptionGroup("parts", [AWAY]), LaneState.DOWN),
        (ExceptionGroup("parts", [AWAY, Halt("refused")]), LaneState.HALTED),
    ],
)
async def test_a_sink_that_cannot_be_swept_is_parked_again(
    error: Exception, state: LaneState
) -> None:
    async with Paying() as bench:
        claim = Held()
        bench.claims = [None, claim]
        bench.sweeping = [error]
        await bench.parking.owe_all(GENERATION)
        bench.parking.ask("lost")
        if state is LaneState.DOWN:
            await claim.reached()
            claim.goes_on.set_result(None)
        else:
            await until(lambda: bench.lane.state is state)
            assert bench.lane.parked
            bench.lane.set_state(LaneState.OK)
            await claim.reached()
            claim.goes_on.set_result(None)
        await bench.flows()
        assert bench.swept == 1
