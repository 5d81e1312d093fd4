"""Points in the source's log: LSN, position, version.

The one thing to know: an LSN here is always the *end* LSN of a commit (or the end of
log the server has reported), never a commit LSN, and it means nothing without its
epoch, because a failover or a restore uses LSNs again.
"""

from __future__ import annotations

from typing import NamedTuple, Self

LSN_BITS = 53
LSN_MAX = (1 << LSN_BITS) - 1
EPOCH_MAX = (1 << (63 - LSN_BITS)) - 1
PAGE_BYTES = 8192
"""Size of a page of the log in every packaged build of Postgres."""
_SHORT_HEADER, _LONG_HEADER = 24, 40
_SEGMENT_BYTES = 16 << 20


def parse_lsn(text: str) -> int:
    """`16/B3748` as a byte offset into the log. ValueError when it is not one."""
    high, slash, low = text.partition("/")
    if not slash or not 0 < len(high) <= 8 or not 0 < len(low) <= 8:
        raise ValueError(f"{text!r} is not an LSN such as 16/B3748")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """The byte offset as Postgres prints it: `16/B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def page_start(lsn: int) -> int:
    """`lsn`, or the page's start where `lsn` is just past a page header.

    `pg_current_wal_insert_lsn()` skips the header of a page nothing was written to
    yet; the stream never reports such a position.
    """
    if lsn % PAGE_BYTES == _SHORT_HEADER:
        return lsn - _SHORT_HEADER
    if lsn % _SEGMENT_BYTES == _LONG_HEADER:  # the first page of a segment
        return lsn - _LONG_HEADER
    return lsn


def is_issued(version: int) -> bool:
    """Whether the bridge can have given out this version: epochs begin with 1. What
    others write to an index without one has 1, 2, …"""
    return version > LSN_MAX


class Position(NamedTuple):
    """A point in one history of the source; ordered by epoch, then LSN."""

    epoch: int
    lsn: int

    @property
    def version(self) -> int:
        """`epoch << 53 | lsn`: a document with it contains all up to here."""
        assert 0 <= self.epoch <= EPOCH_MAX, self.epoch
        assert 0 <= self.lsn <= LSN_MAX, self.lsn
        return self.epoch << LSN_BITS | self.lsn

    @classmethod
    def of_version(cls, version: int) -> Self:
        """The position that a version was made from."""
        return cls(version >> LSN_BITS, version & LSN_MAX)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`3:16/B3748` as printed by `str`. ValueError when it is not one."""
        epoch, colon, lsn = text.partition(":")
        if not colon or not epoch.isdecimal():
            raise ValueError(f"{text!r} is not a position such as 3:16/B3748")
        return cls(int(epoch), parse_lsn(lsn))

    def __str__(self) -> str:
        return f"{self.epoch}:{format_lsn(self.lsn)}"
