"""Every message of protocol 1 is read as Postgres sent it, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.changes import UNCHANGED, Identity, Relation, RelationColumn
from bridge.decode.pgoutput import (
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    MessageError,
    Origin,
    TruncateMessage,
    Type,
    Update,
    decode,
)
from bridge.errors import Halt
from tests.unit.decode.examples import CAPTURED, captured, describe

K, F, MOOD = 0x429D, 0x42A5, 0x4299
TIME_US = 0x000303F61D52243E
EXPECTED = {
    "begin": Begin(0x3D18F8B8, TIME_US, 0x22253),
    "commit": Commit(0x3D18F8B8, 0x3D18F8E8, TIME_US),
    "type": Type(MOOD, "public", "mood"),
    "relation k": Relation(
        K,
        "public",
        "k",
        Identity.DEFAULT,
        (
            RelationColumn("id", 23, -1, in_identity=True),
            RelationColumn("name", 25, -1, in_identity=False),
            RelationColumn("big", 25, -1, in_identity=False),
            RelationColumn("m", MOOD, -1, in_identity=False),
        ),
    ),
    "relation f": Relation(
        F,
        "public",
        "f",
        Identity.FULL,
        (
            RelationColumn("id", 23, -1, in_identity=True),
            RelationColumn("name", 25, -1, in_identity=True),
        ),
    ),
    "insert": Insert(K, (b"2", None, "é".encode(), b"bad")),
    "update": Update(K, old_is_key=False, old=None, new=(b"1", b"b", UNCHANGED, b"ok")),
    "update of the key": Update(
        K,
        old_is_key=True,
        old=(b"1", None, None, None),
        new=(b"3", b"b", UNCHANGED, b"ok"),
    ),
    "delete": Delete(K, old_is_key=True, old=(b"2", None, None, None)),
    "update, full": Update(F, old_is_key=False, old=(b"1", b"a"), new=(b"1", None)),
    "delete, full": Delete(F, old_is_key=False, old=(b"1", None)),
    "truncate": TruncateMessage((K, F), cascade=True, restart_identity=True),
    "origin": Origin(0, "capture_o"),
    "message": Message(
        transactional=True, lsn=0x3D191968, prefix="pgbridge", content=b"42"
    ),
    "message outside": Message(
        transactional=False, lsn=0x3D1919F8, prefix="pgbridge", content=b"out"
    ),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_messages_are_read(name: str) -> None:
    assert decode(captured(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", CAPTURED)
def test_a_message_is_read_from_within_a_frame(name: str) -> None:
    frame = b"\xff" * 25 + captured(name)
    assert decode(frame, 25) == EXPECTED[name]
    assert decode(memoryview(frame), 25) == EXPECTED[name]


@pytest.mark.parametrize("name", CAPTURED)
def test_every_truncation_is_a_message_error(name: str) -> None:
    whole = captured(name)
    for length in range(len(whole)):
        with pytest.raises(MessageError):
            decode(whole[:length])


@pytest.mark.parametrize("name", CAPTURED)
def test_bytes_beyond_a_message_are_an_error(name: str) -> None:
    with pytest.raises(MessageError):
        decode(captured(name) + b"\0")


@pytest.mark.parametrize(
    ("flags", "cascade", "restart"),
    [("00", False, False), ("01", True, False), ("02", False, True)],
)
def test_truncate_flags(*, flags: str, cascade: bool, restart: bool) -> None:
    read = decode(bytes.fromhex(f"54 00000001 {flags} 0000429d"))
    assert read == TruncateMessage((K,), cascade, restart)


@pytest.mark.parametrize(
    "garbled",
    [
        "53 00000001 01",  # Stream Start, of protocol 2
        "00",
        "49 0000429d 4f 0001 6e",  # an insert of an old row
        "55 0000429d 58 0001 6e",
        "44 0000429d 4e 0001 6e",
        "49 0000429d 4e 0001 62 00000001 01",  # binary, which nobody asked for
        "52 0000429d 00 ff00 64 0000",  # a name that is not UTF-8
        "52 0000429d 00 6b00 78 0000",  # an identity of no known kind
    ],
)
def test_what_is_not_protocol_1_halts_with_a_hint(garbled: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(bytes.fromhex(garbled))
    assert isinstance(caught.value, Halt)
    assert caught.value.hint


def test_values_do_not_stand_in_errors() -> None:
    with pytest.raises(MessageError) as caught:
        decode(bytes.fromhex("49 0000429d 4e 0001 74 00000006") + b"secret" + b"\0")
    assert "secret" not in caught.value.message


def test_a_schema_without_a_name_is_pg_catalog() -> None:
    relation = Relation(1, "pg_catalog", "t", Identity.NOTHING, ())
    assert decode(describe(relation)) == relation


def test_the_examples_are_all_expected() -> None:
    unexpected: Any = set(CAPTURED) ^ set(EXPECTED)
    assert not unexpected
