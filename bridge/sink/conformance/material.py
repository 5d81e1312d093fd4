"""What the suite writes: operations, and keys and documents of every nasty sort.

The one thing to know: documents have only the columns of `COLUMNS`, since a sink may
refuse what its mapping does not know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bridge.keys import key_text
from bridge.operations import Operation, Report
from bridge.position import Position
from bridge.shape import Column, Kind, Shape, TypeShape
from bridge.sink import WHOLE, Generation, Owner, Part, Sink, Stored

OWNER = Owner("7000000000000000001", "shop", "pgbridge")
OTHER = Owner("7000000000000000002", "shop", "pgbridge")
EPOCH = 3
TEXT = TypeShape(Kind.SCALAR, "text", 25)
COLUMNS = (
    Column("a", TEXT),
    Column("b", TEXT),
    Column("body", TEXT),
    Column("price", TypeShape(Kind.SCALAR, "numeric", 1700)),
    Column("on", TypeShape(Kind.SCALAR, "bool", 16)),
    Column("list", TypeShape(Kind.JSON, "json", 114)),
)
SINGLE = Shape(COLUMNS, ("a",))
COMPOSITE = Shape(COLUMNS, ("a", "b"))

NASTY_PARTS = (
    "plain",
    " ",
    " spaces around ",
    "ünïcödé ☃ 𝄞 日本",
    "e\u0301",
    "a:b",
    "100%",
    "%00",
    "%3A",
    "sha256:" + "0" * 64,
    "sha256:",
    "x" * 512,
    "x" * 513,
    "ü" * 256,
    "ü" * 257,
    "",
    "/../?&#*",
    "{a}",
    "{}[]*?^\\",
    '"quoted"',
    "_underscore",
    "new\nline\ttab\x7f\x01",
    "null",
    "NULL",
    "0",
    "-1",
)
NASTY_DOCUMENTS = {
    "numeric": b'{"a":"numeric","price":' + b"9" * 60 + b"." + b"1" * 39 + b"0}",
    "small": b'{"a":"small","price":-0.000000000000000000000000000000000000010}',
    "unicode": '{"a":"unicode","body":"ünïcödé ☃ 𝄞 \\u2028 \\ud834\\udd1e"}'.encode(),
    "escapes": rb'{"a":"escapes","body":"line\nbreak \r\t \"q\" \\ \/ \u0001"}',
    "nulls": b'{"a":"nulls","b":null,"body":null,"price":null,"on":null,"list":null}',
    "empty": b'{"a":"empty","b":"","body":"","list":[]}',
    "json": b'{"a":"json","list":[{"x": [1, 2.50, null]}, "s", {}], "on":true}',
    "spaces": b'{"a" : "spaces" , "price" : 1.10 , "on" : false }',
    "large": b'{"a":"large","body":"' + b"0123456789abcde " * 65_536 + b'"}',
}
DIFFERENT_DOCUMENTS = {
    "numeric": b'{"a":"numeric","price":' + b"9" * 60 + b"." + b"1" * 39 + b"1}",
    "small": b'{"a":"small","price":-0.000000000000000000000000000000000000011}',
    "unicode": '{"a":"unicode","body":"ünïcödé ☃ \\u2028 \\ud834\\udd1e"}'.encode(),
    "nulls": b'{"a":"nulls","b":"","body":null,"price":null,"on":null,"list":null}',
    "empty": b'{"a":"empty","b":"","body":null,"list":[]}',
    "json": b'{"a":"json","list":[{"x": [1, 2.50, null]}, "s", []], "on":true}',
    "spaces": b'{"a" : "spaces" , "price" : 1.10 , "on" : true }',
    "large": b'{"a":"large","body":"' + b"0123456789abcde " * 65_535 + b'"}',
}
"""Almost the same, and not to be taken for the same."""


def version(lsn: int, epoch: int = EPOCH) -> int:
    """The version of an LSN in the epoch of the suite."""
    return Position(epoch, lsn).version


def put(key: str, lsn: int, body: str = "") -> Operation:
    """A put of a document whose body tells which one it was."""
    text = json.dumps({"a": key, "body": body or f"{key} at {lsn}"})
    return Operation(key_text((key,)), (key,), version(lsn), text.encode())


def delete(key: str, lsn: int) -> Operation:
    """A delete."""
    return Operation(key_text((key,)), (key,), version(lsn), None)


async def scanned(
    sink: Sink,
    generation: Generation,
    *,
    documents: bool = True,
    part: Part = WHOLE,
) -> dict[str, Stored]:
    """All that a scan gives, by key; no key may come twice with another content."""
    found: dict[str, Stored] = {}
    async for page in sink.scan(generation, documents=documents, part=part):
        for stored in page:
            assert found.setdefault(stored.key, stored) == stored
    return found


def outcomes(report: Report, operations: Sequence[Operation]) -> tuple[int, int]:
    """(kept, superseded), having checked that each operation has one outcome."""
    counted = [
        *[-1] * (report.kept + report.superseded),
        *report.foreign,
        *report.rejections,
        *report.again,
    ]
    assert len(counted) == len(operations), report
    named = [index for index in counted if index >= 0]
    assert len(set(named)) == len(named), report
    for index, rejection in report.rejections.items():
        assert rejection.key == operations[index].key
        assert rejection.reason
    return report.kept, report.superseded
