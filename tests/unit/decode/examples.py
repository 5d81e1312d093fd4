"""pgoutput messages: some as Postgres 18 sent them, and a writer for any others.

The tables of the captured ones:

    create table k (id int primary key, name text, big text, m mood)
    create table f (id int primary key, name text)   -- replica identity full
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack

from bridge.changes import ABSENT, UNCHANGED, Relation, Value

CAPTURED = {
    "begin": "42 000000003d18f8b8 000303f61d52243e 00022253",
    "commit": "43 00 000000003d18f8b8 000000003d18f8e8 000303f61d52243e",
    "type": "59 00004299 7075626c696300 6d6f6f6400",
    "relation k": "52 0000429d 7075626c696300 6b00 64 0004"
    " 01 696400 00000017ffffffff 00 6e616d6500 00000019ffffffff"
    " 00 62696700 00000019ffffffff 00 6d00 00004299ffffffff",
    "relation f": "52 000042a5 7075626c696300 6600 66 0002"
    " 01 696400 00000017ffffffff 01 6e616d6500 00000019ffffffff",
    "insert": "49 0000429d 4e 0004 740000000132 6e 7400000002c3a9 7400000003626164",
    "update": "55 0000429d 4e 0004 740000000131 740000000162 75 74000000026f6b",
    "update of the key": "55 0000429d 4b 0004 740000000131 6e 6e 6e"
    " 4e 0004 740000000133 740000000162 75 74000000026f6b",
    "delete": "44 0000429d 4b 0004 740000000132 6e 6e 6e",
    "update, full": "55 000042a5 4f 0002 740000000131 740000000161"
    " 4e 0002 740000000131 6e",
    "delete, full": "44 000042a5 4f 0002 740000000131 6e",
    "truncate": "54 00000002 03 0000429d 000042a5",
    "origin": "4f 0000000000000000 636170747572655f6f00",
    "message": "4d 01 000000003d191968 706762726964676500 00000002 3432",
    "message outside": "4d 00 000000003d1919f8 706762726964676500 00000003 6f7574",
}
"""As hexadecimal text, with spaces between the fields."""


def captured(name: str) -> bytes:
    """The bytes of one example."""
    return bytes.fromhex(CAPTURED[name])


def begin(xid: int, lsn: int = 1) -> bytes:
    """A Begin message."""
    return b"B" + pack(">QQI", lsn, 0, xid)


def commit(end_lsn: int) -> bytes:
    """A Commit message."""
    return b"C\0" + pack(">QQQ", end_lsn - 8, end_lsn, 0)


def describe(relation: Relation) -> bytes:
    """The Relation message of `relation`."""
    columns = b"".join(
        pack(">B", column.in_identity)
        + column.name.encode()
        + b"\0"
        + pack(">Ii", column.type_oid, column.type_modifier)
        for column in relation.columns
    )
    schema = "" if relation.schema == "pg_catalog" else relation.schema
    return (
        b"R"
        + pack(">I", relation.oid)
        + f"{schema}\0{relation.name}\0{relation.identity}".encode()
        + pack(">H", len(relation.columns))
        + columns
    )


def image(values: Sequence[Value]) -> bytes:
    """TupleData; what is ABSENT is sent as null."""
    out = pack(">H", len(values))
    for value in values:
        if value is None or value is ABSENT:
            out += b"n"
        elif value is UNCHANGED:
            out += b"u"
        else:
            assert isinstance(value, bytes)
            out += b"t" + pack(">I", len(value)) + value
    return out


def insert(oid: int, new: Sequence[Value]) -> bytes:
    """An Insert message."""
    return b"I" + pack(">I", oid) + b"N" + image(new)


def update(
    oid: int, new: Sequence[Value], old: Sequence[Value] | None = None, tag: str = "K"
) -> bytes:
    """An Update message with an old image of the kind `tag`, or none."""
    before = b"" if old is None else tag.encode() + image(old)
    return b"U" + pack(">I", oid) + before + b"N" + image(new)


def delete(oid: int, old: Sequence[Value], tag: str = "K") -> bytes:
    """A Delete message."""
    return b"D" + pack(">I", oid) + tag.encode() + image(old)


def truncate(oids: Iterable[int], flags: int = 0) -> bytes:
    """A Truncate message."""
    numbers = tuple(oids)
    return b"T" + pack(f">IB{len(numbers)}I", len(numbers), flags, *numbers)


def message(prefix: str, content: bytes, *, transactional: bool = True) -> bytes:
    """A logical message."""
    return (
        b"M"
        + pack(">BQ", transactional, 1)
        + prefix.encode()
        + b"\0"
        + pack(">I", len(content))
        + content
    )
