"""Simulated sinks: writes that take effect late, twice, in part, or get lost.

The one thing to know: the store outlives the processes that write to it, and checks
every write that it keeps against what was true. What was answered for, and so is missed
when the store loses its newest writes, a process knows by a journal in its own memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from bridge.errors import Halt, Transient
from bridge.keys import Parts
from bridge.operations import Operation, Report
from bridge.position import Position
from bridge.sink import WHOLE, Generation, Loss, Owner, Part, Stored, Target
from sinks.redis.journal import Journal
from sinks.redis.losses import Losses

Check = Callable[[Generation, Operation], None]
Shows = Callable[[Generation, Position], None]


@dataclass
class Faults:
    """What goes wrong now: chances from 0 to 1, seconds."""

    away: float = 0.0
    lost_answer: float = 0.0
    late: float = 0.0
    partial: float = 0.0
    latency_s: float = 0.003
    hung_s: float = 0.001
    """How long whoever asks for anything but a write waits for what becomes of it."""
    halted: bool = False
    full: bool = False
    """Out of memory: only what shrinks is taken."""


@dataclass
class Store:
    """What the destination holds."""

    name: str
    dice: random.Random
    check: Check
    may_show: Shows
    """Asked when a position is recorded: whether everything up to there shows."""
    may_send: Callable[[str], None]
    late_s: float = 2.0
    """The longest that a request lives."""
    tombstone_s: float = float("inf")
    """How long a delete is remembered: longer than any request lives."""
    checks_versions: bool = True
    faults: Faults = field(default_factory=Faults)
    places: dict[Generation, dict[str, Stored]] = field(default_factory=dict)
    deleted_s: dict[tuple[Generation, str], float] = field(default_factory=dict)
    recorded: dict[Generation, int] = field(default_factory=dict)
    undo: list[Callable[[], None]] = field(default_factory=list)
    undo_keys: list[tuple[Generation, Parts] | None] = field(default_factory=list)
    missing: dict[Generation, set[Parts]] = field(default_factory=dict)
    """Keys of which the newest writes were lost, and that were not written since."""
    mark: int = 0
    """The highest number of a request that was carried out."""
    note: int | None = None
    """Set by the request of that number: there were fewer than had been answered."""
    epoch: int = 0
    """The highest that a bridge has claimed it with."""
    life: int = 0
    """How often it came back with nothing."""

    def apply(self, generation: Generation, operation: Operation) -> bool:
        """One document arrives; whether it is kept."""
        place = self.places.setdefault(generation, {})
        now = asyncio.get_running_loop().time()
        before = place.get(operation.key)
        at = (generation, operation.key)
        if before is not None and before.document is None:
            remembered = now - self.deleted_s[at] <= self.tombstone_s
            before = before if remembered else None
        if self.checks_versions and before and before.version >= operation.version:
            return False
        self.check(generation, operation)
        self._remember(place, operation, generation)
        place[operation.key] = Stored(
            operation.key, operation.version, operation.document
        )
        if operation.document is None:
            self.deleted_s[at] = now
        self.missing.get(generation, set()).discard(operation.parts)
        return True

    def shows(self, number: int, expected: int) -> int:
        """The mark before the request of that number, whose sender expects one."""
        if self.mark < expected:
            self.set_note(number)
        return self.mark

    def set_mark(self, number: int) -> None:
        """The request of that number was carried out."""
        before = self.mark

        def undo() -> None:
            self.mark = before

        self._log(undo, None)
        self.mark = max(before, number)

    def set_note(self, number: int | None) -> None:
        """Something was lost, or nothing is any more."""
        before = self.note

        def undo() -> None:
            self.note = before

        self._log(undo, None)
        self.note = number

    def claim(self, epoch: int) -> None:
        """Somebody is going to write in this epoch."""
        before = self.epoch

        def undo() -> None:
            self.epoch = before

        self._log(undo, None)
        self.epoch = max(before, epoch)

    def record(self, generation: Generation, position: Position) -> None:
        self.may_show(generation, position)
        before = self.recorded.get(generation)

        def undo() -> None:
            if before is None:
                self.recorded.pop(generation, None)
            else:
                self.recorded[generation] = before

        self._log(undo, None)
        self.recorded[generation] = position.version

    def settle(self) -> None:
        """What was written so far is on the replica too."""
        self.undo.clear()
        self.undo_keys.clear()

    def go_wrong(self, kind: str) -> None:
        """One of the faults that only a sink has."""
        choice = self.dice.choice
        match kind:
            case "sink_away":
                self.faults.away = choice((0.3, 0.8, 1.0))
                self.faults.lost_answer = self.faults.late = choice((0.0, 0.3))
            case "sink_partial":
                self.faults.partial = choice((0.2, 0.7))
            case "sink_slow":
                self.faults.latency_s = choice((0.05, 0.5))
            case "sink_hung":
                self.faults.away, self.faults.hung_s = 1.0, choice((0.5, 3.0))
                self.faults.latency_s = self.faults.hung_s
            case "sink_full":
                self.faults.full = True
            case "sink_halt":
                self.faults.halted = True
            case "sink_fail_over":
                self.fail_over()
            case "sink_empty":
                self.empty()
            case "sink_back":
                self.faults = Faults()
            case _:
                raise AssertionError(kind)

    def fail_over(self) -> None:
        """The replica takes over: the newest writes are lost."""
        most = min(len(self.undo), self.dice.choice((4, 12, 40)))
        for _ in range(self.dice.randint(0, most)):
            self.undo.pop()()
            lost = self.undo_keys.pop()
            if lost is not None:
                self.missing.setdefault(lost[0], set()).add(lost[1])

    def empty(self) -> None:
        """It comes back with nothing of what it held."""
        for generation, place in self.places.items():
            missing = self.missing.setdefault(generation, set())
            missing |= {(stored.key,) for stored in place.values()}
            place.clear()
        self.recorded.clear()
        self.mark, self.note, self.epoch = 0, None, 0
        self.life += 1
        self.settle()

    def _remember(
        self, place: dict[str, Stored], operation: Operation, generation: Generation
    ) -> None:
        key, before = operation.key, place.get(operation.key)

        def undo() -> None:
            if before is None:
                place.pop(key, None)
            else:
                place[key] = before

        self._log(undo, (generation, operation.parts))

    def _log(
        self, undo: Callable[[], None], what: tuple[Generation, Parts] | None
    ) -> None:
        self.undo.append(undo)
        self.undo_keys.append(what)
        if len(self.undo) > 40:
            del self.undo[0], self.undo_keys[0]


class SimulatedSink:
    """One process's connection to a store."""

    batch_bytes_max = 1 << 20

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: set[tuple[Generation, str]] = set()
        self._journal = Journal()
        self._losses = Losses()
        self._expected = 0
        self._started = False
        self._life = store.life
        self.concurrency = store.dice.choice((1, 2, 3))
        self.batch_count_max = store.dice.choice((1, 3, 20))

    async def write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        keys = {(generation, operation.key) for operation in operations}
        assert len(keys) == len(operations), "one call has a key twice"
        assert keys.isdisjoint(self._under_way), "two calls have a key at once"
        self._under_way |= keys
        try:
            return await self._write(generation, operations)
        finally:
            self._under_way -= keys

    async def _write(
        self, generation: Generation, operations: Sequence[Operation]
    ) -> Report:
        store, faults, dice = self._store, self._store.faults, self._store.dice
        store.may_send(store.name)
        await asyncio.sleep(dice.expovariate(1 / faults.latency_s))
        if faults.halted:
            raise Halt("refused", hint="grant it")
        if dice.random() < faults.away:
            raise Transient("away")
        if dice.random() < faults.late:
            loop = asyncio.get_running_loop()
            late_s = dice.random() * store.late_s
            loop.call_later(late_s, self._late, generation, operations)
            raise Transient("timed out")
        if not self._started:
            self._greet()
        number, expected = self._journal.number(), self._journal.mark
        found, report = store.shows(number, expected), Report()
        for at, operation in enumerate(operations):
            grows = operation.document is not None
            if dice.random() < faults.partial or (faults.full and grows):
                report.again.append(at)
            elif store.apply(generation, operation):
                report.kept += 1
            else:
                report.superseded += 1
        store.set_mark(number)
        lost_answer = dice.random() < faults.lost_answer
        if not lost_answer:
            self._compare(found, number)
            done = [o.parts for i, o in enumerate(operations) if i not in report.again]
            self._journal.kept(number, generation, done)
        if dice.random() < 0.5:
            await asyncio.sleep(dice.expovariate(1 / faults.latency_s))
        if lost_answer:
            raise Transient("the answer was lost")
        return report

    @property
    def answered(self) -> int:
        """See `bridge.sink.Sink`."""
        return self._journal.mark

    def expect(self, answered: int) -> None:
        """See `bridge.sink.Sink`."""
        self._expected = answered

    def _look(self) -> None:
        """As `sinks.redis.writer.Writer.looked`."""
        if not self._started:
            self._started = True
            self._journal.begin(max(self._store.mark, self._expected))
        self._compare(self._store.mark)

    def _compare(self, mark: int, number: int = 0) -> None:
        """As `sinks.redis.writer.Writer.compare`."""
        if mark >= self._journal.mark:
            return
        found = self._journal.found(mark, number)
        if found is None:
            self._losses.add_all("more than is remembered")
        else:
            self._losses.add(found)

    def _late(self, generation: Generation, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self._store.apply(generation, operation)

    async def record(self, generation: Generation, position: Position) -> None:
        await self._reach()
        self._store.record(generation, position)

    async def claim(self, _owner: Owner, epoch: int) -> None:
        """Whose it is was never in doubt here."""
        if self._store.faults.halted:
            raise Halt("refused", hint="grant it")
        await self._reach()
        self._store.claim(epoch)

    async def _reach(self) -> None:
        await asyncio.sleep(self._store.faults.hung_s)
        if self._store.dice.random() < self._store.faults.away:
            raise Transient("away")

    def side_by_side(self, _target: Target, _other: Target | None = None) -> bool:
        return False

    async def prepare(self, _generation: Generation, _owner: Owner) -> None:
        """There is nothing to prepare."""

    async def published(self, target: Target) -> int | None:
        held = [g.number for g in self._store.places if g.target == target]
        return max(held, default=None)

    async def publish(self, _generation: Generation) -> None:
        """Readers see it already."""

    async def exists(self, _generation: Generation) -> bool:
        return True

    async def recorded(self, generation: Generation) -> Position | None:
        version = self._store.recorded.get(generation)
        return None if version is None else Position.of_version(version)

    async def audit(self, generations: Sequence[Generation]) -> list[Loss]:
        """As `sinks.redis.audit.Audit.audit`."""
        self._greet()
        return self._losses.told(generations)

    def _greet(self) -> None:
        """Whether something was lost, or is known to have been; it is noted at once."""
        if self._life != self._store.life:
            self._life = self._store.life
            self._losses.add_all("it came back empty")
        note = self._store.note
        news = note is not None and self._journal.noted(note)
        if self._losses.begin(noted=note is not None) and news:
            self._losses.add_all("an answer that told of a loss did not arrive")
        self._look()
        if not self._losses.none and note is None:
            self._store.set_note(0)

    async def repaired(self, loss: Loss) -> None:
        self._losses.repaired(loss)
        if self._losses.none:
            self._store.set_note(None)

    @property
    def suspect(self) -> bool:
        """Whether anything is lost that is not repaired, whether it was seen or not."""
        store = self._store
        news = store.note is not None and store.note not in self._journal._noticed
        return not self._losses.none or news or store.mark < self._journal.mark

    async def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """In small pages; the place in it is lost whenever the sink is away."""
        places = list(self._store.places.get(generation, {}).values())
        held = [s for s in places if s.document is not None and part.has(s.key)]
        size = self._store.dice.choice((1, 7, 50))
        for at in range(0, max(1, len(held)), size):
            if self._store.faults.halted:
                raise Halt("refused", hint="grant it")
            await self._reach()
            yield held[at : at + size]
