"""A range of a backfill: what it waits for, beside what, and when it is told done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.backfill.jobs import ForgetfulLog
from bridge.backfill.pace import Pace
from bridge.backfill.ranges import Range, RangeBackfill, RangeLimits
from bridge.batch import Overtaken
from bridge.errors import Transient
from bridge.keys import Parts, key_text
from bridge.ledger import Ticket
from bridge.operations import Operation, Rejection
from bridge.source import Failure, QueryFailed, Row
from tests.unit.parts import GENERATION, nothing

pytestmark = pytest.mark.unit


class Log(ForgetfulLog):
    """Remembers how many documents each finished range had."""

    def __init__(self) -> None:
        self.finished: list[int] = []

    async def done(self, span: Range, documents: int) -> None:
        """A range was kept."""
        self.finished.append(documents)


class Source:
    """One snapshot of a view of one range, whose log is not durable until `allow`.

    The first marker gives the position to read at; the next comes back with the log.
    """

    insert_lsn = 100

    def __init__(self, *keys: str) -> None:
        self.pages = [[Row((key,), b"{}") for key in keys]]
        self.failing: set[Parts] = set()
        self.nulls: list[Parts] = []
        self.away = False
        self.refused: list[str] = []
        self.written: list[str] = []
        self.puts: list[int] = []
        self.read = asyncio.Event()
        self.allow = asyncio.Event()
        self._markers = 0

    def backfill(
        self, log: Log, pace: Pace | None = None, **options: Any
    ) -> RangeBackfill:
        """Of this source, into nothing but `written`."""
        pipeline = SimpleNamespace(
            epoch=1,
            ledger=SimpleNamespace(era=1, sent=lambda _: False),
            fan_out=SimpleNamespace(
                outlet=lambda _: None,
                watch=lambda _: nullcontext(Overtaken()),
                put_job=self._put,
            ),
            markers=SimpleNamespace(next=self._next),
            gate=SimpleNamespace(open=lambda take, _: take()),
            source=SimpleNamespace(read=lambda *, scanning: nullcontext(self)),
            progress=SimpleNamespace(answered=nothing),
        )
        return RangeBackfill(
            cast(Any, pipeline),
            cast(Any, SimpleNamespace(name="view", cast_sql="")),
            [GENERATION],
            log,
            pace=pace or Pace(),
            limits=RangeLimits(concurrent=1),
            reject=self._reject,
            **options,
        )

    async def boundary(
        self, _plan: object, lower: Parts | None, count: int
    ) -> Parts | None:
        """There is one range."""
        keys = sorted(row.parts for page in self.pages for row in page)
        above = [key for key in keys if lower is None or key > lower]
        return above[0] if count == 1 and above else None

    async def null_keys(self, _plan: object) -> list[Parts]:
        """Those that no boundary gives."""
        return self.nulls

    async def scan(self, *_: object) -> AsyncIterator[list[Row]]:
        """All rows at once, or page by page."""
        self.read.set()
        for page in self.pages:
            if any(row.parts in self.failing for row in page):
                raise QueryFailed("division by zero")
            if page:
                yield page

    async def documents(
        self, _plan: object, keys: Sequence[Parts], *, careful: bool
    ) -> tuple[list[Row], list[Failure]]:
        """See `SnapshotReader.documents`; away at first."""
        assert careful
        if self.away:
            self.away = False
            raise Transient("the source is away")
        rows = [Row(key, b"{}") for key in keys if key not in self.failing]
        return rows, [Failure(key, "it fails") for key in keys if key in self.failing]

    async def unfit(self, _cast_sql: str, _keys: object) -> set[Parts]:
        """None is."""
        return set()

    async def _next(self) -> int:
        self._markers += 1
        if self._markers > 1:
            await self.allow.wait()
        return 50

    async def _reject(
        self, _: object, rejected: list[tuple[Parts, Rejection]], _version: int
    ) -> None:
        self.refused += [rejection.key for _, rejection in rejected]

    def _put(self, _: object, operations: list[Operation], ticket: Ticket) -> None:
        self.written += [operation.key for operation in operations]
        self.puts.append(len(operations))
        ticket.hold(len(operations))
        ticket.release(len(operations))


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_rows_are_read_while_their_log_comes_back_and_written_after_it() -> None:
    source, log = Source("1", "2"), Log()
    task = asyncio.create_task(source.backfill(log).run())
    await source.read.wait()
    await _settle()
    assert source.written == []  # a crash could still undo what was read
    source.allow.set()
    await task
    assert (source.written, log.finished) == (["1", "2"], [2])


async def test_that_there_are_no_rows_has_to_be_durable_too() -> None:
    """A delete that a crash undoes would leave the key without a document."""
    source, log = Source(), Log()
    task = asyncio.create_task(source.backfill(log).run())
    await source.read.wait()
    await _settle()
    assert log.finished == []
    source.allow.set()
    await task
    assert log.finished == [0]


async def test_the_end_is_told_while_the_last_ranges_are_written() -> None:
    source, log = Source("1"), Log()
    written_before: list[list[str]] = []

    async def ending() -> None:
        written_before.append(list(source.written))
        source.allow.set()

    await source.backfill(log, ending=ending).run()
    assert (written_before, source.written) == ([[]], ["1"])


async def test_a_page_goes_in_seconds_where_the_rate_is_limited() -> None:
    """However large it is: a rate that a page may pass is none."""
    waited: list[int] = []

    class Spending(Pace):
        async def spend(self, documents: int) -> None:
            waited.append(documents)

    source = Source(*map(str, range(5)))
    source.allow.set()
    await source.backfill(Log(), Spending(rate=2.0)).run()
    assert waited == source.puts == [2, 2, 1]


async def test_a_range_with_a_key_that_fails_is_made_without_it() -> None:
    """However often the source is away, and the others are counted."""
    source, log = Source("1", "2", "3"), Log()
    source.failing, source.away = {("2",)}, True
    source.allow.set()
    backfill = source.backfill(log)
    await backfill.run()
    assert (source.written, source.refused) == (["1", "3"], ["2"])
    assert log.finished == [2]
    assert backfill.documents == 2


async def test_keys_with_a_null_are_made_where_another_key_fails() -> None:
    """They are in the last range, and no boundary gives them."""
    source, log = Source("1", "2"), Log()
    source.failing, source.nulls = {("2",)}, [(None,)]
    source.allow.set()
    await source.backfill(log).run()
    assert (source.written, source.refused) == (["1", key_text((None,))], ["2"])
    assert log.finished == [2]


@pytest.mark.parametrize("page", [1, 2, 3, 10])
async def test_a_key_with_two_rows_is_not_written_wherever_a_page_ends(
    page: int,
) -> None:
    """Kept after its letter, at the same version, either of them would clear it."""
    source, log = Source(), Log()
    rows = [Row((key,), document) for key, document in _TWO_OF_SOME]
    source.pages = [rows[at : at + page] for at in range(0, len(rows), page)]
    source.allow.set()
    await source.backfill(log).run()
    assert source.written == ["2", "4"]
    assert sorted(source.refused) == ["1", "3", "5"]
    assert log.finished == [2]


_TWO_OF_SOME = [
    (key, row)
    for key, count in zip("12345", (2, 1, 3, 1, 2), strict=True)
    for row in [b"{}"] * count
]
