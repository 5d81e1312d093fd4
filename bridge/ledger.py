"""What has to be kept before the slot may move on, and how far each target is.

An *entry* stands for a batch of the stream. It is closed when everything in it was
derived and every sink has kept what came of it. The slot's position is the end of the
longest closed prefix, further held back until

- every transaction in it was seen to be visible (after a restart it would never be
  streamed again, and a reader could miss it),
- the log that reads for it could have seen has come back as the stream's end (what
  was read may otherwise vanish in a crash, and with it the only reason why another
  key was not derived),
- every sink has recorded a position of its own that covers it.

The one thing to know: acknowledging is the last thing that ever happens to a change,
and nothing here can move a position backwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from bridge.position import page_start

Holder = Hashable
"""Who holds an entry open: a generation, or the sweep of one."""


class Sweep(NamedTuple):
    """Holds an entry until every key of a generation is derived again."""

    generation: Holder


class Entry:
    """One batch on its way. Made by `Ledger.enter` alone."""

    __slots__ = (
        "commit_time_s",
        "derived",
        "has_content",
        "holds",
        "lsn",
        "seen",
        "start",
    )

    def __init__(self, start: int, lsn: int, commit_time_s: float) -> None:
        self.start = start
        self.lsn = lsn
        self.commit_time_s = commit_time_s
        self.holds: dict[Holder, int] = {}
        self.derived = False
        self.has_content = False
        self.seen = 0


class Ticket:
    """Work that no entry stands for (a chunk of a backfill): calls back when kept."""

    __slots__ = ("_left", "_on_dropped", "_on_kept", "commit_time_s")

    def __init__(
        self,
        on_kept: Callable[[], None],
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._left = 0
        self._on_kept = on_kept
        self._on_dropped = on_dropped
        self.commit_time_s = 0.0

    def hold(self, count: int) -> None:
        """`count` more operations are on their way."""
        self._left += count

    def release(self, count: int) -> None:
        """`count` operations were kept, or are answered for by an entry."""
        self._left -= count
        assert self._left >= 0
        if self._left == 0:
            self._on_kept()

    def drop(self) -> None:
        """An operation was dropped unsent: the work is to be done again.

        May be told more than once; the ticket is never kept afterwards.
        """
        self._left += 1
        self._on_dropped()


class Aside(NamedTuple):
    """A generation whose debts are recorded durably: the slot does not wait for it."""

    applied: int
    """Everything up to here shows in it."""
    since_s: float
    """When it began to fall behind."""


class Ledger:
    """The entries of one stream, in its order."""

    def __init__(self, invisible_from: Callable[[], int | None]) -> None:
        self.frozen = False
        """While set, nothing more is acknowledged."""
        self._invisible_from = invisible_from
        self._entries: deque[Entry] = deque()
        self._held: deque[Entry] = deque()
        self._reads: deque[Entry] = deque()
        self._content: dict[Holder, int] = {}
        self._recorded: dict[Holder, int] = {}
        self._aside: dict[Holder, Aside] = {}
        self._returning: dict[Holder, tuple[int, int]] = {}
        """Of those taken back: where each stands, and from where on it counts again."""
        self._wal_end = 0
        self._closed = 0
        self._acknowledged = 0
        self.era = 0
        """How often the stream has begun."""

    def start(self, lsn: int) -> None:
        """The stream begins (again) at `lsn`: what is not acknowledged comes again."""
        self._entries.clear()
        self._held.clear()
        self._reads.clear()
        self._content.clear()
        self._wal_end = self._closed = self._acknowledged = lsn
        self.era += 1

    def enter(self, lsn: int, commit_time_s: float) -> Entry:
        """A batch ending at `lsn` was taken from the stream."""
        assert self.end <= lsn, (self.end, lsn)
        entry = Entry(self.end, lsn, commit_time_s)
        self._entries.append(entry)
        self._wal_end = max(self._wal_end, lsn)
        return entry

    def keepalive(self, wal_end: int) -> None:
        """The server has sent everything up to `wal_end`."""
        self._wal_end = max(self._wal_end, wal_end)
        if not self._entries:
            self._close(wal_end)
            return
        last = self._entries[-1]
        if last.derived and not last.holds and not last.has_content:
            last.lsn = max(last.lsn, wal_end)
            return
        entry = Entry(last.lsn, max(wal_end, last.lsn), 0.0)
        entry.derived = True
        self._entries.append(entry)

    def hold(self, entry: Entry, holder: Holder, count: int) -> None:
        """`count` operations of the entry are on their way to `holder`."""
        entry.holds[holder] = entry.holds.get(holder, 0) + count
        entry.has_content = True

    def note(self, holder: Holder, lsn: int) -> None:
        """The generation `holder` gets something from a batch that ends at `lsn`.

        The slot then waits until `recorded` covers it.
        """
        if self._content.get(holder, 0) < lsn:
            self._content[holder] = lsn

    def release(self, entry: Entry, holder: Holder, count: int) -> None:
        """`count` operations of the entry were kept by `holder`."""
        left = entry.holds[holder] - count
        assert left >= 0, (holder, left)
        if left:
            entry.holds[holder] = left
        else:
            del entry.holds[holder]
            self._advance()

    def derived(self, entry: Entry, seen: int = 0) -> None:
        """All operations of the entry are held; reads for it saw log up to `seen`."""
        entry.derived = True
        if seen:
            entry.seen = page_start(seen)
            entry.has_content = True
            self._read_for(entry)
        self._advance()

    def _read_for(self, entry: Entry) -> None:
        """Remember what reads have seen, by start; one batch may overtake another.

        One that starts no earlier and has seen no more says nothing of its own.
        """
        if not self._reads or self._reads[-1].start <= entry.start:
            if not self._reads or self._reads[-1].seen < entry.seen:
                self._reads.append(entry)
            return
        before = [each for each in self._reads if each.start <= entry.start]
        after = [each for each in self._reads if each.start > entry.start]
        if not before or before[-1].seen < entry.seen:
            before.append(entry)
            after = [each for each in after if each.seen > entry.seen]
        self._reads = deque(before + after)

    def recorded(self, holder: Holder, lsn: int) -> None:
        """The sink itself now says that it holds everything up to `lsn`."""
        self._recorded[holder] = max(lsn, self._recorded.get(holder, 0))

    def forget(self, holder: Holder) -> None:
        """A generation was dropped: nothing waits for it any more."""
        for entry in self._entries:
            entry.holds.pop(holder, None)
            entry.holds.pop(Sweep(holder), None)
        self._content.pop(holder, None)
        self._recorded.pop(holder, None)
        self._aside.pop(holder, None)
        self._returning.pop(holder, None)
        self._advance()

    def set_aside(self, holder: Holder, applied: int, since_s: float) -> None:
        """What the holder is owed is recorded elsewhere before it is released here: it
        stands at `applied` until `take_back`, and the slot does not wait for the sink
        to record a position of its own. Outlives the stream."""
        self._aside[holder] = Aside(applied, since_s)
        self._returning.pop(holder, None)

    def take_back(self, holder: Holder) -> None:
        """Nothing is owed to the holder any more but by entries.

        A debt may be paid by a later change that is still on its way. So the holder
        stands where it stood until all that is on its way now is kept.
        """
        aside = self._aside.pop(holder, None)
        if aside is not None:
            self._returning[holder] = (aside.applied, self.end)

    def aside(self, holder: Holder) -> Aside | None:
        """Where a holder stands that is set aside."""
        return self._aside.get(holder)

    def held_at(self, holder: Holder) -> int | None:
        """Where the holder keeps the slot from moving on; None: it does not."""
        if holder in self._aside:
            return None
        for entry in self._entries:
            if holder in entry.holds:
                return entry.start
        return None

    def sent(self, seen: int) -> bool:
        """Whether the log that a read has seen has come back, and so is durable."""
        return page_start(seen) <= self._wal_end

    @property
    def wal_end(self) -> int:
        """The highest end of log that the server has reported."""
        return self._wal_end

    @property
    def end(self) -> int:
        """Where the next batch begins."""
        return self._entries[-1].lsn if self._entries else self._closed

    @property
    def outstanding(self) -> bool:
        """Whether any batch is not closed."""
        return bool(self._entries)

    def oldest(self, holder: Holder, *, sweeps: bool = True) -> Entry | None:
        """The first entry that `holder` has not kept, or that is not derived.

        Without `sweeps`: what only its own sweep holds counts as kept.
        """
        for entry in self._entries:
            if _waits(entry, holder) if sweeps else _streams(entry, holder):
                return entry
        return None

    def held_by(self, holder: Holder) -> list[Entry]:
        """The entries of which something is on its way to the holder now."""
        return [entry for entry in self._entries if holder in entry.holds]

    def behind_since_s(self, holder: Holder, *, sweeps: bool = True) -> float:
        """When the oldest commit was made that the holder has not kept, in seconds
        since 1970; 0.0: there is none. `sweeps`: see `oldest`."""
        if holder in self._aside:
            return self._aside[holder].since_s
        oldest = self.oldest(holder, sweeps=sweeps)
        return oldest.commit_time_s if oldest is not None else 0.0

    def kept(self, holder: Holder) -> int:
        """Everything up to here is kept by `holder`."""
        if holder in self._aside:
            return self._aside[holder].applied
        kept = self._kept(holder)
        stands, until = self._returning.get(holder, (0, 0))
        # A stream that began again may not have come to where it stood.
        return min(stands, self._wal_end) if kept < until else kept

    def _kept(self, holder: Holder) -> int:
        kept = self._closed
        for entry in self._entries:
            if _waits(entry, holder):
                return kept
            kept = entry.lsn
        return kept

    def applied(self, holder: Holder) -> int:
        """Everything up to here shows in `holder`, whatever reads have skipped.

        A key query may find a row already moved by a later change, and leave the old
        document to that change: so a position counts only when all that its reads
        could have seen is kept too.
        """
        kept = self.kept(holder)
        if holder in self._aside:
            return kept
        for entry in self._reads:
            if entry.start >= kept:
                break
            if entry.seen > kept:
                return entry.start
        return kept

    def content(self, holder: Holder) -> int:
        """End of the newest batch that had anything for `holder`; 0: none."""
        return self._content.get(holder, 0)

    def derived_to(self, lsn: int) -> bool:
        """Whether every batch up to `lsn` is derived, kept or not."""
        return all(entry.derived for entry in self._entries if entry.lsn <= lsn)

    def wants_wal_end(self) -> bool:
        """Whether closed entries only wait for the log's end to come back."""
        return bool(self._held) and self._held[0].seen > self._wal_end

    def acknowledge(self) -> int:
        """The position that the slot may be moved to now; never goes back."""
        if self.frozen:
            return self._acknowledged
        invisible = self._invisible_from()
        limit = self._closed
        for holder, content in self._content.items():
            recorded = self._recorded.get(holder, 0)
            if recorded < content and holder not in self._aside:
                limit = min(limit, max(recorded, self._acknowledged))
        if invisible is not None:
            limit = min(limit, invisible)
        while self._held and self._held[0].seen <= self._wal_end:
            self._held.popleft()
        if self._held:
            limit = min(limit, self._held[0].start)
        self._acknowledged = max(self._acknowledged, limit)
        assert self._acknowledged <= self._wal_end
        return self._acknowledged

    def _advance(self) -> None:
        while self._entries:
            entry = self._entries[0]
            if not entry.derived or entry.holds:
                break
            self._entries.popleft()
            if entry.seen > self._wal_end:
                self._held.append(entry)
            self._close(entry.lsn)

    def _close(self, lsn: int) -> None:
        self._closed = max(self._closed, lsn)
        while self._reads and self._reads[0].seen <= self._closed:
            self._reads.popleft()


def _streams(entry: Entry, holder: Holder) -> bool:
    """Whether something of the entry is to be derived, or on its way to the holder."""
    return not entry.derived or holder in entry.holds


def _waits(entry: Entry, holder: Holder) -> bool:
    """Whether the entry does not show in the holder as a whole yet."""
    return _streams(entry, holder) or Sweep(holder) in entry.holds
