"""The lane to one sink: several writes under way, never two of one key.

A lane is bounded by bytes. While all lanes are full, everybody waits. One that is full
and too slow while others are not keeps only which keys are owed, since their documents
can be derived again; so a slow or dead sink harms only itself.

The one thing to know: a call that failed is made again with the same operations until
its outcome is known. Only then may the next write of one of its keys go out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from contextlib import asynccontextmanager, suppress
from typing import Any

from bridge import probes
from bridge.errors import Halt, Transient, sentence
from bridge.feed import Claim, Feed, drop
from bridge.keys import Parts
from bridge.lanes import Flight, LaneLimits, LaneState, Outcomes, WriteSize, unless
from bridge.ledger import Ledger, Ticket
from bridge.operations import Operation, Report
from bridge.sink import Generation, Sink

_LEASE_S = 0.2
_CALM_SHARE = 4
"""Below this part of a lane's bytes, and half a write's operations, what waits in it
is gone in a moment."""
_STOPPED = frozenset({LaneState.PAUSED, LaneState.PARKED, LaneState.HALTED})


class Lane:
    """All writes to one sink. One owner, one event loop; `run` does the sending."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        ledger: Ledger,
        *,
        limits: LaneLimits,
        dice: random.Random,
        letters: Callable[[Outcomes], Awaitable[None]],
        kept: Callable[[Outcomes], None],
        retried: Callable[[], None] = lambda: None,
        leased: Callable[[], bool] = lambda: True,
    ) -> None:
        """`letters` is awaited where a document was refused, or one with a dead letter
        was kept, before anything of the write is booked; `kept` is told of all, and
        `retried` of each write that is made again. Nothing is sent unless `leased`."""
        self.name = name
        self.sink = sink
        self.state = LaneState.OK
        self.reason = ""
        self.since_s = time.time()
        self.feeds: dict[Generation, Feed] = {}
        self._ledger = ledger
        self._limits = limits
        self._dice = dice
        self._letters = letters
        self._kept = kept
        self._retried = retried
        self._leased = leased
        self._flights = self._served = 0
        self._holds = 0
        self._frozen: set[Generation] = set()
        self._era = 0
        self.owing = False
        """Whether documents are not taken any more: keys are owed in their place."""
        self.parked = False
        """Whether nothing is sent and nothing but debts is taken."""
        self.aside = False
        """Whether what is owed is recorded durably: the slot does not wait for it."""
        self.in_debt = False
        """From being parked until everything owed is paid."""
        self.telling = asyncio.Lock()
        """For who writes the state down: none is overwritten by an earlier one."""
        self.recorded_debts = 0
        """Keys owed durably, or a little less: some may be recorded twice."""
        self._out: set[Flight] = set()
        self._parked = asyncio.Event()
        self._size = WriteSize(limits)
        self._full_since: float | None = None
        self._drained = 0
        self._first_waiting_s = 0.0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._landed = asyncio.Event()
        self._cut = asyncio.Event()
        self._resumed = asyncio.Event()

    # — what comes in —

    def add(self, generation: Generation) -> Feed:
        """From now on the generation is fed."""
        if generation not in self.feeds:
            self.feeds[generation] = Feed(generation, self._ledger)
        return self.feeds[generation]

    def remove(self, generation: Generation) -> None:
        """The generation is fed no more; what waits for it is dropped."""
        feed = self.feeds.pop(generation, None)
        if feed is not None:
            feed.clear()
            self._ledger.forget(generation)
            self._made_room()

    def put(
        self, generation: Generation, operations: Iterable[Operation], claim: Claim
    ) -> None:
        """Take operations of distinct keys; never waits, may only owe the keys."""
        feed = self.feeds[generation]
        if self.parked and isinstance(claim, Ticket):
            claim.drop()  # a job has all the time to do it again
            return
        if not self._wake.is_set():
            self._first_waiting_s = asyncio.get_running_loop().time()
        # The second bound is for memory: everybody waits for room before it.
        full = self.owing or self.bytes >= 4 * self._limits.bytes_max
        feed.put(operations, claim, full=full)
        if self._full_since is None and self.bytes >= self._limits.bytes_max:
            self._full_since = asyncio.get_running_loop().time()
            self._drained = 0
            self._room.clear()
        self._wake.set()

    def owe(
        self,
        generation: Generation,
        keys: Iterable[tuple[str, Parts]],
        version: int,
        claim: Claim,
    ) -> None:
        """These keys are to be derived again for this generation."""
        self.feeds[generation].owe(keys, version, claim)

    async def room(self, at_most_s: float | None = None) -> None:
        """Wait until the lane takes documents, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._room.wait()

    @property
    def bytes(self) -> int:
        """Documents that wait, in bytes."""
        return sum(feed.bytes for feed in self.feeds.values())

    @property
    def full(self) -> bool:
        """Whether more than the lane's share of memory waits for the sink."""
        return self._full_since is not None

    @property
    def calm(self) -> bool:
        """Whether what comes now is written soon, or not before it can be at all."""
        waiting = sum(len(feed.waiting) for feed in self.feeds.values())
        low = self.bytes < self._limits.bytes_max // _CALM_SHARE
        low = low and 2 * waiting <= self._size.count
        return low or self.owing or self.state is not LaneState.OK

    @property
    def slow(self) -> bool:
        """Whether others should not wait for this lane: it is full, and stopped, away,
        or so slow that what waits will not be gone soon."""
        if self._full_since is None:
            return False
        if self.state in _STOPPED:
            return True
        waited = asyncio.get_running_loop().time() - self._full_since
        if waited < self._limits.patience_s:
            return False
        speed = self._drained / waited
        return self.state is LaneState.DOWN or speed * self._limits.drain_s < self.bytes

    @property
    def waiting(self) -> int:
        """Operations waiting or under way."""
        return sum(len(f.waiting) + len(f.flying) for f in self.feeds.values())

    @property
    def in_flight(self) -> int:
        """Writes under way."""
        return self._flights

    @property
    def owed(self) -> int:
        """Keys to be derived again when the sink takes documents."""
        return sum(len(f.owed) + len(f.recording) for f in self.feeds.values())

    @property
    def crowding(self) -> float:
        """Keys owed in memory, as a multiple of how many there should be."""
        return self.owed / self._limits.owed_max

    @property
    def shown(self) -> LaneState:
        """The state for people: parked until all debts are paid."""
        if self.in_debt and self.state in (LaneState.OK, LaneState.DOWN):
            return LaneState.PARKED
        return self.state

    # — holding, pausing, starting again —

    def hold(self) -> None:
        """Send nothing until `unhold`; what is under way is not called back."""
        self._holds += 1

    def unhold(self) -> None:
        """The opposite of one `hold`."""
        self._holds -= 1
        assert self._holds >= 0
        self._wake.set()

    @asynccontextmanager
    async def frozen(self, generation: Generation) -> AsyncIterator[None]:
        """For the block nothing is written to this generation, nor under way to it."""
        self._frozen.add(generation)
        try:
            while (feed := self.feeds.get(generation)) is not None and feed.flying:
                self._landed.clear()
                await self._landed.wait()
            yield
        finally:
            self._frozen.discard(generation)
            self._wake.set()

    async def reset(self) -> None:
        """Drop everything that waits: the stream starts again and brings it back.

        Jobs are told that what they had put in is dropped.
        """
        self._era += 1
        for feed in self.feeds.values():
            feed.clear()
        self._cut.set()
        self._wake.set()
        while any(feed.flying for feed in self.feeds.values()):
            self._landed.clear()
            await self._landed.wait()
        self._cut.clear()
        self._made_room()

    def found(self, state: LaneState, reason: str = "") -> None:
        """What is seen of the sink. It starts no lane that was stopped: whoever looked
        may have begun before the operator paused it."""
        if state is LaneState.HALTED or self.state not in _STOPPED:
            self.set_state(state, reason)

    def set_state(self, state: LaneState, reason: str = "") -> None:
        """Change what the lane does, and say why: the operator's word."""
        if state is not self.state:
            self.since_s = time.time()
        self.state, self.reason = state, reason
        if state is not LaneState.HALTED:
            self._resumed.set()
        self._wake.set()

    def park(self) -> None:
        """Send nothing, and owe whatever waits, is under way, or comes.

        A call under way is not called back and not repeated. Should it still arrive,
        then below the version at which its keys will be derived again.
        """
        self.parked = self.in_debt = self.owing = True
        self._parked.set()
        self._room.clear()
        for feed in self.feeds.values():
            feed.retire()
        for flight in self._out:
            if flight.era == self._era and not flight.given_up:
                flight.give_up()
        self._cut.set()
        self._wake.set()

    def unpark(self) -> None:
        """Take and send documents again; what is owed stays owed."""
        self.parked = False
        self._parked.clear()
        self._cut.clear()
        self._made_room()
        self._wake.set()

    def paid(self) -> bool:
        """Nothing is owed any more. Not true of a lane that was parked meanwhile, in
        the very turn in which that was found."""
        if self.parked:
            return False
        self.in_debt, self.recorded_debts = False, 0
        return True

    async def unless_parked(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do this; False when the lane is or was parked meanwhile: it was cancelled."""
        return await unless(self._parked, work)

    async def resumed(self) -> None:
        """Wait until a lane that has halted is to go on."""
        self._resumed.clear()
        await self._resumed.wait()

    # — sending —

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self.sink.concurrency)):
                group.create_task(self._sender())

    async def _sender(self) -> None:
        while True:
            feed = None if self.stopped else self._ready()
            if feed is None:
                self._wake.clear()
                await self._doze()
                continue
            limits, sink = self._limits, self.sink
            before = feed.bytes
            operations, claims = feed.take(
                min(limits.batch_count_max, sink.batch_count_max, self._size.count),
                min(limits.batch_bytes_max, sink.batch_bytes_max),
            )
            self._drained += before - feed.bytes
            self._made_room()
            if operations:
                await self._send(feed, operations, claims)
            else:
                self._wake.clear()
                await self._wake.wait()

    @property
    def stopped(self) -> bool:
        """Whether nothing that waits is sent."""
        held = self._holds > 0 or self.parked or self.state in _STOPPED
        return held or not self._leased()

    async def _woken(self) -> None:
        """Wait until something has changed; that the lease has, nobody tells."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._leased() else _LEASE_S):
                await self._wake.wait()

    def _ready(self) -> Feed | None:
        """The feed that was served longest ago: the stream of one is not held up by the
        build of another. A small write waits while another is out."""
        feeds = [f for f in self.feeds.values() if f.may_be_taken]
        if self._frozen:
            feeds = [f for f in feeds if f.generation not in self._frozen]
        if feeds and self._flights:
            waited = asyncio.get_running_loop().time() - self._first_waiting_s
            if waited < self._limits.linger_s:
                much = self._limits.batch_count_max // 4
                feeds = [f for f in feeds if len(f.waiting) >= much]
        if not feeds:
            return None
        feed = min(feeds, key=lambda f: f.served)
        self._served += 1
        feed.served = self._served
        return feed

    async def _doze(self) -> None:
        """Until woken; not for longer than a small write may wait."""
        if self.stopped or not any(f.waiting for f in self.feeds.values()):
            await self._woken()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                await self._wake.wait()

    async def _send(
        self, feed: Feed, operations: list[Operation], claims: list[Claim]
    ) -> None:
        flight = Flight(feed, operations, claims, self._era)
        delay = self._limits.retry_first_s
        self._out.add(flight)
        try:
            while flight.operations:
                await self._may_send(flight)
                if flight.given_up:
                    return
                fed = self.feeds.get(feed.generation) is feed
                if flight.era != self._era or not fed:
                    drop(flight.claims)
                    return
                # Fewer than before, where they took the sink too long.
                part = flight.operations[: self._size.count]
                report = await self._call(flight, part)
                if report is not None:
                    await self._answered(flight, report, part)
                again = report is None or report.again
                if again and self.state not in _STOPPED:
                    self._retried()
                    delay = await self._back_off(delay)
        finally:
            self._out.discard(flight)
            if flight.trouble:
                self._well()
            feed.landed(flight.operations)
            self._landed.set()
            self._wake.set()

    async def _call(self, flight: Flight, operations: list[Operation]) -> Report | None:
        """One write; None when its outcome is not known, and it is to be repeated."""
        await probes.reach("deliver.send")
        self._flights += 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            report = await self.sink.write(flight.feed.generation, operations)
        except Transient as error:
            self._size.failed(len(operations), loop.time() - began)
            self._ill(flight, sentence(error))
            return None
        except Halt as error:
            self.found(LaneState.HALTED, sentence(error))
            return None
        finally:
            self._flights -= 1
            self._landed.set()
        self._size.took(len(operations), loop.time() - began)
        if len(report.again) == len(operations):
            self._ill(flight, report.why or "no document is taken for the moment")
        else:
            flight.trouble = False
            self._well()
        await probes.reach("deliver.kept")
        return report

    def looked_at(self, trouble: str = "") -> None:
        """Whether the sink answers, which a lane with nothing to write cannot tell."""
        if not trouble:
            self._well()
        elif self.state is LaneState.OK:
            self.found(LaneState.DOWN, trouble)

    def _ill(self, flight: Flight, reason: str) -> None:
        flight.trouble = True
        self.looked_at(reason)

    def _well(self) -> None:
        """A write came through: the sink is down only while another does not."""
        if self.state is LaneState.DOWN and not any(f.trouble for f in self._out):
            self.found(LaneState.OK)

    async def _answered(
        self, flight: Flight, report: Report, operations: list[Operation]
    ) -> None:
        """Book an answer to the first of a flight; what is to be sent again stays."""
        feed, claims = flight.feed, flight.claims[: len(operations)]
        outcomes = Outcomes(feed.generation, report, operations, claims, feed.dead)
        if report.rejections or feed.dead:
            await self._letters(outcomes)
        self._kept(outcomes)
        again = set(report.again)
        done, landed = claims, operations
        if again:
            done = [c for i, c in enumerate(claims) if i not in again]
            landed = [o for i, o in enumerate(operations) if i not in again]
        # Entries of a stream that has ended count for nothing; jobs outlive it.
        fed = flight.era == self._era and self.feeds.get(feed.generation) is feed
        for claim, count in Counter(done).items():
            # What was given up is owed: the debt has the claim.
            if not flight.given_up and (fed or isinstance(claim, Ticket)):
                feed.release(claim, count)
        order = sorted(again)
        left = [operations[i] for i in order], [claims[i] for i in order]
        # What has its outcome may be taken by another write from here on.
        feed.landed(landed)
        flight.operations = left[0] + flight.operations[len(operations) :]
        flight.claims = left[1] + flight.claims[len(claims) :]

    async def _may_send(self, flight: Flight) -> None:
        while self.stopped and flight.era == self._era and not flight.given_up:
            self._wake.clear()
            await self._woken()

    async def _back_off(self, delay: float) -> float:
        """Wait with jitter, cut short when the lane starts again. The next delay."""
        try:
            async with asyncio.timeout(delay * (0.5 + self._dice.random())):
                await self._cut.wait()
        except TimeoutError:
            pass
        return min(delay * 2, self._limits.retry_max_s)

    def _made_room(self) -> None:
        if not self.parked and self.bytes < self._limits.bytes_max // 2:
            self._full_since = None
            self.owing = False
            self._room.set()
