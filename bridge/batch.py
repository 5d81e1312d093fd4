"""From a view's operations to the lanes of all its generations.

The one thing to know: whatever is derived for a view goes through here, so that this
is where a chunk of a backfill learns which keys the stream has overtaken it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from bridge.deliver import Lane
from bridge.feed import Claim
from bridge.keys import Parts
from bridge.ledger import Ledger
from bridge.operations import Operation
from bridge.sink import Generation

_LOOK_S = 0.2
_SLOWED_MAX_S = 2.0


class Outlet(NamedTuple):
    """One generation and the lane that writes it."""

    lane: Lane
    generation: Generation


class Overtaken(dict[str, int]):
    """Keys that the stream has put since a job began, and the highest version of each.

    What the stream puts at a lower version than the job's has not overtaken it: a sink
    that holds more than that refuses it, and needs what the job has read.
    """

    everything = False
    """A table was emptied: all that was read before is void."""

    def add(self, operations: Iterable[Operation]) -> None:
        """The stream puts these."""
        for key, _, version, _ in operations:
            if self.get(key, 0) < version:
                self[key] = version

    def has(self, key: str, version: int) -> bool:
        """Whether it has put something later of the key than a job did at `version`."""
        return self.get(key, 0) > version

    def left(self, operations: list[Operation]) -> list[Operation]:
        """Those of a job's that the stream has not overtaken."""
        if not self:
            return operations
        return [o for o in operations if not self.has(o.key, o.version)]


class FanOut:
    """The generations that each view feeds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._outlets: dict[str, list[Outlet]] = {}
        self._plans: dict[Generation, str] = {}
        self._watches: dict[str, list[Overtaken]] = {}
        self._since: dict[Generation, tuple[int, int]] = {}
        """In which life of the stream each was added, and where that was then."""

    def add(self, lane: Lane, generation: Generation, plan: str = "") -> None:
        """From now on this generation is fed by the plan of that name (its view's).

        What comes of earlier changes, and is still being read, is not for it: a later
        one that took that away again has gone by already. Its build has both.
        """
        name = self._plans.setdefault(generation, plan or generation.target.view)
        outlets = self._outlets.setdefault(name, [])
        if all(outlet.generation != generation for outlet in outlets):
            lane.add(generation)
            self._since[generation] = self._ledger.era, self._ledger.end
            outlets.append(Outlet(lane, generation))

    def remove(self, generation: Generation) -> None:
        """The generation is fed no more."""
        self._since.pop(generation, None)
        outlets = self._outlets.get(self._plans.pop(generation, ""), [])
        for outlet in [o for o in outlets if o.generation == generation]:
            outlets.remove(outlet)
            outlet.lane.remove(generation)

    def plan(self, generation: Generation) -> str | None:
        """The name of the plan that feeds a generation; None: nothing does."""
        return self._plans.get(generation)

    def of(self, view: str) -> Sequence[Outlet]:
        """The generations that the plan of a view feeds."""
        return self._outlets.get(view, ())

    def outlets(self) -> Iterator[Outlet]:
        """All generations of all views."""
        for outlets in self._outlets.values():
            yield from outlets

    def current(self) -> Iterator[Outlet]:
        """Those that the slot waits for: not of a sink whose debts are recorded."""
        return (outlet for outlet in self.outlets() if not outlet.lane.aside)

    def outlet(self, generation: Generation) -> Outlet | None:
        """The outlet of a generation that is fed."""
        for outlet in self.of(self._plans.get(generation, "")):
            if outlet.generation == generation:
                return outlet
        return None

    def put(
        self, view: str, operations: Sequence[Operation], claim: Claim, lsn: int
    ) -> None:
        """What the stream derived, up to `lsn`, for every generation of the view."""
        for watch in self._watches.get(view, ()):
            watch.add(operations)
        for lane, generation in self._outlets.get(view, ()):
            if not self._is_for(generation, lsn):
                continue
            lane.put(generation, operations, claim)
            self._ledger.note(generation, lsn)

    def _is_for(self, generation: Generation, lsn: int) -> bool:
        """Whether what was derived up to `lsn` was taken in since it was added.

        A stream that has begun again since brings everything in its order.
        """
        era, since = self._since.get(generation, (0, 0))
        return lsn > since or era != self._ledger.era

    def truncated(self, view: str) -> None:
        """A table of the view was emptied: what jobs have read before is void.

        The sweep that follows derives every key again.
        """
        for watch in self._watches.get(view, ()):
            watch.everything = True

    def put_job(
        self,
        generations: Collection[Generation],
        operations: Sequence[Operation],
        claim: Claim,
    ) -> None:
        """What a job derived, for these generations alone, where still fed."""
        for generation in generations:
            outlet = self.outlet(generation)
            if outlet is not None:
                outlet.lane.put(generation, operations, claim)

    def settle(
        self, generations: Collection[Generation], keys: Collection[str], version: int
    ) -> None:
        """What a job has derived at `version` of these keys cannot be a document, and
        that is written down: see `Feed.settle`."""
        for generation in generations:
            outlet = self.outlet(generation)
            if outlet is not None:
                outlet.lane.feeds[generation].settle(keys, version)

    def owe(
        self, view: str, keys: Sequence[tuple[str, Parts]], version: int, claim: Claim
    ) -> None:
        """Keys of a view that are to be derived again for all its generations."""
        for lane, generation in self._outlets.get(view, ()):
            lane.owe(generation, keys, version, claim)

    @contextmanager
    def watch(self, view: str) -> Iterator[Overtaken]:
        """The keys that the stream puts into the lanes from now on, as they come, and
        the highest version of each."""
        keys = Overtaken()
        watches = self._watches.setdefault(view, [])
        watches.append(keys)
        try:
            yield keys
        finally:
            # By identity: two watches may hold the same keys.
            watches[:] = [watch for watch in watches if watch is not keys]

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return any(o.lane.full and not o.lane.owing for o in self.outlets())

    @property
    def calm(self) -> bool:
        """Whether little waits in every lane that could write it."""
        return all(outlet.lane.calm for outlet in self.outlets())

    async def room(self) -> None:
        """Wait until every lane takes documents.

        One that is too slow is not waited for while another could go on: from then on
        it owes keys in place of documents. With all of them full there is nobody to
        hold up, and waiting is cheaper than deriving everything again. Where keys are
        owed more quickly than they are written down, everybody is slowed for a moment,
        and not stopped: to write them down takes the stream.
        """
        lanes = {id(o.lane): o.lane for o in self.outlets()}.values()
        crowding = max((lane.crowding for lane in lanes), default=0.0)
        if crowding > 1.0:
            await asyncio.sleep(min(crowding * _LOOK_S, _SLOWED_MAX_S))
        while True:
            lanes = {id(o.lane): o.lane for o in self.outlets()}.values()
            full = [lane for lane in lanes if lane.full and not lane.owing]
            if not full:
                return
            if any(not lane.full for lane in lanes):
                for lane in full:
                    lane.owing = lane.slow
            await full[0].room(_LOOK_S)
