"""Messages become transactions: whole, in order, within bounds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.changes import (
    ABSENT,
    UNCHANGED,
    Change,
    ChangeKind,
    Event,
    Identity,
    LogicalMessage,
    Relation,
    RelationColumn,
    Transaction,
    Truncate,
)
from bridge.decode.pgoutput import MessageError
from bridge.decode.transactions import DecodeLimits, TransactionAssembler
from tests.unit.decode import examples as pg

A = Relation(
    1,
    "public",
    "a",
    Identity.DEFAULT,
    (
        RelationColumn("id", 23, -1, in_identity=True),
        RelationColumn("body", 25, -1, in_identity=False),
        RelationColumn("link", 23, -1, in_identity=False),
    ),
)
FULL = Relation(
    2,
    "public",
    "b",
    Identity.FULL,
    (
        RelationColumn("id", 23, -1, in_identity=True),
        RelationColumn("body", 25, -1, in_identity=True),
    ),
)
KEPT = frozenset({"id", "link"})
ROOMY = DecodeLimits()
SMALL = DecodeLimits(transaction_bytes_max=1_000, spill_memory_bytes_max=400)


def keep(_: Relation) -> frozenset[str]:
    return KEPT


def whole(messages: Iterable[bytes]) -> list[Transaction]:
    return TransactionAssembler().feed(list(messages))


def one(body: Iterable[bytes], limits: DecodeLimits = ROOMY) -> Transaction:
    assembler = TransactionAssembler(keep, limits)
    messages = [pg.begin(7), pg.describe(A), pg.describe(FULL), *body, pg.commit(99)]
    (transaction,) = assembler.feed(messages)
    assert not assembler.inside
    return transaction


def test_a_transaction_has_what_the_server_said() -> None:
    captured = [
        "begin",
        "type",
        "relation k",
        "insert",
        "update",
        "update of the key",
        "delete",
        "commit",
    ]
    (transaction,) = whole(map(pg.captured, captured))
    k = transaction.described[0]
    assert transaction.xid == 0x22253
    assert transaction.end_lsn == 0x3D18F8E8
    assert transaction.commit_time_s == pytest.approx(1795465318.892606, abs=1e-5)
    assert transaction.count == 4
    assert not transaction.spilled
    events = [
        Change(ChangeKind.INSERT, k, None, (b"2", None, "é".encode(), b"bad")),
        Change(ChangeKind.UPDATE, k, None, (b"1", b"b", UNCHANGED, b"ok")),
        Change(
            ChangeKind.UPDATE,
            k,
            (b"1", ABSENT, ABSENT, ABSENT),
            (b"3", b"b", UNCHANGED, b"ok"),
        ),
        Change(ChangeKind.DELETE, k, (b"2", ABSENT, ABSENT, ABSENT), None),
    ]
    assert list(transaction.events) == events
    assert list(transaction.events) == events


def test_a_full_identity_carries_all_old_columns_nulls_too() -> None:
    (transaction,) = whole(
        map(
            pg.captured,
            ["begin", "relation f", "update, full", "delete, full", "commit"],
        )
    )
    update, delete = transaction.events
    assert isinstance(update, Change)
    assert isinstance(delete, Change)
    assert (update.old, update.new) == ((b"1", b"a"), (b"1", None))
    assert (delete.old, delete.new) == ((b"1", None), None)


def test_nothing_leaves_before_the_commit() -> None:
    assembler = TransactionAssembler()
    for message in (pg.begin(7), pg.describe(A), pg.insert(1, [b"1", b"x", None])):
        assert assembler.feed([message]) == []
        assert assembler.inside
    (transaction,) = assembler.feed([pg.commit(20)])
    assert transaction.count == 1
    assert not assembler.inside


def test_truncates_and_messages_stand_among_the_changes() -> None:
    transaction = one(
        [
            pg.insert(1, [b"1", b"x", None]),
            pg.truncate([1, 2], flags=1),
            pg.message("pgbridge", b"5"),
            pg.delete(1, [b"1", None, None]),
        ]
    )
    insert, truncate, message, delete = transaction.events
    assert isinstance(insert, Change)
    assert truncate == Truncate((A, FULL))
    assert message == LogicalMessage("pgbridge", b"5")
    assert isinstance(delete, Change)


def test_messages_outside_of_transactions_are_passed_by() -> None:
    out = pg.message("pgbridge", b"x", transactional=False)
    transactions = whole([out, pg.begin(1), pg.commit(9), out])
    assert [transaction.count for transaction in transactions] == [0]


def test_origins_are_passed_by() -> None:
    (transaction,) = whole([pg.begin(1), pg.captured("origin"), pg.commit(9)])
    assert transaction.count == 0


def test_a_description_is_told_when_it_is_new_or_another() -> None:
    wider = Relation(
        A.oid,
        A.schema,
        A.name,
        A.identity,
        (*A.columns, RelationColumn("extra", 25, -1, in_identity=False)),
    )
    assembler = TransactionAssembler()
    rows = pg.insert(1, [b"1", b"x", None]), pg.insert(1, [b"2", b"x", None, b"e"])
    first, same, other = (
        assembler.feed([pg.begin(xid), pg.describe(relation), row, pg.commit(xid)])[0]
        for xid, relation, row in (
            (10, A, rows[0]),
            (20, A, rows[0]),
            (30, wider, rows[1]),
        )
    )
    assert first.described == (A,)
    assert same.described == ()
    assert other.described == (wider,)
    (change,) = other.events
    assert isinstance(change, Change)
    assert change.new == (b"2", b"x", None, b"e")
    # The one description is one object, for whoever compares by identity.
    relations = [
        c.relation for t in (first, same) for c in t.events if isinstance(c, Change)
    ]
    assert relations[0] is relations[1]


@pytest.mark.parametrize(
    "messages",
    [
        [pg.begin(1), pg.begin(2)],
        [pg.commit(9)],
        [pg.begin(1), pg.insert(1, [b"1"])],  # of a relation never described
        [pg.begin(1), pg.truncate([1])],
        [pg.begin(1), pg.describe(A), pg.insert(1, [b"1"])],
        [pg.begin(1), pg.describe(A), pg.insert(1, [b"1", None, None])[:-1]],
        [pg.begin(1), pg.describe(A), pg.insert(1, [b"1", None, b"abc"])[:-1]],
        [pg.begin(1), pg.describe(A), pg.insert(1, [b"1", None, None]) + b"n"],
        [pg.begin(1), pg.describe(A), pg.delete(1, [b"1", None, None], tag="N")],
        [pg.begin(1), pg.describe(A), pg.update(1, [b"1", None, None], [b"1"], "X")],
        [b""],
    ],
)
def test_what_cannot_be_is_an_error(messages: list[bytes]) -> None:
    with pytest.raises(MessageError):
        whole(messages)


def test_a_large_transaction_keeps_the_columns_asked_for() -> None:
    rows = 200
    transaction = one(
        [pg.update(1, [b"%d" % n, b"body", None]) for n in range(rows)], SMALL
    )
    assert transaction.spilled
    assert transaction.count == rows
    expected: list[Event] = [
        Change(ChangeKind.UPDATE, A, None, (b"%d" % n, ABSENT, None))
        for n in range(rows)
    ]
    assert list(transaction.events) == expected
    assert list(transaction.events) == expected


def test_old_keys_and_unchanged_values_survive_spilling() -> None:
    transaction = one(
        [
            *(pg.insert(1, [b"0", b"x", b"1"]) for _ in range(50)),
            pg.update(1, [b"2", b"x", UNCHANGED], [b"1", None, None]),
            pg.update(2, [b"2", b"x"], [b"1", None], tag="O"),
            pg.delete(1, [b"2", None, None]),
        ],
        SMALL,
    )
    key, full, delete = list(transaction.events)[-3:]
    assert key == Change(
        ChangeKind.UPDATE, A, (b"1", ABSENT, ABSENT), (b"2", ABSENT, UNCHANGED)
    )
    assert full == Change(ChangeKind.UPDATE, FULL, (b"1", ABSENT), (b"2", ABSENT))
    assert delete == Change(ChangeKind.DELETE, A, (b"2", ABSENT, ABSENT), None)


def test_a_value_beyond_the_limit_is_never_kept() -> None:
    big = b"x" * 5_000
    transaction = one([pg.insert(1, [b"1", big, b"2"])], SMALL)
    assert list(transaction.events) == [
        Change(ChangeKind.INSERT, A, None, (b"1", ABSENT, b"2"))
    ]


def test_rows_of_both_descriptions_in_one_large_transaction() -> None:
    other = Relation(A.oid, A.schema, A.name, A.identity, (A.columns[2], A.columns[0]))
    # The limit is passed by the first row after the new description.
    fitting = DecodeLimits(transaction_bytes_max=800, spill_memory_bytes_max=10)
    transaction = one(
        [
            *(pg.insert(1, [b"%d" % n, b"b", b"l"]) for n in range(2)),
            pg.describe(other),
            *(pg.insert(1, [b"m", b"%d" % n]) for n in range(2)),
            pg.describe(A),
            pg.insert(1, [b"9", b"b", b"l"]),
        ],
        fitting,
    )
    assert transaction.spilled
    changes = [event for event in transaction.events if isinstance(event, Change)]
    assert [(change.relation, change.new) for change in changes] == [
        (A, (b"0", ABSENT, b"l")),
        (A, (b"1", ABSENT, b"l")),
        (other, (b"m", b"0")),
        (other, (b"m", b"1")),
        (A, (b"9", ABSENT, b"l")),
    ]


def test_the_next_transaction_is_whole_again() -> None:
    assembler = TransactionAssembler(keep, SMALL)
    rows = [pg.insert(1, [b"%d" % n, b"body", None]) for n in range(100)]
    first, second = assembler.feed(
        [
            *(pg.begin(1), pg.describe(A), *rows, pg.commit(10)),
            *(pg.begin(2), rows[0], pg.commit(20)),
        ]
    )
    assert first.spilled
    assert not second.spilled
    assert list(second.events) == [
        Change(ChangeKind.INSERT, A, None, (b"0", b"body", None))
    ]
    assert next(iter(first.events)) == Change(
        ChangeKind.INSERT, A, None, (b"0", ABSENT, None)
    )


BODIES = st.lists(
    st.one_of(
        st.builds(lambda n: pg.insert(1, [b"%d" % n, b"b", None]), st.integers(0, 9)),
        st.builds(
            lambda n: pg.update(1, [b"%d" % n, UNCHANGED, b"l"], [b"1", None, None]),
            st.integers(0, 9),
        ),
        st.builds(lambda n: pg.delete(2, [b"%d" % n, None], "O"), st.integers(0, 9)),
        st.just(pg.truncate([2, 1])),
        st.builds(lambda c: pg.message("p", c), st.binary(max_size=40)),
    ),
    max_size=40,
)


def reduced(event: Event) -> Event:
    if not isinstance(event, Change):
        return event

    def image(values: Iterable[object] | None) -> tuple[object, ...] | None:
        if values is None:
            return None
        names = (column.name for column in event.relation.columns)
        pairs = zip(names, values, strict=True)
        return tuple(value if name in KEPT else ABSENT for name, value in pairs)

    return event._replace(old=image(event.old), new=image(event.new))  # type: ignore[arg-type]


@given(BODIES, st.integers(0, 8_000), st.integers(0, 2_000))
def test_wherever_the_limits_fall_the_events_are_the_same(
    body: list[bytes], transaction_bytes_max: int, spill_memory_bytes_max: int
) -> None:
    unlimited = one(body)
    limited = one(body, DecodeLimits(transaction_bytes_max, spill_memory_bytes_max))
    assert limited.count == unlimited.count
    expected = list(unlimited.events)
    if limited.spilled:
        expected = list(map(reduced, expected))
    assert list(limited.events) == expected
