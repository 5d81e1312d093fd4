"""What a stream says and when, over a connection that is scripted."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from struct import pack, unpack
from typing import Any, NamedTuple, cast

import pytest
from psycopg import pq

from bridge.capture.connection import Opening
from bridge.capture.handover import Waker
from bridge.capture.identity import ServerIdentity
from bridge.capture.stream import LARGE_FRAME, Stream, feedback_interval_s
from bridge.errors import Halt, Transient

START_LSN = 100
IDENTITY = ServerIdentity(1, 1, in_recovery=False, version=180000)


class Update(NamedTuple):
    """A status update as it was sent."""

    written: int
    flushed: int
    applied: int
    ask_reply: bool


class ScriptedConnection:
    """Gives the frames it was given, and notes what is sent."""

    def __init__(self) -> None:
        self.frames: deque[bytes | None] = deque()
        self.sent: list[Update] = []
        self.finished = self.ended = False
        self._ours, self._theirs = socket.socketpair()
        self.socket = self._ours.fileno()

    def get_copy_data(self, _: int) -> tuple[int, memoryview]:
        if not self.frames:
            return 0, memoryview(b"")
        frame = self.frames.popleft()
        if frame is None:
            return -1, memoryview(b"")
        return len(frame), memoryview(frame)

    def consume_input(self) -> None:
        return

    def put_copy_data(self, update: bytes) -> None:
        kind, *numbers, _, ask = unpack(">cQQQQB", update)
        assert kind == b"r"
        self.sent.append(Update(*numbers, bool(ask)))

    def put_copy_end(self) -> None:
        self.ended = True
        self.frames.append(None)

    def flush(self) -> None:
        return

    def get_result(self) -> None:
        return

    def get_error_message(self) -> str:
        return "server closed the connection unexpectedly"

    def finish(self) -> None:
        self.finished = True
        self._ours.close()
        self._theirs.close()


class Clock:
    """Shows what it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Scene(NamedTuple):
    """A stream and what is around it."""

    stream: Stream
    connection: ScriptedConnection
    clock: Clock


@pytest.fixture
def scene() -> Iterator[Scene]:
    connection, clock, waker = ScriptedConnection(), Clock(), Waker()
    stream = Stream(
        cast(pq.abc.PGconn, connection),
        Opening(IDENTITY, wal_sender_timeout_s=60, confirmed_lsn=START_LSN),
        waker,
        silence_max_s=5,
        clock=clock,
    )
    yield Scene(stream, connection, clock)
    if not connection.finished:
        connection.finish()
    waker.close()


def xlog(payload: bytes, lsn: int) -> bytes:
    return b"w" + pack(">QQQ", lsn, lsn, 0) + payload


def keepalive(lsn: int, *, reply: bool = False) -> bytes:
    return b"k" + pack(">QQB", lsn, 0, reply)


def test_a_keepalive_ends_a_read_and_moves_what_was_received(scene: Scene) -> None:
    stream, connection, _ = scene
    begin, commit = xlog(b"B", 50), xlog(b"C", 120)
    connection.frames += [begin, commit, keepalive(130), begin]
    assert stream.read() == ([begin, commit], 130)
    assert stream.received == 130
    assert stream.read() == ([begin], None)
    assert stream.received == 130, "a change's own position says nothing"
    assert stream.read() == ([], None)


def test_a_commit_moves_what_was_received(scene: Scene) -> None:
    stream, connection, _ = scene
    assert stream.received == START_LSN
    connection.frames += [xlog(b"C", 120), xlog(b"B", 110)]
    stream.read()
    assert stream.received == 120


def test_a_keepalive_that_asks_is_answered_at_once_others_are_not(
    scene: Scene,
) -> None:
    stream, connection, _ = scene
    connection.frames += [keepalive(130)]
    stream.read()
    stream.feed_back()
    assert connection.sent == []
    connection.frames += [keepalive(140, reply=True)]
    stream.read()
    assert connection.sent == [Update(140, 0, 0, ask_reply=False)]


def test_feedback_comes_by_the_clock_and_asks(scene: Scene) -> None:
    stream, connection, clock = scene
    clock.now += 14.9
    stream.feed_back()
    assert connection.sent == []
    clock.now += 0.2
    stream.feed_back()
    assert connection.sent == [Update(START_LSN, 0, 0, ask_reply=True)]
    stream.feed_back()
    assert len(connection.sent) == 1


def test_a_moved_acknowledgement_is_told_within_a_second(scene: Scene) -> None:
    stream, connection, clock = scene
    connection.frames += [keepalive(200)]
    stream.read()
    clock.now += 0.5
    stream.acknowledge(150)
    stream.feed_back()
    stream.acknowledge(140)  # lower than before: ignored
    assert connection.sent == []
    clock.now += 0.6
    stream.feed_back()
    assert connection.sent == [Update(200, 150, 0, ask_reply=False)]
    clock.now += 1.1
    stream.feed_back()
    assert len(connection.sent) == 1, "nothing moved"


def test_what_is_applied_is_told_soon_and_moves_nothing(scene: Scene) -> None:
    stream, connection, clock = scene
    connection.frames += [keepalive(200)]
    stream.read()
    stream.applied(180)
    stream.feed_back()
    assert connection.sent == []
    clock.now += 0.03
    stream.feed_back()
    assert connection.sent == [Update(200, 0, 180, ask_reply=False)]
    stream.applied(0)  # a sink stands aside: it is not known any more
    clock.now += 0.03
    stream.feed_back()
    assert connection.sent[1:] == [Update(200, 0, 0, ask_reply=False)]
    with pytest.raises(AssertionError):
        stream.applied(201)


def test_asking_is_at_once(scene: Scene) -> None:
    stream, connection, _ = scene
    stream.ask()
    stream.feed_back()
    stream.feed_back()
    assert connection.sent == [Update(START_LSN, 0, 0, ask_reply=True)]


def test_nothing_beyond_what_was_received_is_acknowledged(scene: Scene) -> None:
    stream, connection, _ = scene
    with pytest.raises(AssertionError):
        stream.acknowledge(START_LSN + 1)
    stream.acknowledge(START_LSN)
    stream.close()
    assert connection.sent == [Update(START_LSN, START_LSN, 0, False)]


def test_a_large_frame_is_not_copied(scene: Scene) -> None:
    stream, connection, _ = scene
    large = xlog(b"I" * LARGE_FRAME, 50)
    connection.frames += [xlog(b"B", 50), large, xlog(b"I", 50)]
    (small, kept), _ = stream.read()
    assert type(small) is bytes
    assert type(kept) is memoryview
    assert kept == large
    assert stream.read() == ([xlog(b"I", 50)], None)


def test_an_unknown_frame_halts(scene: Scene) -> None:
    stream, connection, _ = scene
    connection.frames += [b"x"]
    with pytest.raises(Halt):
        stream.read()


def test_an_end_without_an_error_is_transient(scene: Scene) -> None:
    stream, connection, _ = scene
    connection.frames += [None]
    with pytest.raises(Transient, match="server closed"):
        stream.read()
    stream.close()
    assert connection.finished
    assert connection.sent == [], "nobody is there to be told"


def test_close_tells_ends_and_finishes_and_never_raises(scene: Scene) -> None:
    stream, connection, _ = scene
    stream.close()
    assert connection.ended
    assert connection.finished


def test_waiting_without_reading_sleeps_over_what_arrives(scene: Scene) -> None:
    stream, connection, clock = scene
    connection._theirs.send(b"x")
    stream.wait(reading=True)  # returns, although no feedback is due
    clock.now += 15
    stream.wait(reading=False)  # returns because it is
    stream.feed_back()
    assert len(connection.sent) == 1


@pytest.mark.parametrize("again", [False, True])
def test_silence_counts_from_the_question_on(
    *, again: bool, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while somebody asks again and again, which ends every wait early."""
    stream, _, clock = scene

    class Silence:
        """A poll that nothing but the waker ever ends, and that takes a second."""

        def poll(self, _: Any) -> list[Any]:
            clock.now += 1
            return []

        def modify(self, *_: Any) -> None:
            return

    monkeypatch.setattr(stream, "_poll", Silence())
    for _ in range(10):
        stream.wait()
    stream.ask()
    stream.feed_back()
    for _ in range(10):
        stream.wait(reading=False)
    for _ in range(5):
        stream.wait()
        if again:
            stream.ask()
            stream.feed_back()
    with pytest.raises(Transient, match="said nothing"):
        stream.wait()


@pytest.mark.parametrize(
    ("timeout_s", "interval_s"), [(60, 15), (30, 10), (0.6, 0.2), (600, 15), (0, 15)]
)
def test_the_interval_follows_the_servers_timeout(
    timeout_s: float, interval_s: float
) -> None:
    assert feedback_interval_s(timeout_s) == pytest.approx(interval_s)
