"""From a view's operations to the lanes of all its generations.

The one thing to know: whatever is derived for a view goes through here, so that this
is where a chunk of a backfill learns which keys the stream has overtaken it on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from bridge.deliver import Lane
from bridge.feed import Claim
from bridge.keys import Parts
from bridge.ledger import Ledger
from bridge.operations import Operation
from bridge.sink import Generation


class Outlet(NamedTuple):
    """One generation and the lane that writes it."""

    lane: Lane
    generation: Generation


class FanOut:
    """The generations that each view feeds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._outlets: dict[str, list[Outlet]] = {}
        self._watches: dict[str, list[set[str]]] = {}

    def add(self, lane: Lane, generation: Generation) -> None:
        """From now on this generation is fed by its view."""
        outlets = self._outlets.setdefault(generation.target.view, [])
        if all(outlet.generation != generation for outlet in outlets):
            lane.add(generation)
            outlets.append(Outlet(lane, generation))

    def remove(self, generation: Generation) -> None:
        """The generation is fed no more."""
        outlets = self._outlets.get(generation.target.view, [])
        for outlet in [o for o in outlets if o.generation == generation]:
            outlets.remove(outlet)
            outlet.lane.remove(generation)

    def of(self, view: str) -> Sequence[Outlet]:
        """The generations that the view feeds."""
        return self._outlets.get(view, ())

    def outlets(self) -> Iterator[Outlet]:
        """All generations of all views."""
        for outlets in self._outlets.values():
            yield from outlets

    def outlet(self, generation: Generation) -> Outlet | None:
        """The outlet of a generation that is fed."""
        for outlet in self.of(generation.target.view):
            if outlet.generation == generation:
                return outlet
        return None

    def put(
        self, view: str, operations: Sequence[Operation], claim: Claim, lsn: int
    ) -> None:
        """What the stream derived, up to `lsn`, for every generation of the view."""
        watches = self._watches.get(view)
        if watches:
            keys = [operation.key for operation in operations]
            for watch in watches:
                watch.update(keys)
        for lane, generation in self._outlets.get(view, ()):
            lane.put(generation, operations, claim)
            self._ledger.note(generation, lsn)

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

    def owe(
        self, view: str, keys: Sequence[tuple[str, Parts]], version: int, claim: Claim
    ) -> None:
        """Keys of a view that are to be derived again for all its generations."""
        for lane, generation in self._outlets.get(view, ()):
            lane.owe(generation, keys, version, claim)

    @contextmanager
    def watch(self, view: str) -> Iterator[set[str]]:
        """The keys that the stream puts into the lanes from now on, as they come."""
        keys: set[str] = set()
        watches = self._watches.setdefault(view, [])
        watches.append(keys)
        try:
            yield keys
        finally:
            # By identity: two watches may hold the same keys.
            watches[:] = [watch for watch in watches if watch is not keys]

    async def room(self) -> None:
        """Wait until every lane takes documents, or is too slow to be waited for."""
        for lane in {id(o.lane): o.lane for o in self.outlets()}.values():
            await lane.room()
