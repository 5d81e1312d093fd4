"""The rows of a partitioned table are written with the identity of its partitions."""

from __future__ import annotations

from struct import pack

import pytest

from bridge.changes import ABSENT, Change, Identity
from bridge.decode.transactions import TransactionAssembler
from bridge.derive.view import KeyQuery, TableName, TableUse, ViewPlan
from bridge.live_digest import LiveDigest
from bridge.shape import Shape

ROOT, PLAIN = TableName(100, "public", "sale"), TableName(101, "public", "note")
COLUMNS = ("id", "store", "amount")
NEEDED = frozenset({"id", "store"})


def plan(table: TableName, *, by_leaf: bool) -> ViewPlan:
    return ViewPlan(
        name=table.name,
        query="",
        shape=Shape((), ()),
        tables=(TableUse(table, frozenset(COLUMNS), NEEDED, by_leaf=by_leaf),),
        key_queries=(KeyQuery(table, table.name, ("store",), "select"),),
        null_key=False,
        direct=None,
        documents_sql="",
        cast_sql="",
        scan_sql="",
        boundary_sql="",
        estimate_sql="",
        matching_sql="",
        fingerprint="",
    )


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def described(table: TableName, identity: Identity, carried: str) -> bytes:
    start = b"R" + pack(">I", table.oid) + text(table.schema) + text(table.name)
    columns = b"".join(
        pack(">B", name in carried.split()) + text(name) + pack(">Ii", 25, -1)
        for name in COLUMNS
    )
    return start + identity.encode() + pack(">H", len(COLUMNS)) + columns


def deleted(table: TableName, tag: bytes, *values: bytes | None) -> bytes:
    row = pack(">H", len(values)) + b"".join(
        b"n" if value is None else b"t" + pack(">I", len(value)) + value
        for value in values
    )
    return b"D" + pack(">I", table.oid) + tag + row


def old_image(table: TableName, description: bytes, row: bytes) -> list[object]:
    digest = LiveDigest(
        [plan(ROOT, by_leaf=True), plan(PLAIN, by_leaf=False)], {}, epoch=1
    )
    assembler = TransactionAssembler(digest.keep, describe=digest.describe)
    begin, commit = b"B" + pack(">QqI", 9, 0, 7), b"C" + pack(">BQQq", 0, 9, 10, 0)
    [transaction] = assembler.feed([begin, description, row, commit])
    [change] = transaction.events
    assert isinstance(change, Change)
    assert change.old is not None
    return list(change.old)


@pytest.mark.parametrize(
    ("identity", "carried", "tag"),
    [(Identity.DEFAULT, "id", b"K"), (Identity.FULL, "id store amount", b"O")],
    ids=["narrower root", "wider root"],
)
def test_an_old_row_of_a_partition_has_what_each_partition_logs(
    identity: Identity, carried: str, tag: bytes
) -> None:
    """What not all of them log is absent: null there says nothing."""
    description = described(ROOT, identity, carried)
    row = deleted(ROOT, tag, b"1", None, None)
    assert old_image(ROOT, description, row) == [b"1", None, ABSENT]


def test_an_old_row_of_a_plain_table_has_what_its_description_says() -> None:
    description = described(PLAIN, Identity.DEFAULT, "id")
    row = deleted(PLAIN, b"K", b"1", None, None)
    assert old_image(PLAIN, description, row) == [b"1", ABSENT, ABSENT]
