"""Small parts that the tests of the spine are made with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Self

from bridge.deliver import Lane
from bridge.keys import key_text
from bridge.lanes import LaneLimits, Outcomes
from bridge.ledger import Ledger
from bridge.operations import Operation, Rejection, Report
from bridge.shape import Column, Kind, Shape, TypeShape
from bridge.sink import Generation, Target

SHAPE = Shape((Column("id", TypeShape(Kind.SCALAR, "int4", 23)),), ("id",))
GENERATION = Generation(Target("view", "sink", "name", SHAPE), 1)
OTHER = Generation(Target("view", "sink", "other", SHAPE), 1)


def operation(key: str, version: int, document: bytes | None = b"{}") -> Operation:
    return Operation(key_text((key,)), (key,), version, document)


def ledger() -> Ledger:
    made = Ledger(lambda: None)
    made.start(0)
    return made


class ScriptedSink:
    """Answers each write from a script: a report, an error, or a held answer."""

    concurrency = 2
    batch_bytes_max = 1 << 20
    batch_count_max = 100

    def __init__(self) -> None:
        self.calls: list[list[Operation]] = []
        self.generations: list[Generation] = []
        self.answers: list[
            Callable[[Sequence[Operation]], Report]
            | BaseException
            | asyncio.Future[Report]
        ] = []
        self.arrived = asyncio.Event()

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        self.calls.append(list(operations))
        self.generations.append(generation)
        self.arrived.set()
        answer = self.answers.pop(0) if self.answers else _all_kept
        if isinstance(answer, asyncio.Future):
            return await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer(operations)

    async def called(self, count: int) -> None:
        """Wait until so many writes have begun."""
        async with asyncio.timeout(5):
            while len(self.calls) < count:
                self.arrived.clear()
                await self.arrived.wait()

    def hold(self) -> asyncio.Future[Report]:
        """The next unscripted write is under way until this is set."""
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.answers.append(future)
        return future


def _all_kept(operations: Sequence[Operation]) -> Report:
    return Report(kept=len(operations))


def again(*indexes: int) -> Callable[[Sequence[Operation]], Report]:
    """Everything is kept but these, to be sent again."""
    return lambda operations: Report(
        kept=len(operations) - len(indexes), again=list(indexes)
    )


def refused(index: int) -> Callable[[Sequence[Operation]], Report]:
    """Everything is kept but this one, which is refused for good."""
    return lambda operations: Report(
        kept=len(operations) - 1,
        rejections={index: Rejection(operations[index].key, "refused")},
    )


QUICK = LaneLimits(retry_first_s=0.001, retry_max_s=0.002, linger_s=0.001)


class LaneBench:
    """A lane over a scripted sink, with all that it tells written down."""

    def __init__(self, limits: LaneLimits = QUICK) -> None:
        self.sink = ScriptedSink()
        self.ledger = ledger()
        self.letters: list[Outcomes] = []
        self.kept: list[Outcomes] = []
        self.leased = True
        self.lane = Lane(
            "sink",
            self.sink,  # type: ignore[arg-type]
            self.ledger,
            limits=limits,
            dice=random.Random(1),
            letters=self._letters,
            kept=self.kept.append,
            leased=lambda: self.leased,
        )
        self.lane.add(GENERATION)

    async def _letters(self, outcomes: Outcomes) -> None:
        self.letters.append(outcomes)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.lane.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def nothing(*_: object) -> None:
    """In the place of what is not looked at."""
