"""One target against the source, while changes stream, without false alarms.

    1. Every page of the source's documents against the sink's, by key; and the sink's
       keys against the source's. What differs is suspected, no more.
    2. A suspect is settled: its version in the sink, then its document in a snapshot
       S, then wait until the target has applied all that S could see. If the sink's
       document still is not what S showed, and still has the same version, then no
       change was on its way: it is wrong. Another version: look again.

The one thing to know: only a document that nobody has written since, and that differs
from what it should have been by then, is reported.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from bridge.derive.view import ViewPlan
from bridge.keys import Parts, key_text
from bridge.operations import fields
from bridge.sink import Generation, Sink, Stored
from bridge.source import QueryFailed, Row, Source

_PAGE_KEYS = 1000
_ATTEMPTS = 20
_HASH_MASK = (1 << 61) - 1


class Difference(NamedTuple):
    """A document that is not what the source says; `fields` are those that differ."""

    key: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """What was found of one target; keys by their texts."""

    checked: int = 0
    missing: list[Parts] = field(default_factory=list)
    different: dict[Parts, Difference] = field(default_factory=dict)
    extra: list[Parts] = field(default_factory=list)
    unsettled: list[Parts] = field(default_factory=list)
    """Keys that were written each time they were looked at: nothing is wrong."""

    @property
    def wrong(self) -> list[Parts]:
        """All keys whose documents are not right."""
        return [*self.missing, *self.different, *self.extra]


Applied = Callable[[int], Awaitable[None]]
"""Waits until the target has applied everything up to an LSN."""


class Comparer:
    """Compares one generation with its view."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        generation: Generation,
        plan: ViewPlan,
        applied: Applied,
        parts_of: Callable[[Stored, Generation], Parts | None],
    ) -> None:
        """`parts_of` takes a stored key apart; None when it cannot be."""
        self._source = source
        self._sink = sink
        self._generation = generation
        self._plan = plan
        self._applied = applied
        self._parts_of = parts_of

    async def run(
        self,
        *,
        sample: Callable[[Parts], bool] = lambda _: True,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Comparison:
        """Compare every document, or those that `sample` takes."""
        found = Comparison()
        suspects: dict[Parts, None] = {}
        seen: set[int] = set()
        await self._sink.refresh(self._generation)
        async for rows in self._rows():
            seen.update(hash(key_text(row.parts)) & _HASH_MASK for row in rows)
            chosen = [row for row in rows if sample(row.parts)]
            suspects.update(dict.fromkeys(await self._unequal(chosen)))
            found.checked += len(chosen)
            progress(found.checked)
        async for page in self._sink.scan(self._generation, documents=False):
            for stored in page:
                if hash(stored.key) & _HASH_MASK in seen:
                    continue
                parts = self._parts_of(stored, self._generation)
                if parts is not None and sample(parts):
                    suspects[parts] = None
        await self._settle(list(suspects), found)
        return found

    async def keys(self, keys: Iterable[Parts]) -> Comparison:
        """Compare the documents of these keys alone."""
        found = Comparison()
        suspects = list(keys)
        found.checked = len(suspects)
        await self._settle(suspects, found)
        return found

    async def _rows(self) -> AsyncIterator[list[Row]]:
        async with self._source.read(scanning=True) as reader:
            scan = reader.scan(self._plan, None, None)
            async with aclosing(cast(AsyncGenerator[list[Row], None], scan)) as pages:
                async for page in pages:
                    for at in range(0, len(page), _PAGE_KEYS):
                        yield page[at : at + _PAGE_KEYS]

    async def _unequal(self, rows: list[Row]) -> list[Parts]:
        if not rows:
            return []
        stored = await self._sink.read(self._generation, [row.parts for row in rows])
        return [
            row.parts
            for row in rows
            if not self._equal(row.document, stored.get(key_text(row.parts)))
        ]

    def _equal(self, expected: bytes | None, stored: Stored | None) -> bool:
        document = None if stored is None else stored.document
        if expected is None or document is None:
            return expected is document
        return self._sink.same(self._generation.target, expected, document)

    async def _settle(self, suspects: list[Parts], found: Comparison) -> None:
        for at in range(0, len(suspects), _PAGE_KEYS):
            left = suspects[at : at + _PAGE_KEYS]
            for _ in range(_ATTEMPTS):
                if not left:
                    break
                left = await self._look(left, found)
            found.unsettled += left

    async def _look(self, suspects: list[Parts], found: Comparison) -> list[Parts]:
        """Settle what can be settled; those that were written meanwhile come back."""
        before = await self._sink.read(self._generation, suspects)
        async with self._source.read(scanning=True) as reader:
            try:
                rows, _ = await reader.documents(self._plan, suspects)
                failed: set[Parts] = set()
            except QueryFailed:
                rows, failed = [], set(suspects)
        if failed:
            async with self._source.read(scanning=True) as reader:
                rows, failures = await reader.documents(
                    self._plan, suspects, careful=True
                )
            failed = {failure.parts for failure in failures}
        await self._applied(reader.insert_lsn)
        after = await self._sink.read(self._generation, suspects)
        expected = {row.parts: row.document for row in rows}
        again: list[Parts] = []
        for parts in suspects:
            text = key_text(parts)
            want, have = expected.get(parts), after.get(text)
            if parts in failed or self._equal(want, have):
                continue
            if _version(before.get(text)) != _version(have):
                again.append(parts)
            elif want is None:
                found.extra.append(parts)
            elif have is None or have.document is None:
                found.missing.append(parts)
            else:
                names = differing(want, have.document)
                found.different[parts] = Difference(text, names)
        return again


def differing(expected: bytes, stored: bytes) -> tuple[str, ...]:
    """The names of the members in which two documents differ."""
    want, have = dict(fields(expected)), dict(fields(stored))
    names = [name for name in (*want, *have) if want.get(name) != have.get(name)]
    return tuple(dict.fromkeys(name[1:-1].decode() for name in names))


def _version(stored: Stored | None) -> int:
    return 0 if stored is None else stored.version
