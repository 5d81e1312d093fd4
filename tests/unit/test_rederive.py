"""Keys that are derived again: who answers for one that has no document."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill.pace import Pace
from bridge.backfill.rederive import rederive
from bridge.batch import FanOut
from bridge.keys import Parts
from bridge.operations import Rejection
from bridge.position import Position
from bridge.sink import Generation
from bridge.source import Failure, QueryFailed, Row
from tests.unit.parts import GENERATION, LaneBench, nothing, operation, until

pytestmark = pytest.mark.unit

READ_AT = 50


def version(lsn: int) -> int:
    return Position(1, lsn).version


class Bench(LaneBench):
    """A lane that is owed keys, and a source in which the query fails for some."""

    insert_lsn = 100

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = {(key,) for key in failing}
        self.refused: list[tuple[str, int]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """What the stream does as the keys are read."""
        self.fan_out = FanOut(self.ledger)
        self.fan_out.add(self.lane, GENERATION)
        self.feed = self.lane.feeds[GENERATION]

    def owe(self, key: str, lsn: int) -> None:
        """As by a full lane: of a batch in which nothing else is."""
        entry = self.ledger.enter(lsn, 0.0)
        self.feed.put([operation(key, version(lsn))], entry, full=True)
        self.ledger.derived(entry)

    async def rederive(self, *keys: str) -> None:
        """As `Watch` does it, over and over."""
        pipeline = SimpleNamespace(
            epoch=1,
            ledger=self.ledger,
            fan_out=self.fan_out,
            markers=SimpleNamespace(next=self._next),
            gate=SimpleNamespace(open=lambda take, _: take()),
            source=SimpleNamespace(read=lambda *, scanning: nullcontext(self)),
            progress=SimpleNamespace(answered=nothing),
        )
        await rederive(
            cast(Any, pipeline),
            cast(Any, SimpleNamespace(name="view", cast_sql="")),
            [GENERATION],
            [(key,) for key in keys],
            reject=self._reject,
            pace=Pace(),
        )

    async def documents(
        self, _plan: object, keys: Sequence[Parts], *, careful: bool
    ) -> tuple[list[Row], list[Failure]]:
        """See `SnapshotReader.documents`."""
        failing = self.failing.intersection(keys)
        if failing and not careful:
            raise QueryFailed("division by zero")
        self.meanwhile()
        rows = [Row(key, b"{}") for key in keys if key not in failing]
        return rows, [Failure(key, "division by zero") for key in failing]

    async def unfit(self, _cast_sql: str, _keys: object) -> set[Parts]:
        """None is."""
        return set()

    async def _next(self) -> int:
        self.ledger.keepalive(self.insert_lsn)
        return READ_AT

    async def _reject(
        self,
        _generations: Collection[Generation],
        rejections: list[tuple[Parts, Rejection]],
        version: int,
    ) -> None:
        self.refused += [(rejection.key, version) for _, rejection in rejections]


async def test_an_owed_key_that_has_no_document_is_owed_no_more() -> None:
    """Its letter answers for it: it would be derived for ever, and hold the slot."""
    async with Bench("1") as bench:
        bench.owe("1", 10)
        bench.owe("2", 20)
        await bench.rederive("1", "2")
        assert bench.refused == [("1", version(READ_AT))]
        assert not bench.feed.owed
        await until(lambda: not bench.ledger.outstanding)


async def test_what_has_asked_for_it_since_stays_owed() -> None:
    async with Bench("1") as bench:
        bench.owe("1", 10)
        bench.owe("1", READ_AT + 10)
        await bench.rederive("1")
        assert bench.feed.owed["1"].version == version(READ_AT + 10)
        assert bench.ledger.outstanding


async def test_what_the_stream_has_brought_since_has_no_letter() -> None:
    """It may be kept before the letter is written down, which nothing clears then."""
    async with Bench("1", "2") as bench:

        def brought() -> None:
            for key, lsn in (("1", 110), ("2", READ_AT)):
                entry = bench.ledger.enter(bench.ledger.end + 10, 0.0)
                later = [operation(key, version(lsn))]
                bench.fan_out.put("view", later, entry, lsn)
                bench.ledger.derived(entry)

        bench.meanwhile = brought
        await bench.rederive("1", "2")
        assert bench.refused == [("2", version(READ_AT))]
