"""Deriving: from the keys of a batch to documents, in a snapshot that may be read.

Batches that wait are taken together: their keys coalesce, so that under load a key
changed a thousand times is read once, and when idle a batch is derived at once.

The one thing to know: everything derived here is tagged with the position up to which
the gate has let the snapshot pass. It contains every commit up to there, and perhaps
later ones, whose own events will bring them again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bridge import probes
from bridge.changes import Value
from bridge.derive.view import ViewPlan
from bridge.errors import Transient, ViewHalt
from bridge.gate import Gate
from bridge.keys import Parts, key_text
from bridge.ledger import Entry, Ledger
from bridge.operations import Operation, Rejection
from bridge.position import Position
from bridge.source import QueryFailed, SnapshotReader, Source, StatementRefused

NOT_UNIQUE = "key not unique: the query gives more than one row for it"
_RETRY_FIRST_S, _RETRY_MAX_S = 0.1, 5.0


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


class Derived(NamedTuple):
    """Documents of some keys, and those that cannot be made."""

    operations: list[Operation]
    rejections: list[tuple[Parts, Rejection]]


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


async def derive(
    reader: SnapshotReader,
    plan: ViewPlan,
    keys: Sequence[Parts],
    version: int,
    *,
    careful: bool = False,
) -> Derived:
    """The operations that make these keys be what the snapshot shows.

    A key without a row is a delete; one with two rows, or for which the query fails
    (only with `careful`, else QueryFailed), is rejected.
    """
    try:
        rows, failures = await reader.documents(plan, keys, careful=careful)
    except StatementRefused as refused:
        raise refused.of(plan.name) from refused
    found: dict[Parts, Operation] = {}
    rejected: dict[Parts, str] = {f.parts: f.reason for f in failures}
    for parts, document in rows:
        if parts in found:
            rejected[parts] = NOT_UNIQUE
        found[parts] = Operation(key_text(parts), parts, version, document)
    for parts in rejected:
        found.pop(parts, None)
    operations = list(found.values())
    if len(found) + len(rejected) < len(keys):
        operations += [
            Operation(key_text(parts), parts, version, None)
            for parts in keys
            if parts not in found and parts not in rejected
        ]
    return Derived(
        operations,
        [(parts, Rejection(key_text(parts), why)) for parts, why in rejected.items()],
    )


class Deriver:
    """The stage between capture and the lanes for all that is read back."""

    def __init__(
        self,
        *,
        epoch: int,
        source: Source,
        gate: Gate,
        ledger: Ledger,
        plans: Mapping[str, ViewPlan],
        put: Put,
        reads: Callable[[str, list[Parts], int], None],
        reject: Reject,
        room: Callable[[], Awaitable[None]],
        full: Callable[[], bool],
        keys_max: int = 2000,
        backlog_max: int = 16,
    ) -> None:
        """`room` waits until what is put finds room, `full` tells whether it would.

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
        self._reject = reject
        self._room = room
        self._full = full
        self._keys_max = keys_max
        self._backlog_max = backlog_max
        self._waiting: list[Work] = []
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()
        self._deriving: asyncio.Task[None] | None = None

    async def take(self, work: Work) -> None:
        """Have this derived; waits while too much is waiting already."""
        self._waiting.append(work)
        self._arrived.set()
        if len(self._waiting) >= self._backlog_max:
            self._taken.clear()
            await self._taken.wait()

    def forget(self) -> None:
        """The stream starts again: what waits or is being derived comes back.

        Nothing of it is put from now on: its entries count for nothing any more.
        """
        self._waiting.clear()
        self._taken.set()
        if self._deriving is not None:
            self._deriving.cancel()

    async def run(self) -> None:
        """Derive until cancelled. Halt stops it, Transient is tried again."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            works, self._waiting = self._waiting, []
            self._taken.set()
            if works:
                await self._forgettably(works)

    async def _forgettably(self, works: list[Work]) -> None:
        """Derive these works, unless the stream starts again meanwhile."""
        task = self._deriving = asyncio.create_task(self._patiently(works))
        try:
            await asyncio.wait({task})
        finally:
            self._deriving = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _patiently(self, works: list[Work]) -> None:
        delay, careful = _RETRY_FIRST_S, False
        while True:
            try:
                await self._derive(works, careful=careful)
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
        left: deque[tuple[ViewPlan, list[Parts]]] | None = None
        while left is None or left:
            # With a snapshot open, nobody waits for a sink: it would hold back vacuum.
            await self._room()
            async with self._gate.open(self._source.read, lsn) as reader:
                if left is None:
                    left = await self._parts(reader, works, careful=careful)
                while left and not self._full():
                    plan, keys = left.popleft()
                    # All are claimed by the oldest: none before it is closed.
                    claim = works[0].entry
                    await self._part(reader, plan, keys, claim, lsn, careful=careful)
        for work in works:
            self._ledger.derived(work.entry, reader.insert_lsn)

    async def _parts(
        self, reader: SnapshotReader, works: list[Work], *, careful: bool
    ) -> deque[tuple[ViewPlan, list[Parts]]]:
        """What there is to derive, in parts of which each fits into memory."""
        parts: deque[tuple[ViewPlan, list[Parts]]] = deque()
        for view in _views(works):
            plan = self._plans.get(view)
            if plan is None:
                continue  # taken out of the configuration meanwhile
            keys = await self._keys(reader, plan, works, careful=careful)
            await probes.reach("derive.keys")
            for at in range(0, len(keys), self._keys_max):
                parts.append((plan, keys[at : at + self._keys_max]))
        return parts

    async def _part(
        self,
        reader: SnapshotReader,
        plan: ViewPlan,
        keys: list[Parts],
        claim: Entry,
        lsn: int,
        *,
        careful: bool,
    ) -> None:
        version = Position(self._epoch, lsn).version
        self._reads(plan.name, keys, reader.insert_lsn)
        derived = await derive(reader, plan, keys, version, careful=careful)
        await probes.reach("derive.documents")
        if derived.rejections:
            await self._reject(plan.name, derived.rejections, version)
        self._put(plan.name, derived.operations, claim, lsn)

    async def _keys(
        self,
        reader: SnapshotReader,
        plan: ViewPlan,
        works: list[Work],
        *,
        careful: bool,
    ) -> list[Parts]:
        """All keys of one view that the works touch, each once, in a stable order."""
        view = plan.name
        keys: dict[Parts, None] = {}
        images: dict[int, dict[tuple[Value, ...], None]] = {}
        for work in works:
            keys.update(dict.fromkeys(work.keys.get(view, ())))
            for (name, index), rows in work.images.items():
                if name == view:
                    images.setdefault(index, {}).update(dict.fromkeys(rows))
            if view in work.null_keys:
                keys[(None,) * len(plan.shape.key)] = None
        for index, changed in images.items():
            try:
                found = await reader.keys(plan.key_queries[index], list(changed))
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
            keys.update(dict.fromkeys(found))
        return list(keys)


def _views(works: list[Work]) -> list[str]:
    views: dict[str, None] = {}
    for work in works:
        views.update(dict.fromkeys(work.keys))
        views.update(dict.fromkeys(name for name, _ in work.images))
        views.update(dict.fromkeys(work.null_keys))
    return list(views)
