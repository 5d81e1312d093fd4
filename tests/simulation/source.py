"""A simulated Postgres: commit order, order of visibility and durability apart.

A transaction has a begin (its id is taken, its rows are locked), a commit (a place in
the log) and a moment at which others see it. A synchronous one is durable before it is
visible, an asynchronous one long after. A crash loses what is not durable, a failover
even some of what is; both use log positions and ids again.

The one thing to know: rows stay locked until their writer is visible, as in Postgres,
so that per row the orders agree; across rows they do not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bridge.changes import (
    Change,
    ChangeKind,
    Event,
    LogicalMessage,
    Transaction,
    Truncate,
    Value,
)
from bridge.derive.view import KeyQuery, ViewPlan
from bridge.errors import Transient
from bridge.gate import Gate, Snapshot
from bridge.keys import Parts
from bridge.source import Digest, Failure, QueryFailed, Row, Texts
from tests.simulation import views
from tests.simulation.history import History

PREFIX = "pgbridge"
TableRows = dict[str, dict[int, views.Row]]


@dataclass(eq=False)
class Txn:
    """One transaction of the simulated server."""

    xid: int
    changes: list[tuple[str, views.Row | None, views.Row | None]]
    """Table, old row, new row, in the order of execution."""
    locks: set[tuple[str, int]]
    truncated: str | None = None
    message: bytes | None = None
    synchronous: bool | None = None
    waits_for_standby: bool = True
    end_lsn: int = 0
    visible: bool = False
    ended: bool = False

    def streamed(self) -> Transaction:
        """As the stream tells it."""
        events: list[Event] = []
        if self.truncated:
            events.append(Truncate((views.RELATIONS[self.truncated],)))
        for table, old, new in self.changes:
            kind = ChangeKind.UPDATE
            if old is None:
                kind = ChangeKind.INSERT
            elif new is None:
                kind = ChangeKind.DELETE
            events.append(
                Change(
                    kind,
                    views.RELATIONS[table],
                    None if old is None else views.image(old),
                    None if new is None else views.image(new),
                )
            )
        if self.message is not None:
            events.append(LogicalMessage(PREFIX, self.message))
        return Transaction(
            self.xid & 0xFFFFFFFF, self.end_lsn, 0.0, events, len(events)
        )

    def apply(self, tables: TableRows) -> None:
        if self.truncated:
            tables[self.truncated] = {}
        for table, old, new in self.changes:
            if old is not None:
                tables[table].pop(old[0], None)
            if new is not None:
                tables[table][new[0]] = new


@dataclass
class Slot:
    """Where the slot stands, in memory and on disk."""

    confirmed: int
    on_disk: int


@dataclass
class Profile:
    """How slow this server is, in seconds; drawn once a history."""

    commit_s: float = 0.0
    visible_s: float = 0.0
    flush_s: float = 0.2
    """From a commit that does not wait for the disk until the log is written out."""
    asynchronous: float = 0.0
    """Share of transactions that do not wait for the disk."""
    stream_s: float = 0.01
    """Between two looks of the stream at the log."""


class Server:
    """One simulated server; the source for a daemon, and where the writers write."""

    def __init__(self, dice: random.Random, profile: Profile) -> None:
        self.dice = dice
        self.profile = profile
        self.base: TableRows = {name: {} for name in views.COLUMNS}
        self.tables: TableRows = {name: {} for name in views.COLUMNS}
        self.log: list[Txn] = []
        # Near the wrap of the stream's 32 bits.
        self.next_xid = (3 << 32) - dice.randint(0, 60)
        self._logged_xid = 0
        self.running: dict[int, Txn] = {}
        self.insert_lsn = self.flush_lsn = self.begins = 8000
        self.slot: Slot | None = None
        self.gate_of_the_moment: Gate
        """For the mutant that asks it in place of the log."""
        self.life = 0
        """Grows with each crash: whoever was connected is not any more."""
        self.down = False
        self.slow = 0.0
        """Share of statements that take up to seconds."""
        self.stalled = False
        """Synchronous commits wait for a standby: durable, streamed, invisible."""
        self.history = History()
        self.history.start(self.tables)
        self._stalled: list[Callable[[], None]] = []
        self._writing_out = False
        self.moved = asyncio.Event()

    # — writing —

    def locked(self) -> set[tuple[str, int]]:
        return {lock for txn in self.running.values() for lock in txn.locks}

    def begin(self, txn: Txn) -> None:
        """Its id is taken and its rows are locked; it commits and shows by itself."""
        txn.xid = self.next_xid
        self.next_xid += 1
        self.running[txn.xid] = txn
        if txn.synchronous is None:
            txn.synchronous = self.dice.random() >= self.profile.asynchronous
        self._later(self.profile.commit_s, lambda: self._commit(txn))

    def abort(self, xids: Sequence[int]) -> None:
        """Ids that were taken and came to nothing."""
        for xid in xids:
            self.running.pop(xid, None)

    def _later(self, mean_s: float, action: Callable[[], None]) -> None:
        life = self.life
        delay = 0.0 if not mean_s else self.dice.expovariate(1 / mean_s)

        def act() -> None:
            if life == self.life:
                action()

        asyncio.get_running_loop().call_later(delay, act)

    def _commit(self, txn: Txn) -> None:
        self.insert_lsn += 8 * self.dice.randint(4, 40)
        txn.end_lsn = self.insert_lsn
        self.log.append(txn)
        self.history.committed(txn.end_lsn, txn)
        if self.dice.random() < 0.3:
            self.insert_lsn += 8 * self.dice.randint(1, 20)  # somebody else's log
            self._write_out()
        if txn.synchronous:
            self._flush(txn.end_lsn)
            self._later(self.profile.visible_s, lambda: self._show(txn))
        else:
            self._later(self.profile.visible_s / 4, lambda: self._show(txn))
            self._write_out()

    def _write_out(self) -> None:
        """All of the log, after a while: what comes meanwhile goes with it."""
        if self._writing_out:
            return
        self._writing_out = True

        def act() -> None:
            self._writing_out = False
            self._flush(self.insert_lsn)

        self._later(self.profile.flush_s, act)

    def _flush(self, lsn: int) -> None:
        self.flush_lsn = max(self.flush_lsn, lsn)
        self.moved.set()

    def _show(self, txn: Txn) -> None:
        if self.stalled and txn.synchronous and txn.waits_for_standby:
            self._stalled.append(lambda: self._show(txn))
            return
        txn.visible = True
        del self.running[txn.xid]
        txn.apply(self.tables)
        self.history.shown(txn, self.tables)

    def unstall(self) -> None:
        """The standby is back."""
        self.stalled = False
        waiting, self._stalled = self._stalled, []
        for show in waiting:
            show()

    def idle(self) -> None:
        """Log without transactions."""
        self.insert_lsn += 8 * self.dice.randint(1, 100)
        self._flush(self.insert_lsn)

    # — going wrong —

    def crash(self, *, keep_lsn: int | None = None) -> None:
        """All connections end; only what is durable, or up to `keep_lsn`, is left."""
        keep = self.flush_lsn if keep_lsn is None else keep_lsn
        self.life += 1
        self.running.clear()
        self._stalled.clear()
        self.stalled = self._writing_out = False
        self.log = [txn for txn in self.log if txn.end_lsn <= keep]
        self.tables = self._replayed(self.log)
        for txn in self.log:
            txn.visible = True
        self.history.crashed(self.log, self.tables)
        self.insert_lsn = self.flush_lsn = keep
        self.insert_lsn += 8 * self.dice.randint(2, 12)  # what recovery writes
        self.flush_lsn = self.insert_lsn
        ids = [txn.xid + 1 for txn in self.log]
        self.next_xid = max(ids, default=self.next_xid)
        if keep_lsn is None:
            self.next_xid = max(self.next_xid, self._logged_xid)
        if self.slot is not None:
            self.slot.confirmed = self.slot.on_disk
        self.moved.set()

    def after_a_crash(self) -> TableRows:
        """What the tables would hold if the server crashed now."""
        return self._replayed([t for t in self.log if t.end_lsn <= self.flush_lsn])

    def _replayed(self, log: Sequence[Txn]) -> TableRows:
        tables = {name: dict(rows) for name, rows in self.base.items()}
        for txn in log:
            txn.apply(tables)
        return tables

    def make_slot(self) -> int:
        """A slot from here on; the barrier: an id above all that now run."""
        self._flush(self.insert_lsn)
        self.slot = Slot(self.insert_lsn, self.insert_lsn)
        return self.barrier()

    def barrier(self) -> int:
        """An id above all that now run."""
        self.next_xid += 1
        self._logged_xid = self.next_xid
        return self.next_xid - 1

    # — reading —

    def check(self, life: int) -> None:
        if self.down or life != self.life:
            raise Transient("the server is away")

    def snapshot(self) -> Snapshot:
        running = frozenset(self.running)
        xmin = min(running, default=self.next_xid)
        return Snapshot(xmin, self.next_xid, running)

    @asynccontextmanager
    async def read(self, *, scanning: bool = False) -> AsyncIterator[Reader]:
        """See `Source.read`."""
        life = self.life
        await self._work()
        self.check(life)
        yield Reader(self, life)

    async def emit(self, content: str) -> None:
        """See `Source.emit`; the answer may get lost."""
        life = self.life
        await self._work()
        self.check(life)
        txn = Txn(0, [], set(), message=content.encode())
        txn.synchronous, txn.waits_for_standby = True, False
        self.begin(txn)
        while not txn.visible:
            await asyncio.sleep(0.005)
            self.check(life)
        if self.dice.random() < 0.03:
            raise Transient("the answer was lost")

    async def _work(self) -> None:
        if self.slow and self.dice.random() < self.slow:
            await asyncio.sleep(2 * self.dice.random())
        if self.dice.random() < 0.5:
            await asyncio.sleep(self.dice.expovariate(200))


@dataclass
class Reader:
    """One snapshot."""

    server: Server
    life: int
    snapshot: Snapshot = field(init=False)
    insert_lsn: int = field(init=False)

    def __post_init__(self) -> None:
        self.snapshot = self.server.snapshot()
        self.insert_lsn = self.server.insert_lsn
        self._tables = {name: dict(r) for name, r in self.server.tables.items()}
        self._documents: dict[str, views.Documents] = {}

    def _all(self, view: str) -> views.Documents:
        if view not in self._documents:
            found = views.ORACLE[view](self._tables)
            self._documents[view] = dict(sorted(found.items()))
        return self._documents[view]

    async def _look(self) -> None:
        await self.server._work()
        self.server.check(self.life)

    async def keys(
        self, query: KeyQuery, images: Sequence[tuple[Value, ...]]
    ) -> AsyncIterator[list[Parts]]:
        await self._look()
        view = next(n for n, p in views.PLANS.items() if query in p.key_queries)
        yield views.found_keys(view, query.occurrence, self._tables, images)

    async def documents(
        self, plan: ViewPlan, keys: Sequence[Parts], *, careful: bool = False
    ) -> tuple[list[Row], list[Failure]]:
        await self._look()
        found = self._all(plan.name)
        bad = [key for key in keys if found.get(key) == views.FAILS]
        if bad and not careful:
            raise QueryFailed("it fails")
        rows = [Row(key, found[key]) for key in keys if key in found]
        failures = [Failure(key, "it fails") for key in bad]
        return [row for row in rows if row.document != views.FAILS], failures

    async def unfit(self, cast_sql: str, rows: Collection[Texts]) -> set[Texts]:
        await self._look()
        return set()

    async def scan(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Row]]:
        rows = [
            Row(key, document)
            for key, document in self._all(plan.name).items()
            if (lower is None or lower < key) and (upper is None or key <= upper)
        ]
        size = self.server.dice.randint(1, 5)
        for at in range(0, len(rows), size):
            await self._look()
            page = rows[at : at + size]
            if any(row.document == views.FAILS for row in page):
                raise QueryFailed("it fails")
            yield page

    async def digests(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Digest]]:
        raise NotImplementedError
        yield []

    async def boundary(
        self, plan: ViewPlan, lower: Parts | None, count: int
    ) -> Parts | None:
        await self._look()
        above = [k for k in self._all(plan.name) if lower is None or lower < k]
        return above[count - 1] if len(above) >= count else None

    async def null_keys(self, plan: ViewPlan) -> list[Parts]:
        return []

    async def matching(self, plan: ViewPlan, condition: str) -> list[Parts]:
        raise NotImplementedError

    async def count(self, plan: ViewPlan) -> int:
        return len(self._all(plan.name))

    async def estimate(self, plan: ViewPlan) -> int:
        return len(self._all(plan.name))
