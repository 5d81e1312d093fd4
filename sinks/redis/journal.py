"""Numbers of requests, and the keys of each until it is known to be durable.

The one thing to know: a server that failed over, or came back without its disk, shows
a mark behind the number it had answered for. The keys of the numbers above that mark
are what it lost. Versions could not tell: they are not written in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from bridge.sink import Generation, Loss, Parts

KEYS_BYTES_MAX = 128 << 20
"""Memory for remembered keys; beyond it the oldest are forgotten."""
KEY_BYTES = 120
"""What a remembered key costs besides its text, about."""


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    generation: Generation
    keys: tuple[Parts, ...]
    size: int
    time_s: float


@dataclass(slots=True)
class Journal:
    """What one server has answered for. Pure: it is told of marks, it reads none."""

    mark: int = 0
    """The number that the server's mark must have reached."""
    bytes_max: int = KEYS_BYTES_MAX
    _next: int = 0
    _forgotten: int = 0
    """The highest number of which the keys are no longer known."""
    _size: int = 0
    _entries: deque[_Entry] = field(default_factory=deque)
    _noticed: set[int | None] = field(default_factory=lambda: {0})
    """Requests whose answer told of a loss; 0 is a note by the bridge itself."""

    def begin(self, mark: int) -> None:
        """The mark found by a process that has sent nothing yet."""
        self.mark = self._next = self._forgotten = mark

    def number(self) -> int:
        """The next request's; one more with each request, answered or not."""
        self._next += 1
        return self._next

    def kept(self, number: int, generation: Generation, keys: Sequence[Parts]) -> None:
        """The request was carried out. Called in the order of the numbers."""
        self.mark = number
        size = sum(len(part or "") for parts in keys for part in parts)
        size += KEY_BYTES * len(keys)
        self._entries.append(_Entry(number, generation, tuple(keys), size, monotonic()))
        self._size += size
        while self._size > self.bytes_max and self._entries:
            self._forget_oldest()

    def found(self, mark: int | None, number: int = 0) -> tuple[Loss, ...] | None:
        """What a mark tells that the server showed before the request of that number.

        () when all is there; None when something is missing and nobody knows what; the
        losses otherwise. A loss is told once.
        """
        expected = self.mark
        if mark is not None and mark >= expected:
            return ()
        self._noticed.add(number)
        self.mark = mark or 0
        self._next = max(self._next, expected)
        lost = [entry for entry in self._entries if entry.number > self.mark]
        while self._entries and self._entries[-1].number > self.mark:
            self._size -= self._entries.pop().size
        if mark is None or mark < self._forgotten:
            self._forgotten = self.mark
            return None
        reason = f"the server is at request {mark}, it had answered for {expected}"
        keys: dict[Generation, dict[Parts, None]] = {}
        for entry in lost:
            keys.setdefault(entry.generation, {}).update(dict.fromkeys(entry.keys))
        return tuple(
            Loss(generation, tuple(each), reason) for generation, each in keys.items()
        )

    def noted(self, number: int | None) -> bool:
        """Whether the server's note of a loss is news.

        It is by the request of that number, which has covered the gap, and of which the
        answer was never received. None: it does not say by which.
        """
        news = number not in self._noticed
        self._noticed.add(number)
        return news

    def settled(self, number: int) -> None:
        """Everything up to this number is durable, wherever the server goes on."""
        while self._entries and self._entries[0].number <= number:
            self._forget_oldest()

    def aged(self, seconds: float) -> None:
        """Forget keys older than this: should they be lost, so is much more."""
        limit = monotonic() - seconds
        while self._entries and self._entries[0].time_s < limit:
            self._forget_oldest()

    @property
    def unsettled(self) -> int:
        """How many requests are remembered."""
        return len(self._entries)

    def _forget_oldest(self) -> None:
        entry = self._entries.popleft()
        self._size -= entry.size
        self._forgotten = entry.number
