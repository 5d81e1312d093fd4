"""Replication frames: the envelopes inside COPY data, both ways. Pure.

The one thing to know: a frame from the server is a `w` (XLogData: 25 bytes of header,
then one pgoutput message) or a `k` (keepalive); the only frame to the server is `r`
(standby status update). See "Streaming Replication Protocol" in Postgres' manual.

    77 000000000175E3A8 000000000175E3A8 0002E95B1D9F4C11  42…   XLogData, a Begin
    6B 000000000175E3E0 0002E95B1D9F4C11 00                      keepalive, no reply
    72 000000000175E3E0 000000000175E3A8 000000000175E3A8 0002E95B1D9F4C11 01
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

XLOG_DATA: Final = ord("w")
KEEPALIVE: Final = ord("k")
STATUS_UPDATE: Final = b"r"
PAYLOAD_AT: Final = 25
"""Where the pgoutput message begins in an XLogData frame."""

EPOCH_S: Final = 946_684_800
"""Postgres counts time from 2000-01-01 UTC: that moment in Unix seconds."""

_XLOG_DATA = Struct(">cQQQ")
_KEEPALIVE = Struct(">cQQB")
_STATUS = Struct(">cQQQQB")


class XLogData(NamedTuple):
    """The header of a `w` frame; logical decoding gives both LSNs the same value."""

    start_lsn: int
    wal_end: int
    sent_us: int
    """When it was sent, in microseconds since 2000."""


class KeepaliveFrame(NamedTuple):
    """A `k` frame: `wal_end` is how far the server has decoded and sent."""

    wal_end: int
    sent_us: int
    reply_requested: bool


class FrameError(ValueError):
    """Bytes that are no frame of the protocol."""


def parse_xlog_data(frame: bytes | memoryview) -> XLogData:
    """The header of an XLogData frame. FrameError when it is truncated."""
    if len(frame) < PAYLOAD_AT or frame[0] != XLOG_DATA:
        raise FrameError(f"no XLogData frame: {len(frame)} bytes")
    _, start_lsn, wal_end, sent_us = _XLOG_DATA.unpack_from(frame)
    return XLogData(start_lsn, wal_end, sent_us)


def parse_keepalive(frame: bytes | memoryview) -> KeepaliveFrame:
    """A primary keepalive. FrameError when it is of another length."""
    if len(frame) != _KEEPALIVE.size or frame[0] != KEEPALIVE:
        raise FrameError(f"no keepalive frame: {len(frame)} bytes")
    _, wal_end, sent_us, reply = _KEEPALIVE.unpack(frame)
    return KeepaliveFrame(wal_end, sent_us, bool(reply))


def status_update(
    written: int, flushed: int, applied: int, *, unix_s: float, ask_reply: bool = False
) -> bytes:
    """A standby status update.

    `flushed` is what moves the slot; 0 leaves it where it is. With `ask_reply` the
    server answers at once with a keepalive.
    """
    assert flushed <= written, (flushed, written)
    sent_us = int((unix_s - EPOCH_S) * 1_000_000)
    return _STATUS.pack(
        STATUS_UPDATE, written, flushed, applied, max(sent_us, 0), ask_reply
    )
