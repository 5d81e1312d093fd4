"""The capture thread: stream → decode → digest → the event loop.

The one thing to know: the thread has its own connection and never waits for the loop
without sending its feedback and answering keepalives meanwhile; one CaptureThread is
one connection's life, and after an error the caller makes another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from bridge.capture.connection import Interrupted, Opening, StreamSettings
from bridge.capture.frames import PAYLOAD_AT
from bridge.capture.handover import HandOver, Waker
from bridge.capture.stream import Stream
from bridge.changes import Keepalive, Transaction

B = TypeVar("B")

FLOW_FRAMES: Final = 64
"""So many frames read at once are part of a flow: more will come at once."""


class CaptureClosed(Exception):
    """What `get` raises after `close`."""


class Decoder(Protocol):
    """What makes transactions of messages (`bridge.decode.transactions`)."""

    between_chunks: Callable[[], None] | None
    """Called now and then while a spilled transaction is iterated, in any thread."""

    @property
    def inside(self) -> bool:
        """A transaction has begun and not ended."""

    def feed(self, frames: Sequence[bytes | memoryview], at: int) -> list[Transaction]:
        """The transactions that these frames complete; messages begin at `at`."""

    def close(self) -> None:
        """Free what an unfinished transaction holds."""


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """Bounds of one batch, and of all that wait to be taken."""

    batch_rows_max: int = 5_000
    batch_bytes_max: int = 4 << 20
    queue_bytes_max: int = 16 << 20
    """A single batch may be larger than this; nothing is queued beside it then."""
    queue_count_max: int = 64
    gap_s: float = 0.001
    """While changes come in a flow, they are gathered for so long; a change after a
    pause is handed over at once."""


class CaptureThread(Generic[B]):
    """Captures on a thread of its own; the caller takes batches in the event loop.

    `digest` runs in the thread, in log order, with one or more whole transactions (a
    spilled one always alone), and what it returns is handed over. It must finish with
    a spilled transaction's events as it goes: they are freed when nothing refers to
    the transaction any more.

    Use: `start`, then `opened`, then `get` again and again, and `close`.
    """

    def __init__(
        self,
        settings: StreamSettings,
        decoder: Decoder,
        digest: Callable[[list[Transaction]], B],
        limits: CaptureLimits = CaptureLimits(),
    ) -> None:
        self._settings = settings
        self._decoder = decoder
        self._digest = digest
        self._limits = limits
        self._waker = Waker()
        self._closing = False
        self._stream: Stream | None = None
        self._thread = threading.Thread(
            target=self._run, name="pgbridge-capture", daemon=True
        )
        self._pending: list[Transaction] = []
        self._pending_rows = self._pending_bytes = 0
        self._keepalive: int | None = None
        self._flow_ends_s = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._queue: HandOver[B]
        self._opened: asyncio.Future[Opening]
        self._ended: asyncio.Future[None]

    # -- the loop's side ------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. To be called once, in the running event loop."""
        loop = self._loop = asyncio.get_running_loop()
        self._queue = HandOver(
            loop,
            self._waker,
            bytes_max=self._limits.queue_bytes_max,
            count_max=self._limits.queue_count_max,
        )
        self._opened = loop.create_future()
        self._ended = loop.create_future()
        self._thread.start()

    async def opened(self) -> Opening:
        """Waits until the stream runs: server identity, slot position.

        Raises Transient or Halt when it could not be opened.
        """
        return await asyncio.shield(self._opened)

    async def get(self) -> B | Keepalive:
        """The next batch or keepalive, in log order; for one coroutine at a time.

        A keepalive means: everything committed up to there was handed over before.
        Errors of the thread, `digest`'s among them, are raised at once, before what
        is still queued, and again at every later call.
        """
        return await self._queue.get()

    async def lost(self) -> None:
        """Returns when the thread has ended in order; raises when it failed.

        For a task that stops all sending as soon as the connection is lost.
        """
        await asyncio.shield(self._ended)

    def acknowledge(self, lsn: int) -> None:
        """Let the slot move to `lsn`; from any thread, told within a second.

        Asserted: never above `received`. Ignored once the connection is gone.
        """
        if (stream := self._stream) is not None:
            stream.acknowledge(lsn)

    def applied(self, lsn: int) -> None:
        """Tell the server that everything up to `lsn` is in every target.

        Ignored once the connection is gone.
        """
        if (stream := self._stream) is not None:
            stream.applied(lsn)

    def ask(self) -> None:
        """Have the server say how far it has sent: a Keepalive follows soon."""
        if (stream := self._stream) is not None:
            stream.ask()

    @property
    def received(self) -> int:
        """Highest position that the server has sent everything up to; 0 at first."""
        return stream.received if (stream := self._stream) is not None else 0

    @property
    def heard_s(self) -> float:
        """When the server was last heard, by `time.monotonic`; 0: never."""
        return stream.heard_s if (stream := self._stream) is not None else 0.0

    async def close(self) -> None:
        """Stop: the last acknowledgement is told, the slot is free, thread ended."""
        self._closing = True
        self._waker.wake()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        self._waker.close()

    # -- the thread's side ----------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        self._decoder.between_chunks = self._between_chunks
        try:
            self._capture()
        except Interrupted:
            pass
        except BaseException as caught:  # noqa: BLE001 - surfaces in the loop
            error = caught
        finally:
            self._pending.clear()
            self._decoder.close()
        self._queue.fail(error or CaptureClosed())
        self._resolve(self._opened, error or CaptureClosed())
        self._resolve(self._ended, error)

    def _capture(self) -> None:
        stream = Stream.open(self._settings, self._waker, lambda: self._closing)
        self._stream = stream
        self._resolve(self._opened, stream.opening)
        try:
            while not self._closing:
                self._step(stream)
        finally:
            stream.close()

    def _step(self, stream: Stream) -> None:
        """Read what is there; hand over what is enough, or when the loop is idle."""
        frames, wal_end = stream.read()
        if frames:
            for transaction in self._decoder.feed(frames, PAYLOAD_AT):
                self._gather(stream, transaction)
            if len(frames) >= FLOW_FRAMES:
                self._flow_ends_s = time.monotonic() + self._limits.gap_s
        if wal_end is not None and not self._decoder.inside:
            self._keepalive = wal_end
        if not frames:
            self._pause(stream)
        stream.feed_back()

    def _pause(self, stream: Stream) -> None:
        """Nothing is there to read: hand over, or wait.

        While much is coming the thread sleeps through the gap, whatever arrives: a
        poll for each message would cost more than all the rest.
        """
        gap_s = self._flow_ends_s - time.monotonic()
        if gap_s > 0:
            stream.wait(gap_s, reading=False)
            return
        self._queue.awaited = bool(self._pending)
        if (self._queue.empty or not self._pending) and self._hand_over(stream):
            return
        stream.wait()

    def _gather(self, stream: Stream, transaction: Transaction) -> None:
        if transaction.spilled:
            self._hand_over(stream)
        self._pending.append(transaction)
        self._pending_rows += transaction.count
        self._pending_bytes += transaction.memory_bytes
        if self._keepalive is not None and self._keepalive <= transaction.end_lsn:
            self._keepalive = None
        limits = self._limits
        if (
            transaction.spilled
            or self._pending_rows >= limits.batch_rows_max
            or self._pending_bytes >= limits.batch_bytes_max
        ):
            self._hand_over(stream)

    def _hand_over(self, stream: Stream) -> bool:
        """Digest and hand over what is gathered, waiting for room if need be.

        Whether a batch was.
        """
        transactions = self._pending
        if transactions:
            self._wait_for_room(stream)
            weight = self._pending_bytes
            self._pending = []
            self._pending_rows = self._pending_bytes = 0
            self._queue.put(self._digest(transactions), weight)
            self._flow_ends_s = time.monotonic() + self._limits.gap_s
        if self._keepalive is not None:
            self._queue.put(Keepalive(self._keepalive), 0)
            self._keepalive = None
        return bool(transactions)

    def _wait_for_room(self, stream: Stream) -> None:
        self._queue.awaited = True
        while self._queue.full:
            stream.wait(reading=False)
            self._between_chunks()
            self._queue.awaited = True
        self._queue.awaited = False

    def _between_chunks(self) -> None:
        """Keep the connection alive in the middle of long work in this thread."""
        if threading.get_ident() != self._thread.ident:
            return
        if self._closing:
            raise Interrupted
        if self._stream is not None:
            self._stream.feed_back()

    def _resolve(
        self, future: asyncio.Future[Any], outcome: Opening | BaseException | None
    ) -> None:
        def resolve() -> None:
            if future.done():
                return
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
                future.exception()  # seen, even if nobody waits for it
            else:
                future.set_result(outcome)

        # The loop may be closed while the thread is still ending.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(resolve)
