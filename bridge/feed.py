"""What waits for one generation: operations and owed keys, one slot a key.

Of two operations waiting for one key the higher version stays, of equal ones the
later derived. Keys under way are left waiting until their outcome is known.

The one thing to know: each slot has one *claim*, told once when the slot's operation
was kept. An operation that takes another's place answers for it too, so that the
slot keeps the claim that would bring the key back after a crash: the older entry of
the stream before a newer one, any entry before a job's ticket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from bridge.keys import Parts
from bridge.ledger import Entry, Ledger, Ticket
from bridge.operations import Operation
from bridge.sink import Generation

Claim = Entry | Ticket
"""Who is told when an operation was kept."""
OPERATION_OVERHEAD_BYTES = 450
"""What an operation costs in memory and on the wire besides its document."""


class Owed(NamedTuple):
    """A key to be derived again: the highest version that asked, and for whom."""

    parts: Parts
    version: int
    claim: Claim


def size_of(operation: Operation) -> int:
    """Bytes that an operation is counted with."""
    document = operation.document
    return OPERATION_OVERHEAD_BYTES + (len(document) if document else 0)


class Feed:
    """The waiting, flying and owed keys of one generation."""

    def __init__(self, generation: Generation, ledger: Ledger) -> None:
        self.generation = generation
        self.waiting: dict[str, tuple[Operation, Claim]] = {}
        self.flying: dict[str, int] = {}
        """Keys under way and the version of each."""
        self.owed: dict[str, Owed] = {}
        self.recording: dict[str, Owed] = {}
        """Debts being recorded elsewhere; released once that is durable."""
        self.dead: dict[str, int] = {}
        """Keys with a dead letter, and its version: the letter is cleared when one that
        is not below that is kept."""
        self.bytes = 0
        self.served = 0
        """When the lane has last taken of it, in turns."""
        self._ledger = ledger

    def put(self, operations: Iterable[Operation], claim: Claim, *, full: bool) -> None:
        """Take operations of distinct keys; when `full`, only owe those not waiting."""
        waiting, owed = self.waiting, self.owed
        added = grown = 0
        for operation in operations:
            key = operation.key
            there = waiting.get(key)
            if there is not None:
                self._replace(there, operation, claim)
                continue
            if owed and key in owed:
                debt = owed[key]
                if full or debt.version > operation.version:
                    self._owe_more(key, debt, operation.version, claim)
                    if full:
                        continue
                    # Older than what is owed: goes out, and the debt stays.
                else:
                    del owed[key]
                    waiting[key] = (operation, self._merge(debt.claim, claim))
                    grown += size_of(operation)
                    continue
            elif full:
                owed[key] = Owed(operation.parts, operation.version, claim)
                added += 1
                continue
            waiting[key] = (operation, claim)
            document = operation.document
            grown += OPERATION_OVERHEAD_BYTES + (len(document) if document else 0)
            added += 1
        if added:
            self._hold(claim, added)
        self.bytes += grown

    def owe(
        self, keys: Iterable[tuple[str, Parts]], version: int, claim: Claim
    ) -> None:
        """These keys are to be derived again, at `version` or above."""
        added = 0
        for key, parts in keys:
            debt = self.owed.get(key)
            if debt is None:
                self.owed[key] = Owed(parts, version, claim)
                added += 1
            else:
                self._owe_more(key, debt, version, claim)
        if added:
            self._hold(claim, added)

    @property
    def may_be_taken(self) -> bool:
        """Whether anything waits whose key is not under way."""
        waiting, flying = self.waiting, self.flying
        if len(waiting) > len(flying):
            return True
        return bool(waiting) and not waiting.keys() <= flying.keys()

    def take(
        self, count_max: int, bytes_max: int
    ) -> tuple[list[Operation], list[Claim]]:
        """The operations that waited longest, of keys not under way; now they are."""
        keys = list(islice(self.waiting, count_max))
        flying = self.flying
        if flying and not flying.keys().isdisjoint(keys):
            free = (key for key in self.waiting if key not in flying)
            keys = list(islice(free, count_max))
        operations: list[Operation] = []
        claims: list[Claim] = []
        size = 0
        pop = self.waiting.pop
        for key in keys:
            operation, claim = pop(key)
            operations.append(operation)
            claims.append(claim)
            _, _, flying[key], document = operation
            size += OPERATION_OVERHEAD_BYTES + (len(document) if document else 0)
            if size >= bytes_max:
                break
        self.bytes -= size
        return operations, claims

    def landed(self, operations: Iterable[Operation]) -> None:
        """The outcome of these is known, or they are given up: their keys are free."""
        flying = self.flying
        for operation in operations:
            flying.pop(operation[0], None)

    def has_older(self, version: int) -> bool:
        """Whether anything older than that is still to arrive in the sink."""
        return any(o.version < version for o, _ in self.waiting.values()) or any(
            sent < version for sent in self.flying.values()
        )

    def release(self, claim: Claim, count: int) -> None:
        """`count` operations of the claim were kept."""
        if isinstance(claim, Entry):
            self._ledger.release(claim, self.generation, count)
        else:
            claim.release(count)

    def clear(self) -> None:
        """Drop all that waits or is owed: the stream brings its own part again."""
        dropped = [claim for _, claim in self.waiting.values()]
        dropped += [debt.claim for debt in self.owed.values()]
        self.waiting.clear()
        self.owed.clear()
        self.recording.clear()
        self.bytes = 0
        drop(dropped)

    def retire(self) -> None:
        """Owe what waits in place of its documents. Jobs have to do theirs again."""
        jobs = [k for k, debt in self.owed.items() if isinstance(debt.claim, Ticket)]
        drop([self.owed.pop(key).claim for key in jobs])
        waiting, self.waiting, self.bytes = self.waiting, {}, 0
        for operation, claim in waiting.values():
            self.owe_back(operation, claim)

    def owe_back(self, operation: Operation, claim: Claim) -> None:
        """Owe the key of an operation that was taken and is given up; the claim that
        it had goes to the debt."""
        if isinstance(claim, Ticket):
            claim.drop()
            return
        debt = self.owed.get(operation.key)
        version = operation.version
        if debt is not None:
            # Both are held: the older stays, since it is what brings the key back.
            version = max(version, debt.version)
            newer = debt.claim
            if isinstance(newer, Entry) and newer.lsn <= claim.lsn:
                claim, newer = newer, claim
            self.release(newer, 1)
        self.owed[operation.key] = Owed(operation.parts, version, claim)

    def settle(self, keys: Iterable[str], version: int) -> None:
        """These keys were derived at `version`, and have no document to be written:
        what is owed of them up to there is answered for."""
        for key in keys:
            debt = self.owed.get(key)
            if debt is not None and debt.version <= version:
                del self.owed[key]
                self.release(debt.claim, 1)

    def record(self, count_max: int) -> dict[str, Owed]:
        """Debts to be recorded elsewhere: those that could not be before, or others.

        What is owed from now on is a debt of its own. Jobs are told to do theirs again.
        """
        for key in list(islice(self.owed, count_max - len(self.recording))):
            debt = self.owed.pop(key)
            if isinstance(debt.claim, Ticket):
                debt.claim.drop()
            elif key in self.recording:
                self.owed[key] = debt  # next time
            else:
                self.recording[key] = debt
        return self.recording

    def recorded(self) -> None:
        """What was given by `record` is durable elsewhere."""
        recording, self.recording = self.recording, {}
        for claim, count in Counter(d.claim for d in recording.values()).items():
            self.release(claim, count)

    def _replace(
        self, there: tuple[Operation, Claim], operation: Operation, claim: Claim
    ) -> None:
        old, older = there
        winner = operation if operation.version >= old.version else old
        self.waiting[operation.key] = (winner, self._merge(older, claim))
        self.bytes += size_of(winner) - size_of(old)

    def _owe_more(self, key: str, debt: Owed, version: int, claim: Claim) -> None:
        merged = self._merge(debt.claim, claim)
        self.owed[key] = Owed(debt.parts, max(version, debt.version), merged)

    def _merge(self, older: Claim, claim: Claim) -> Claim:
        """One claim in place of two on a slot; see the module's first lines."""
        if older is claim or isinstance(older, Entry):
            return older
        if isinstance(claim, Entry):
            self._hold(claim, 1)
            older.release(1)
            return claim
        claim.hold(1)
        first, second = older, claim

        def both() -> None:
            first.release(1)
            second.release(1)

        def neither() -> None:
            first.drop()
            second.drop()

        pair = Ticket(both, neither)
        pair.hold(1)
        return pair

    def _hold(self, claim: Claim, count: int) -> None:
        if isinstance(claim, Entry):
            self._ledger.hold(claim, self.generation, count)
            self._ledger.note(self.generation, claim.lsn)
        else:
            claim.hold(count)


def drop(claims: Iterable[Claim]) -> None:
    """Operations of these claims will not be sent: jobs have to do them again."""
    for claim in claims:
        if isinstance(claim, Ticket):
            claim.drop()
