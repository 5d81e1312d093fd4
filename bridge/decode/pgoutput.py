"""pgoutput, protocol version 1: bytes → message. Pure.

The one thing to know: this is the readable decoder of every message; rows under load
take the generated readers of `images`, which are tested against this one.
Format: "Logical Replication Message Formats" in Postgres' manual, for 15 to 18.

    42 00000000017A6A18 0002E9630DD4DEA5 000002F4                Begin
    43 00 00000000017A6A18 00000000017A6A48 0002E9630DD4DEA5     Commit
    49 00004002 4E 0002 74 00000001 31 6E                        Insert ('1', null)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple, NoReturn, TypeAlias

from bridge.changes import (
    UNCHANGED,
    Identity,
    Relation,
    RelationColumn,
    Value,
)
from bridge.errors import Halt

Buffer: TypeAlias = bytes | memoryview

EPOCH_US: Final = 946_684_800_000_000
"""Postgres counts time from 2000-01-01 UTC: that moment in Unix microseconds."""


class MessageError(Halt):
    """Bytes that are no message of protocol 1, or end too soon."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"the log stream cannot be read: {message}",
            hint="is the server a Postgres 15 to 18? Report it with `check --json`",
        )


class Begin(NamedTuple):
    """A transaction begins. `final_lsn` is its commit LSN: used for nothing."""

    final_lsn: int
    commit_time_us: int
    """Since 2000, as the server sends it."""
    xid: int


class Commit(NamedTuple):
    """It ends. `end_lsn` is the one position that a transaction has."""

    commit_lsn: int
    end_lsn: int
    commit_time_us: int


class Origin(NamedTuple):
    """Where the transaction was first committed, if it was replicated here."""

    commit_lsn: int
    name: str


class Type(NamedTuple):
    """A type that is not built in, before the relation that uses it."""

    oid: int
    schema: str
    name: str


class Insert(NamedTuple):
    """A new row."""

    relation_oid: int
    new: tuple[Value, ...]


class Update(NamedTuple):
    """`old` is None when neither an old key (`K`) nor an old row (`O`) was sent.

    In a `K` image the columns that are not of the identity are sent as null.
    """

    relation_oid: int
    old_is_key: bool
    old: tuple[Value, ...] | None
    new: tuple[Value, ...]


class Delete(NamedTuple):
    """A deleted row, as its old key or in full; columns as in `Update`."""

    relation_oid: int
    old_is_key: bool
    old: tuple[Value, ...]


class TruncateMessage(NamedTuple):
    """Tables emptied by one TRUNCATE."""

    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class Message(NamedTuple):
    """`pg_logical_emit_message`; outside of transactions if not transactional."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


AnyMessage: TypeAlias = (
    Begin
    | Commit
    | Origin
    | Relation
    | Type
    | Insert
    | Update
    | Delete
    | TruncateMessage
    | Message
)


def decode(buffer: Buffer, at: int = 0) -> AnyMessage:
    """The message that begins at `at` and fills the rest of the buffer.

    MessageError when it is unknown, truncated or too long.
    """
    try:
        reader = _Reader(buffer, at + 1)
        message = _message(buffer[at], reader)
    except (IndexError, struct.error, ValueError) as error:
        raise MessageError("a message ends early or is garbled") from error
    if reader.at != len(buffer):
        raise MessageError(f"{len(buffer) - reader.at} bytes beyond a message")
    return message


def unknown(kind: int) -> NoReturn:
    """MessageError: there is no such message in protocol 1."""
    raise MessageError(f"unknown message type {kind:#04x}")


_U8, _U16, _U32, _U64 = Struct(">B"), Struct(">H"), Struct(">I"), Struct(">Q")
_I32 = Struct(">i")
_BEGIN, _COMMIT = Struct(">QQI"), Struct(">xQQQ")
_make = tuple.__new__


@dataclass(slots=True)
class _Reader:
    """Reads fields one after the other; IndexError or struct.error at the end."""

    buffer: Buffer
    at: int

    def number(self, layout: Struct) -> int:
        (value,) = layout.unpack_from(self.buffer, self.at)
        self.at += layout.size
        assert isinstance(value, int)
        return value

    def numbers(self, layout: Struct) -> tuple[int, ...]:
        """All numbers of `layout`."""
        found = layout.unpack_from(self.buffer, self.at)
        self.at += layout.size
        return found

    def bytes(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.buffer):
            raise IndexError
        value = bytes(self.buffer[self.at : end])
        self.at = end
        return value

    def text(self) -> str:
        """A string up to its zero byte."""
        end = self.at
        while self.buffer[end]:
            end += 1
        value = bytes(self.buffer[self.at : end]).decode()
        self.at = end + 1
        return value

    def image(self) -> tuple[Value, ...]:
        """TupleData."""
        return tuple(self.value() for _ in range(self.number(_U16)))

    def value(self) -> Value:
        match self.number(_U8):
            case 0x74:  # t
                return self.bytes(self.number(_U32))
            case 0x6E:  # n
                return None
            case 0x75:  # u
                return UNCHANGED
            case kind:
                raise MessageError(f"unknown kind of column value {kind:#04x}")


def _message(kind: int, read: _Reader) -> AnyMessage:
    match chr(kind):
        case "B":
            return _make(Begin, read.numbers(_BEGIN))
        case "C":
            return _make(Commit, read.numbers(_COMMIT))
        case "O":
            return Origin(read.number(_U64), read.text())
        case "R":
            return _relation(read)
        case "Y":
            return Type(read.number(_U32), read.text() or "pg_catalog", read.text())
        case "I":
            oid = read.number(_U32)
            _expect(read, "N")
            return Insert(oid, read.image())
        case "U":
            return _update(read)
        case "D":
            oid = read.number(_U32)
            return Delete(oid, _expect(read, "KO") == "K", read.image())
        case "T":
            return _truncate(read)
        case "M":
            transactional = bool(read.number(_U8) & 1)
            lsn, prefix = read.number(_U64), read.text()
            return Message(transactional, lsn, prefix, read.bytes(read.number(_U32)))
        case _:
            unknown(kind)


def _expect(read: _Reader, tags: str) -> str:
    tag = chr(read.number(_U8))
    if tag not in tags:
        raise MessageError(f"{tag!r} where one of {tags!r} must be")
    return tag


def _relation(read: _Reader) -> Relation:
    oid = read.number(_U32)
    schema, name = read.text() or "pg_catalog", read.text()
    identity = Identity(chr(read.number(_U8)))
    columns = []
    for _ in range(read.number(_U16)):
        in_identity = bool(read.number(_U8) & 1)
        column = read.text()
        type_oid, modifier = read.number(_U32), read.number(_I32)
        columns.append(RelationColumn(column, type_oid, modifier, in_identity))
    return Relation(oid, schema, name, identity, tuple(columns))


def _update(read: _Reader) -> Update:
    oid = read.number(_U32)
    tag, old = _expect(read, "KON"), None
    old_is_key = tag == "K"
    if tag != "N":
        old = read.image()
        _expect(read, "N")
    return Update(oid, old_is_key, old, read.image())


def _truncate(read: _Reader) -> TruncateMessage:
    count, flags = read.number(_U32), read.number(_U8)
    oids = tuple(read.number(_U32) for _ in range(count))
    return TruncateMessage(oids, bool(flags & 1), bool(flags & 2))
