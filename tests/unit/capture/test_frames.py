"""Frames are read and written as the protocol says."""

from __future__ import annotations

import pytest

from bridge.capture.frames import (
    EPOCH_S,
    PAYLOAD_AT,
    FrameError,
    KeepaliveFrame,
    XLogData,
    parse_keepalive,
    parse_xlog_data,
    status_update,
)

# As Postgres 18 sent them.
XLOG_DATA = bytes.fromhex(
    "77 000000003d18f8e8 000000003d18f8e8 000303f61d53b1c0"
    "43 00 000000003d18f8b8 000000003d18f8e8 000303f61d52243e"
)
KEEPALIVE = bytes.fromhex("6b 000000003d18f920 000303f61d53b1c0 01")


def test_the_header_of_a_change() -> None:
    header = parse_xlog_data(XLOG_DATA)
    assert header == XLogData(0x3D18F8E8, 0x3D18F8E8, 0x303F61D53B1C0)
    assert XLOG_DATA[PAYLOAD_AT:][:1] == b"C"


def test_a_keepalive() -> None:
    expected = KeepaliveFrame(0x3D18F920, 0x303F61D53B1C0, reply_requested=True)
    assert parse_keepalive(KEEPALIVE) == expected
    assert not parse_keepalive(KEEPALIVE[:-1] + b"\0").reply_requested


@pytest.mark.parametrize("frame", [b"", KEEPALIVE, XLOG_DATA[: PAYLOAD_AT - 1]])
def test_what_is_no_change(frame: bytes) -> None:
    with pytest.raises(FrameError):
        parse_xlog_data(frame)


@pytest.mark.parametrize("frame", [b"", XLOG_DATA, KEEPALIVE[:-1], KEEPALIVE + b"\0"])
def test_what_is_no_keepalive(frame: bytes) -> None:
    with pytest.raises(FrameError):
        parse_keepalive(frame)


def test_a_status_update() -> None:
    update = status_update(3, 2, 1, unix_s=EPOCH_S + 1.5, ask_reply=True)
    assert update == bytes.fromhex(
        "72 0000000000000003 0000000000000002 0000000000000001 000000000016e360 01"
    )


def test_no_reply_is_asked_for_unless_wanted() -> None:
    assert status_update(0, 0, 0, unix_s=EPOCH_S)[-1] == 0


def test_what_was_not_written_cannot_be_flushed() -> None:
    with pytest.raises(AssertionError):
        status_update(1, 2, 1, unix_s=EPOCH_S)
