"""One target against the source, while changes stream, without false alarms.

    1. Digests of every range of the source's documents against the sink's documents,
       by key; and the sink's keys against the source's. What differs is suspected, no
       more.
    2. A suspect is settled: its version in the sink, then, once all that the log had
       by then is visible, its document in a snapshot S, then wait until the target has
       applied all that S could see. If the sink's document still is not what S showed,
       and still has the same version, then no change was on its way: it is wrong.
       Another version: look again.

The one thing to know: only a document that nobody has written since, and that differs
from what it should have been by then, is reported.
"""

from __future__ import annotations

import random
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, cast

from bridge.config import Config
from bridge.derive.view import ViewPlan
from bridge.errors import Transient
from bridge.keys import DIGEST_PREFIX, Parts, key_text, named_key
from bridge.operations import fields, key_of
from bridge.position import is_issued
from bridge.sink import PARTS_MAX, WHOLE, Generation, Part, Sink, Stored
from bridge.source import Digest, QueryFailed, Row, Source
from bridge.source.given import keys_of_range, range_end

_PAGE_KEYS = 1000
_RANGE_KEYS = 20_000
"""Read in one snapshot, so that none is open for long."""
_LISTINGS = 3
"""One that the sink has lost is begun again at once; that it is away is told."""
_STARTS = 8
"""Places of the source at which a sample looks."""
_ATTEMPTS = 20
_ABSENT_LOOKS = 3
"""A document that came and went between two looks leaves no trace in some sinks. That
it did so in each of three looks in a row, and was there in between, cannot be."""
_HASH_MASK = (1 << 61) - 1


class Difference(NamedTuple):
    """A document that is not what the source says; `fields` are those that differ."""

    key: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """What was found of one target; keys by their parts."""

    checked: int = 0
    missing: list[Parts] = field(default_factory=list)
    different: dict[Parts, Difference] = field(default_factory=dict)
    extra: list[Parts] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Names of documents that no key of the view can have: somebody else wrote them,
    and a new generation is without them."""
    unsettled: list[Parts] = field(default_factory=list)
    """Keys that were written each time they were looked at: nothing is wrong."""

    @property
    def wrong(self) -> list[Parts]:
        """All keys whose documents are not right, and can be derived again."""
        return [*self.missing, *self.different, *self.extra]


class _Expected(NamedTuple):
    """What one snapshot of the source has of some keys."""

    documents: dict[Parts, bytes]
    failed: set[Parts]
    """Those whose document cannot be made."""
    unfit: set[Parts]
    """Those that no type of the view allows: they have no row."""
    seen_lsn: int
    """The end of the log that it has seen."""


Applied = Callable[[int], Awaitable[None]]
"""Waits until everything up to an LSN is visible in the source, and in the target."""


class Comparer:
    """Compares one generation with its view."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        generation: Generation,
        plan: ViewPlan,
        applied: Applied,
    ) -> None:
        self._source = source
        self._sink = sink
        self._generation = generation
        self._plan = plan
        self._applied = applied
        self._foreign: dict[str, None] = {}
        """Names that no key can have, as far as they were met."""
        self._verbatim = True
        """Whether the sink keeps documents as they are made, so that digests tell."""

    async def run(
        self, *, progress: Callable[[int], None] = lambda _: None
    ) -> Comparison:
        """Compare every document."""
        found, seen = Comparison(), _Seen()
        suspects: dict[Parts, None] = {}
        await self._sink.refresh(self._generation)
        lower: Parts | None = None
        while True:
            upper = await self._boundary(lower, _RANGE_KEYS)
            suspects |= dict.fromkeys(await self._range(lower, upper, seen))
            progress(seen.count)
            if upper is None:
                break
            lower = upper
        found.checked = seen.count
        suspects |= await self._only_stored(seen)
        await self._settle(list(suspects), found)
        found.foreign = list(self._foreign)
        return found

    async def _only_stored(self, seen: _Seen) -> dict[Parts, None]:
        """Keys that the sink has beside those. From the start where it has lost the
        listing: a part of one shows no more than a part of what is wrong."""
        for left in reversed(range(_LISTINGS)):
            keys: dict[Parts, None] = {}
            try:
                async for page in self.stored(unless=seen):
                    keys |= dict.fromkeys(page)
            except Transient:
                if not left:
                    raise
            else:
                break
        return keys

    async def sample(
        self,
        count: int,
        dice: random.Random,
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Comparison:
        """Compare so many documents, by chance; all, where there are fewer.

        Half of them are taken from the sink, the others where the source has its keys
        in a row from some of those on: the first find what is too much, the second
        what is missing.
        """
        held = await self._sink.count(self._generation)
        if held <= count and await self._boundary(None, count + 1) is None:
            return await self.run(progress=progress)
        of = min(max(1, held // count), PARTS_MAX)
        keys: list[Parts] = []
        async for page in self.stored(Part(dice.randrange(of), of)):
            keys += page
            if len(keys) >= count // 2:
                break
        found, seen = Comparison(), _Seen()
        keys = dice.sample(keys, min(len(keys), count // 2))
        starts: list[Parts | None] = [*await self.possible(keys[:_STARTS])] or [None]
        suspects = dict.fromkeys(keys)
        found.checked, most = len(keys), -(-(count - len(keys)) // len(starts))

        async def look(lower: Parts | None, most: int) -> Parts | None:
            upper = await self._boundary(lower, min(most, count - found.checked))
            suspects.update(dict.fromkeys(await self._range(lower, upper, seen)))
            found.checked = seen.count + sum(key not in seen for key in keys)
            progress(found.checked)
            return upper

        for start in starts:
            if found.checked < count:
                await look(start, most)
        # These may have overlapped: what is lacking is taken from the first key on.
        upper: Parts | None = None
        while found.checked < count:
            upper = await look(upper, count)
            if upper is None:
                break
        await self._settle(list(suspects), found)
        found.foreign = list(self._foreign)
        return found

    async def span(
        self, lower: Parts | None, count: int
    ) -> tuple[Comparison, Parts | None]:
        """Compare the next `count` documents of the source above a key; and where to
        go on, None after the last."""
        found, seen = Comparison(), _Seen()
        upper = await self._boundary(lower, count)
        await self._settle(await self._range(lower, upper, seen), found)
        found.checked = seen.count
        return found, upper

    async def keys(self, keys: Iterable[Parts]) -> Comparison:
        """Compare the documents of these keys alone."""
        found = Comparison()
        suspects = list(keys)
        found.checked = len(suspects)
        await self._settle(suspects, found)
        return found

    async def stored(
        self, part: Part = WHOLE, *, unless: _Seen | None = None
    ) -> AsyncGenerator[list[Parts], None]:
        """The keys of the documents that the sink has, in pages."""
        shape = self._generation.target.shape
        key = shape.key
        parse = partial(named_key, columns=len(key), nullable=shape.key_nullable)
        digests: set[str] = set()
        async for page in self._sink.scan(self._generation, documents=False, part=part):
            texts = [s.key for s in page if unless is None or not unless.has(s.key)]
            digests.update(text for text in texts if text.startswith(DIGEST_PREFIX))
            named = {text: parse(text) for text in texts if text not in digests}
            self._foreign |= dict.fromkeys(t for t in named if named[t] is None)
            yield [parts for parts in named.values() if parts is not None]
        if not digests:
            return
        # These texts cannot be taken apart, but the columns are in the documents.
        async for page in self._sink.scan(self._generation, documents=True, part=part):
            keys = {
                stored.key: key_of(stored.document, key)
                for stored in page
                if stored.key in digests and stored.document is not None
            }
            self._foreign |= dict.fromkeys(t for t in keys if key_text(keys[t]) != t)
            yield [parts for text, parts in keys.items() if key_text(parts) == text]

    async def _boundary(self, lower: Parts | None, count: int) -> Parts | None:
        return await range_end(self._source, self._plan, lower, count)

    async def _range(
        self, lower: Parts | None, upper: Parts | None, seen: _Seen
    ) -> list[Parts]:
        """The keys in a range of the source whose documents are others in the sink."""
        try:
            keys, unequal = await self._unequal(lower, upper)
        except QueryFailed:
            # Some document of the range cannot be made: each key is looked at.
            keys = unequal = await self._each(lower, upper)
        seen.add(keys)
        return unequal

    async def _unequal(
        self, lower: Parts | None, upper: Parts | None
    ) -> tuple[list[Parts], list[Parts]]:
        """All keys of a range, and those that have another document in the sink."""
        verbatim = self._verbatim
        keys: list[Parts] = []
        unequal: list[Parts] = []
        async with self._source.read(scanning=True) as reader:
            look = reader.digests if verbatim else reader.scan
            made = look(self._plan, lower, upper)
            pages = cast(AsyncGenerator[Sequence[Row | Digest], None], made)
            async with aclosing(pages):
                async for page in pages:
                    for at in range(0, len(page), _PAGE_KEYS):
                        rows = page[at : at + _PAGE_KEYS]
                        keys += [row.parts for row in rows]
                        unequal += await self._differing(rows)
        if verbatim and len(unequal) * 2 > len(keys):
            self._verbatim = False  # or as good as all of it is wrong
            return await self._unequal(lower, upper)
        return keys, unequal

    async def _differing(self, rows: Sequence[Row | Digest]) -> list[Parts]:
        found = await self._sink.read(self._generation, [row.parts for row in rows])
        unequal = []
        for row in rows:
            stored = found.get(key_text(row.parts))
            if isinstance(row, Row):
                same = self._equal(row.document, stored)
            else:
                document = None if stored is None else stored.document
                same = document is not None and digest(document) == row.digest
            if not same:
                unequal.append(row.parts)
        return unequal

    async def _each(self, lower: Parts | None, upper: Parts | None) -> list[Parts]:
        async with self._source.read(scanning=True) as reader:
            return await keys_of_range(reader, self._plan, lower, upper)

    def _equal(self, expected: bytes | None, stored: Stored | None) -> bool:
        document = None if stored is None else stored.document
        if expected is None or document is None:
            return expected is document
        return self._sink.same(self._generation.target, expected, document)

    async def _settle(self, suspects: list[Parts], found: Comparison) -> None:
        for at in range(0, len(suspects), _PAGE_KEYS):
            left = suspects[at : at + _PAGE_KEYS]
            absent: dict[Parts, int] = {}
            for _ in range(_ATTEMPTS):
                if not left:
                    break
                left = await self._look(left, absent, found)
            found.unsettled += left

    async def _look(
        self, suspects: list[Parts], absent: dict[Parts, int], found: Comparison
    ) -> list[Parts]:
        """Settle what can be settled; those that were written meanwhile come back."""
        before = await self._sink.read(self._generation, suspects)
        async with self._source.read(scanning=True) as reader:
            end = reader.insert_lsn
        # What the sink has from the log may not be visible yet.
        await self._applied(end)
        expected = await self._expected(suspects)
        await self._applied(expected.seen_lsn)
        after = await self._sink.read(self._generation, suspects)
        again: list[Parts] = []
        for parts in suspects:
            text = key_text(parts)
            want, have = expected.documents.get(parts), after.get(text)
            if parts in expected.failed or self._equal(want, have):
                continue
            if parts in expected.unfit and not is_issued(_version(have)):
                self._foreign[text] = None
                continue
            if _version(before.get(text)) != _version(have):
                absent.pop(parts, None)
                again.append(parts)
            elif want is None:
                found.extra.append(parts)
            elif have is None or have.document is None:
                absent[parts] = absent.get(parts, 0) + 1
                if have is None and absent[parts] < _ABSENT_LOOKS:
                    again.append(parts)
                else:
                    found.missing.append(parts)
            else:
                names = self._names(want, have.document)
                found.different[parts] = Difference(text, names)
        return again

    async def possible(self, keys: Iterable[Parts]) -> list[Parts]:
        """Those that the view can have: a name that somebody else gave to a document
        may be no value of the key's type."""
        keys = list(keys)
        async with self._source.read(scanning=True) as reader:
            unfit = await reader.unfit(self._plan.cast_sql, keys)
        return [parts for parts in keys if parts not in unfit]

    async def _expected(self, keys: list[Parts]) -> _Expected:
        """What the source has of these keys."""
        unfit = set[Parts]()
        async with self._source.read(scanning=True) as reader:
            try:
                rows, failures = await reader.documents(self._plan, keys)
            except QueryFailed:
                rows = None
        if rows is None:
            async with self._source.read(scanning=True) as reader:
                unfit = await reader.unfit(self._plan.cast_sql, keys)
                fit = [parts for parts in keys if parts not in unfit]
                rows, failures = await reader.documents(self._plan, fit, careful=True)
        failed = {failure.parts for failure in failures}
        expected: dict[Parts, bytes] = {}
        for row in rows:
            if row.parts in expected:  # not unique
                failed.add(row.parts)
            expected[row.parts] = row.document
        return _Expected(expected, failed, unfit, reader.insert_lsn)

    def _names(self, expected: bytes, stored: bytes) -> tuple[str, ...]:
        """The names of the members in which two documents differ for the sink."""
        want, have = dict(fields(expected)), dict(fields(stored))
        names = [n for n in (*want, *have) if want.get(n) != have.get(n)]
        target = self._generation.target
        told = [
            name
            for name in dict.fromkeys(names)
            if not self._sink.same(target, _only(name, want), _only(name, have))
        ]
        return tuple(name[1:-1].decode() for name in told or dict.fromkeys(names))


class _Seen:
    """Keys of the source, as little of each as tells them apart."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._hashes)

    def add(self, keys: Iterable[Parts]) -> None:
        """These are among them."""
        self._hashes.update(hash(key_text(parts)) & _HASH_MASK for parts in keys)

    def has(self, text: str) -> bool:
        """Whether this is one of them."""
        return hash(text) & _HASH_MASK in self._hashes

    def __contains__(self, parts: Parts) -> bool:
        return self.has(key_text(parts))


def keeps_documents(config: Config, sink: str, options: Mapping[str, Any]) -> bool:
    """Whether anything is kept of a target, of these options, that can be compared."""
    return config.sinks[sink].type != "null" and options.get("encoding") != "none"


def digest(document: bytes) -> bytes:
    """As `SnapshotReader.digests` gives it of the same document."""
    return sha256(document).digest()[:16]


def _only(name: bytes, members: dict[bytes, bytes]) -> bytes:
    """The document with no other member."""
    value = members.get(name)
    return b"{}" if value is None else b"{%s:%s}" % (name, value)


def _version(stored: Stored | None) -> int:
    return 0 if stored is None else stored.version
