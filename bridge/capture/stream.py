"""The replication connection: COPY in both directions through `psycopg.pq`.

The one thing to know: nothing here blocks but `open` and `wait`, both of which end
when the waker is woken, so that one thread can read, decode, wait for room and still
send its feedback in time. Feedback says what was acknowledged, never more than the
server has sent.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

from psycopg import pq

from bridge.capture.connection import (
    Dialogue,
    Opening,
    StreamSettings,
    connect,
    look,
    refused,
    slot_position,
)
from bridge.capture.failures import PublicationMissing, refusal
from bridge.capture.frames import (
    KEEPALIVE,
    PAYLOAD_AT,
    XLOG_DATA,
    parse_keepalive,
    parse_xlog_data,
    status_update,
)
from bridge.capture.handover import Waker
from bridge.errors import BridgeError, Halt, Transient
from bridge.position import format_lsn

FEEDBACK_INTERVAL_MAX_S: Final = 15.0
FEEDBACK_MOVED_S: Final = 1.0
"""A moved acknowledgement is told at the latest after this long."""
FEEDBACK_APPLIED_S: Final = 0.02
"""And what is applied, which somebody may wait for."""
READ_BYTES_MAX: Final = 1 << 20
LARGE_FRAME: Final = 1 << 20
"""Frames from this size on are not copied out of libpq's memory."""
_COMMIT: Final = ord("C")


class Stream:
    """One replication connection in COPY mode. Made by `open`, one thread's own.

    `acknowledge`, `applied` and `ask` alone may be called from other threads.
    """

    def __init__(
        self,
        conn: pq.abc.PGconn,
        opening: Opening,
        waker: Waker,
        *,
        silence_max_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conn = conn
        self._waker = waker
        self._silence_max_s = silence_max_s
        self._clock = clock
        self._poll = select.poll()
        self._poll.register(conn.socket, select.POLLIN)
        self._poll.register(waker.fileno(), select.POLLIN)
        self._interval_s = feedback_interval_s(opening.wal_sender_timeout_s)
        self._reading = True
        self._ended = False
        self._ask_wanted = False
        self._asked = False
        self._silent_s = 0.0
        self._acknowledged = self._told = 0
        self._applied = self._told_applied = 0
        self._told_s = self.heard_s = clock()
        self.opening = opening
        self.received = opening.confirmed_lsn
        """Highest position up to which the server says that it has sent everything;
        at first the slot's own."""

    @classmethod
    def open(
        cls,
        settings: StreamSettings,
        waker: Waker,
        closing: Callable[[], bool] = lambda: False,
    ) -> Stream:
        """Connect, look at server, publication and slot, and start streaming.

        The stream starts where the slot stands. Transient and Halt as classed in
        `failures`; Interrupted when woken while `closing`.
        """
        settings.check_names()
        conn = connect(settings, waker, closing)
        try:
            with_server = Dialogue(conn, settings, waker, closing)
            opening = look(with_server, settings)
            _start(with_server, settings)
            conn.nonblocking = 1
        except BaseException:
            conn.finish()
            raise
        return cls(conn, opening, waker, silence_max_s=settings.silence_max_s)

    # -- reading --------------------------------------------------------------------

    def read(
        self, bytes_max: int = READ_BYTES_MAX
    ) -> tuple[list[bytes | memoryview], int | None]:
        """What has arrived, without waiting: XLogData frames, and the position of
        the keepalive that followed them, if one did.

        About `bytes_max` at most, but always whole frames. Nothing: ([], None).
        """
        frames: list[bytes | memoryview] = []
        size = 0
        fresh = False
        get_copy_data = self._conn.get_copy_data
        while size < bytes_max:
            try:
                length, view = get_copy_data(1)
            except Exception as error:
                raise self._broken() from error
            if length > 0:
                fresh = False
                kind = view[0]
                if kind == XLOG_DATA:
                    frame = bytes(view) if length < LARGE_FRAME else view
                    frames.append(frame)
                    size += length
                    if frame[PAYLOAD_AT] == _COMMIT:
                        self._receive(parse_xlog_data(frame).wal_end)
                elif kind == KEEPALIVE:
                    return frames, self._keepalive(bytes(view))
                else:
                    raise Halt(f"unknown replication frame {kind:#x}")
            elif length == 0:
                if fresh:
                    break
                self._consume()
                fresh = True
            else:
                raise self._broken()
        if frames:
            self._heard()
        return frames, None

    def _consume(self) -> None:
        try:
            self._conn.consume_input()
        except Exception as error:
            raise self._broken() from error

    def _keepalive(self, frame: bytes) -> int:
        keepalive = parse_keepalive(frame)
        self._receive(keepalive.wal_end)
        self._heard()
        self._asked = False
        if keepalive.reply_requested:
            self._tell()
        return keepalive.wal_end

    def _receive(self, lsn: int) -> None:
        self.received = max(self.received, lsn)

    def _heard(self) -> None:
        self.heard_s = self._clock()
        self._silent_s = 0.0

    def wait(self, timeout_s: float | None = None, *, reading: bool = True) -> None:
        """Wait for bytes (unless not `reading`), the waker, or the next feedback.

        Transient when the server was asked and has been silent for too long.
        """
        now = self._clock()
        wait_s = max(self._due_s() - now, 0.0)
        if timeout_s is not None and timeout_s < wait_s:
            wait_s = timeout_s
        if reading != self._reading:
            self._reading = reading
            self._poll.modify(self._conn.socket, select.POLLIN if reading else 0)
        waker = self._waker
        # Rounded up: a wait that ends just before its time would spin.
        wait_ms = int(wait_s * 1000) + 1 if waker.begin_wait() else 0
        ready = {descriptor for descriptor, _ in self._poll.poll(wait_ms)}
        waker.end_wait(readable=waker.fileno() in ready)
        if reading and self._conn.socket not in ready:
            # Also of waits that the waker ended: it may end every one of them.
            self._silent_s += self._clock() - now
            if self._asked and self._silent_s > self._silence_max_s:
                raise Transient(
                    f"the source has said nothing for {self._silent_s:.0f} s",
                    hint="connecting again",
                )

    # -- feedback -------------------------------------------------------------------

    def acknowledge(self, lsn: int) -> None:
        """Let the slot move to `lsn`: from any thread, sent within a second.

        Never above what the server has sent; a lower one than before is ignored.
        """
        assert lsn <= self.received, (format_lsn(lsn), format_lsn(self.received))
        if lsn > self._acknowledged:
            was_told = self._acknowledged == self._told
            self._acknowledged = lsn
            if was_told:
                self._waker.wake()

    def applied(self, lsn: int) -> None:
        """Tell the server that everything up to `lsn` is in every target: from any
        thread, sent soon. It moves nothing; whoever waits asks the server for it.

        Never above what the server has sent. 0: nothing is known.
        """
        assert lsn <= self.received, (format_lsn(lsn), format_lsn(self.received))
        if lsn != self._applied:
            was_told = self._applied == self._told_applied
            self._applied = lsn
            if was_told:
                self._waker.wake()

    def ask(self) -> None:
        """Have the server say how far it has sent, at once: from any thread."""
        if not self._ask_wanted:
            self._ask_wanted = True
            self._waker.wake()

    def feed_back(self) -> None:
        """Send feedback if it is due. To be called whenever `wait` returns."""
        now = self._clock()
        if self._ask_wanted or now >= self._due_s():
            overdue = now >= self._told_s + self._interval_s
            self._tell(ask_reply=self._ask_wanted or overdue)

    def _due_s(self) -> float:
        soon_s = self._interval_s
        if self._applied != self._told_applied:
            soon_s = FEEDBACK_APPLIED_S
        elif self._acknowledged > self._told:
            soon_s = FEEDBACK_MOVED_S
        return self._told_s + min(soon_s, self._interval_s)

    def _tell(self, *, ask_reply: bool = False) -> None:
        if ask_reply:
            self._ask_wanted = False
            if not self._asked:
                self._asked, self._silent_s = True, 0.0
        acknowledged, applied = self._acknowledged, self._applied
        assert acknowledged <= self.received
        update = status_update(
            self.received,
            acknowledged,
            applied,
            unix_s=time.time(),
            ask_reply=ask_reply,
        )
        try:
            self._conn.put_copy_data(update)
            self._conn.flush()
        except Exception as error:
            raise self._broken() from error
        self._told, self._told_applied = acknowledged, applied
        self._told_s = self._clock()

    # -- ending ---------------------------------------------------------------------

    def close(self, *, patience_s: float = 1.0) -> None:
        """Tell the last acknowledgement, end the COPY and the connection.

        Waits up to `patience_s` for the server's end of it, so that the slot is free
        when this returns. Never raises.
        """
        try:
            if not self._ended:
                self._tell()
                self._conn.put_copy_end()
                self._conn.flush()
                self._read_to_end(self._clock() + patience_s)
        except Exception:  # noqa: BLE001 - it is being given up in any case
            self._ended = True
        finally:
            self._conn.finish()

    def _read_to_end(self, deadline_s: float) -> None:
        self._poll.unregister(self._waker.fileno())
        self._poll.modify(self._conn.socket, select.POLLIN)
        while (length := self._conn.get_copy_data(1)[0]) >= 0:
            if length == 0 and not self._arrives(deadline_s):
                return
        while True:
            # Whoever waits in libpq holds the interpreter, and with it the daemon.
            while self._conn.is_busy():
                if not self._arrives(deadline_s):
                    return
            if self._conn.get_result() is None:
                return

    def _arrives(self, deadline_s: float) -> bool:
        """Take in what the server sends next; False when it sends nothing in time."""
        left_s = deadline_s - self._clock()
        if left_s <= 0 or not self._poll.poll(left_s * 1000):
            return False
        self._conn.consume_input()
        return True

    def _broken(self) -> BridgeError:
        """Why the COPY ended: the server's error, or that the connection is gone."""
        self._ended = True
        doing = "the stream ended"
        while result := self._conn.get_result():
            if result.status == pq.ExecStatus.FATAL_ERROR:
                # The slot is held, so that only the publication can be missing.
                return refused(result, doing, missing=PublicationMissing)
            if result.status in (pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COPY_IN):
                break
        message = self._conn.get_error_message() or "the server closed it"
        return refusal(None, message, doing=doing)


def feedback_interval_s(wal_sender_timeout_s: float) -> float:
    """How often feedback is sent when nothing else asks for it."""
    if not wal_sender_timeout_s:
        return FEEDBACK_INTERVAL_MAX_S
    return min(wal_sender_timeout_s / 3, FEEDBACK_INTERVAL_MAX_S)


def _start(with_server: Dialogue, settings: StreamSettings) -> None:
    command = (
        f'START_REPLICATION SLOT "{settings.slot}" LOGICAL 0/0 ('
        f"proto_version '1', publication_names '\"{settings.publication}\"', "
        "messages 'true')"
    )
    result = with_server.run(command)
    if result.status != pq.ExecStatus.COPY_BOTH:
        if not with_server.broken:
            # Dropped or invalidated since we looked: say that rather.
            slot_position(with_server, settings.slot)
        raise refused(result, f"cannot stream from slot {settings.slot}")
