"""The stage between capture and the lanes for all that is read back from Postgres.

Batches that wait are taken together: their keys coalesce, so that under load a key
changed a thousand times is read once, and when idle a batch is derived at once.

The keys of a batch that touches very many (one row in a hundred thousand documents)
are *spread*: derived in pieces, between whatever comes later, as fast as the lanes are
calm; only those that the log itself names are derived at once. Nothing of its batches
counts as derived before all of it is.

The one thing to know: everything derived here is tagged with the position up to which
the gate has let the snapshot pass. It contains every commit up to there, and perhaps
later ones, whose own events will bring them again. So the order in which batches are
derived does not matter, and a later one may overtake a spread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Protocol

from bridge import probes
from bridge.changes import Value
from bridge.derive.documents import derive
from bridge.derive.keyset import KeySet
from bridge.derive.view import ViewPlan
from bridge.errors import Transient, ViewHalt
from bridge.gate import Gate
from bridge.keys import Parts
from bridge.ledger import Entry, Ledger
from bridge.operations import Operation, Rejection
from bridge.position import Position
from bridge.source import QueryFailed, SnapshotReader, Source, StatementRefused

_RETRY_FIRST_S, _RETRY_MAX_S = 0.1, 5.0
_LOOK_S = 0.01
_MERGED_KEYS = 10_000


@dataclass(slots=True)
class Work:
    """What one batch leaves to be read: keys, and images that keys are found by."""

    entry: Entry
    lsn: int
    """Read for this position: the end of the batch, or of its huge transaction."""
    keys: Mapping[str, Iterable[Parts]] = field(default_factory=dict)
    images: Mapping[tuple[str, int], Sequence[tuple[Value, ...]]] = field(
        default_factory=dict
    )
    null_keys: Iterable[str] = ()


class Put(Protocol):
    """Where derived operations go: `FanOut.put`."""

    def __call__(
        self, view: str, operations: Sequence[Operation], claim: Entry, lsn: int, /
    ) -> None:
        """Take what was derived up to `lsn`."""


class Reject(Protocol):
    """Where keys go whose document cannot be made."""

    async def __call__(
        self, view: str, refused: Sequence[tuple[Parts, Rejection]], version: int, /
    ) -> None:
        """Record these durably."""


class Sweep(Protocol):
    """What has every document of a view derived again."""

    def __call__(self, view: str, lsn: int, entry: Entry, /) -> None:
        """For a batch up to `lsn`, which is not kept before that is done."""


class Cost(Protocol):
    """Who is told what deriving costs."""

    def found(self, view: str, keys: int, /) -> None:
        """A batch touches so many keys of the view."""

    def derived(self, view: str, keys: int, seconds: float, /) -> None:
        """The documents of so many keys were read."""

    def spread(self, keys: int, /) -> None:
        """So many keys are still to be derived of batches that touched many."""


@dataclass(frozen=True, slots=True)
class DeriveLimits:
    """Bounds of deriving, in keys but for the last, in batches."""

    keys_max: int = 2000
    """Read by one statement."""
    memory_keys_max: int = 50_000
    """Of one spread and view; more are on disk."""
    at_once_max: int = 4000
    """Of one batch and view; more are spread."""
    spread_keys_max: int = 20_000_000
    """Of a spread that waits for another; with more, no later batch is taken."""
    backlog_max: int = 16


class _Spread:
    """What is left of batches that touch many keys."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        """Of its batches; what else they held is in its keys."""
        self.keys: dict[str, KeySet] = {}
        self.seen = 0
        """The most log that a read for them has seen."""
        self._pieces: Iterator[tuple[str, list[Parts]]] | None = None
        self._piece: tuple[str, list[Parts]] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.keys.values()))

    def add(
        self, entries: Iterable[Entry], keys: Mapping[str, KeySet], seen: int
    ) -> None:
        """More batches, before any piece was taken."""
        self.entries += entries
        self.seen = max(self.seen, seen)
        for view, more in keys.items():
            there = self.keys.setdefault(view, more)
            if there is not more:
                for piece in more.pieces(_MERGED_KEYS):
                    there.add(piece)

    def piece(self, size: int) -> tuple[str, list[Parts]] | None:
        """A view and the keys of it that are next, until `done`; None: all are."""
        if self._pieces is None:
            self._pieces = (
                (view, piece)
                for view, keys in self.keys.items()
                for piece in keys.pieces(size)
            )
        if self._piece is None:
            self._piece = next(self._pieces, None)
        return self._piece

    def done(self, seen: int) -> None:
        """The piece was derived, by a read that has seen so much log."""
        self.seen = max(self.seen, seen)
        self._piece = None


class _Act(Protocol):
    """Something to be done, once more and `careful` where a query fails."""

    def __call__(self, *, careful: bool) -> Awaitable[None]:
        """Do it."""


class Deriver:
    """Derives what it is given, in order but for what is spread."""

    def __init__(
        self,
        *,
        epoch: int,
        source: Source,
        gate: Gate,
        ledger: Ledger,
        plans: Mapping[str, ViewPlan],
        put: Put,
        reads: Callable[[str, Sequence[Parts], int], None],
        sweep: Sweep,
        reject: Reject,
        room: Callable[[], Awaitable[None]],
        full: Callable[[], bool],
        calm: Callable[[], bool],
        cost: Cost,
        limits: DeriveLimits,
    ) -> None:
        """`room` waits until what is put finds room, `full` tells whether it would;
        `calm`, whether so little waits that a piece of a spread holds up nobody.

        `reads` is told which keys of a view are about to be read, and the end of the
        log that their snapshot has seen.
        """
        self._epoch = epoch
        self._source = source
        self._gate = gate
        self._ledger = ledger
        self._plans = plans
        self._put = put
        self._reads = reads
        self._sweep = sweep
        self._reject = reject
        self._room = room
        self._full = full
        self._calm = calm
        self._cost = cost
        self._limits = limits
        self._waiting: list[Work] = []
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()
        self._deriving: asyncio.Task[None] | None = None
        self._lsn = 0
        self._spread: _Spread | None = None
        self._next: _Spread | None = None
        """What came while one is being derived: equal keys of it are derived once."""

    async def take(self, work: Work) -> None:
        """Have this derived; waits while too much is waiting already."""
        self._waiting.append(work)
        self._arrived.set()
        if len(self._waiting) >= self._limits.backlog_max:
            self._taken.clear()
            await self._taken.wait()

    def forget(self) -> None:
        """The stream starts again: what waits or is being derived comes back.

        Nothing of it is put from now on: its entries count for nothing any more.
        """
        self._waiting.clear()
        self._taken.set()
        self._spread = self._next = None
        self._lsn = 0
        if self._deriving is not None:
            self._deriving.cancel()

    async def run(self) -> None:
        """Derive until cancelled. Halt stops it, Transient is tried again."""
        while True:
            await self._something()
            self._arrived.clear()
            if self._takes():
                works, self._waiting = self._waiting, []
                self._taken.set()
                if works:
                    await self._forgettably(partial(self._derive, works))
            if self._spread is not None and self._calm():
                await self._forgettably(partial(self._derive_piece, self._spread))

    def _takes(self) -> bool:
        """Whether later batches may overtake what is spread."""
        return self._next is None or len(self._next) < self._limits.spread_keys_max

    async def _something(self) -> None:
        """Wait until there is something to do."""
        if self._waiting and self._takes():
            return
        if self._spread is None:
            await self._arrived.wait()
        elif not self._calm():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._arrived.wait()

    async def _forgettably(self, act: _Act) -> None:
        """Do this, unless the stream starts again meanwhile."""
        task = self._deriving = asyncio.create_task(self._patiently(act))
        try:
            await asyncio.wait({task})
        finally:
            self._deriving = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _patiently(self, act: _Act) -> None:
        delay, careful = _RETRY_FIRST_S, False
        while True:
            try:
                await act(careful=careful)
            except QueryFailed:
                assert not careful
                careful = True
            except Transient:
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_MAX_S)
            else:
                return

    async def _derive(self, works: list[Work], *, careful: bool) -> None:
        lsn = max(work.lsn for work in works)
        # All operations are claimed by the oldest entry: none before it is closed.
        claim = works[0].entry
        many: dict[str, KeySet] = {}
        lost: set[str] = set()
        pieces: deque[tuple[ViewPlan, list[Parts]]] | None = None
        while pieces is None or pieces:
            # With a snapshot open, nobody waits for a sink: it would hold back vacuum.
            await self._room()
            async with self._gate.open(self._source.read, lsn) as reader:
                if pieces is None:
                    pieces, many, lost = await self._find(
                        reader, works, careful=careful
                    )
                while pieces and not self._full():
                    plan, keys = pieces.popleft()
                    await self._documents(
                        reader, plan, keys, lsn, claim, careful=careful
                    )
        self._lsn = max(self._lsn, lsn)
        for work in works:
            for view in lost.intersection(name for name, _ in work.images):
                self._sweep(view, work.lsn, work.entry)
        if many:
            self._spread_out(works, many, reader.insert_lsn)
            return
        for work in works:
            self._ledger.derived(work.entry, reader.insert_lsn)

    async def _find(
        self, reader: SnapshotReader, works: list[Work], *, careful: bool
    ) -> tuple[deque[tuple[ViewPlan, list[Parts]]], dict[str, KeySet], set[str]]:
        """The keys that the works touch: in pieces, those that are derived before
        anything else; by view those of which there are too many for that; and views of
        which the works do not tell all keys any more."""
        limits = self._limits
        lost: set[str] = set()
        pieces: deque[tuple[ViewPlan, list[Parts]]] = deque()
        many: dict[str, KeySet] = {}
        for view in _views(works):
            plan = self._plans.get(view)
            if plan is None:
                continue  # taken out of the configuration meanwhile
            named, led = await self._keys(reader, plan, works, lost, careful=careful)
            await probes.reach("derive.keys")
            self._cost.found(view, len(named) + len(led))
            now = list(named)
            if len(named) + len(led) > limits.at_once_max:
                many[view] = led
            else:
                now += chain.from_iterable(led.pieces(limits.keys_max))
            for at in range(0, len(now), limits.keys_max):
                pieces.append((plan, now[at : at + limits.keys_max]))
        return pieces, many, lost

    def _spread_out(
        self, works: list[Work], keys: Mapping[str, KeySet], seen: int
    ) -> None:
        if self._spread is None:
            spread = self._spread = _Spread()
        else:
            spread = self._next = self._next or _Spread()
        spread.add((work.entry for work in works), keys, seen)
        self._tell()

    async def _derive_piece(self, spread: _Spread, *, careful: bool) -> None:
        """The next keys of what is spread, at the position of whatever came last."""
        piece = spread.piece(self._limits.keys_max)
        if piece is None:
            for entry in spread.entries:
                self._ledger.derived(entry, spread.seen)
            self._spread, self._next = self._next, None
            self._tell()
            return
        view, keys = piece
        plan = self._plans.get(view)
        if plan is None:
            spread.done(0)
            return
        await self._room()
        async with self._gate.open(self._source.read, self._lsn) as reader:
            claim = spread.entries[0]
            await self._documents(reader, plan, keys, self._lsn, claim, careful=careful)
        await probes.reach("derive.piece")
        spread.done(reader.insert_lsn)
        self._tell()

    def _tell(self) -> None:
        both = [spread for spread in (self._spread, self._next) if spread is not None]
        self._cost.spread(sum(map(len, both)))

    async def _documents(
        self,
        reader: SnapshotReader,
        plan: ViewPlan,
        keys: Sequence[Parts],
        lsn: int,
        claim: Entry,
        *,
        careful: bool,
    ) -> None:
        began = perf_counter()
        version = Position(self._epoch, lsn).version
        self._reads(plan.name, keys, reader.insert_lsn)
        derived = await derive(reader, plan, keys, version, careful=careful)
        self._cost.derived(plan.name, len(keys), perf_counter() - began)
        await probes.reach("derive.documents")
        if derived.rejections:
            await self._reject(plan.name, derived.rejections, version)
        self._put(plan.name, derived.operations, claim, lsn)

    async def _keys(
        self,
        reader: SnapshotReader,
        plan: ViewPlan,
        works: list[Work],
        lost: set[str],
        *,
        careful: bool,
    ) -> tuple[dict[Parts, None], KeySet]:
        """The keys of one view that the log itself names, and all others that the
        works touch. Where too many are named, all are among the others.

        A value that its column's type does not have any more is of a row from before
        the type was altered: to which keys it led, nobody can tell, and the view is
        among the `lost`.
        """
        view = plan.name
        named: dict[Parts, None] = {}
        led = KeySet(self._limits.memory_keys_max)
        images: dict[int, dict[tuple[Value, ...], None]] = {}
        for work in works:
            named.update(dict.fromkeys(work.keys.get(view, ())))
            if len(named) > self._limits.at_once_max:
                led.add(named)
                named = {}
            for (name, index), rows in work.images.items():
                if name == view:
                    images.setdefault(index, {}).update(dict.fromkeys(rows))
            if view in work.null_keys:
                named[(None,) * len(plan.shape.key)] = None
        for index, changed in images.items():
            query, rows = plan.key_queries[index], list(changed)
            try:
                if careful and (unfit := await reader.unfit(query.cast_sql, rows)):
                    lost.add(view)
                    rows = [row for row in rows if row not in unfit]
                async for page in reader.keys(query, rows):
                    led.add(key for key in page if key not in named)
            except StatementRefused as refused:
                raise refused.of(view) from refused
            except QueryFailed as error:
                if not careful:
                    raise
                raise ViewHalt(
                    view,
                    f"a key query fails: {error}",
                    hint="`pgbridge explain` shows the key queries of the views",
                ) from error
        return named, led


def _views(works: list[Work]) -> list[str]:
    views: dict[str, None] = {}
    for work in works:
        views.update(dict.fromkeys(work.keys))
        views.update(dict.fromkeys(name for name, _ in work.images))
        views.update(dict.fromkeys(work.null_keys))
    return list(views)
