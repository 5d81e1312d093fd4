"""What transactions come to: every key once, in doubt read back, nothing early."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

import pytest

from bridge.changes import (
    ABSENT,
    UNCHANGED,
    Change,
    ChangeKind,
    Event,
    Identity,
    Image,
    LogicalMessage,
    Relation,
    RelationColumn,
    Transaction,
    Truncate,
)
from bridge.derive.digest import Batch, Digester
from bridge.derive.route import RouteHalt
from bridge.derive.view import (
    Direct,
    DirectColumn,
    KeyQuery,
    TableName,
    TableUse,
    ViewPlan,
)
from bridge.operations import Operation
from bridge.position import Position
from bridge.shape import Shape

INT8, TEXT, MONEY = 20, 25, 790
EPOCH = 3
T = TableName(1, "public", "t")
U = TableName(2, "public", "u")


def relation(
    table: TableName = T,
    columns: Sequence[tuple[str, int]] = (("id", INT8), ("a", TEXT), ("b", TEXT)),
    identity: Iterable[str] = ("id",),
) -> Relation:
    """A table as the stream describes it."""
    described = [RelationColumn(n, oid, -1, n in set(identity)) for n, oid in columns]
    return Relation(
        table.oid, table.schema, table.name, Identity.DEFAULT, tuple(described)
    )


def plan(
    name: str,
    *,
    direct: Direct | None = None,
    queries: tuple[KeyQuery, ...] = (),
    tables: tuple[TableUse, ...],
    null_key: bool = False,
) -> ViewPlan:
    """A view of which nothing is known but how its keys are found."""
    return ViewPlan(
        name, "", Shape((), ("id",)), tables, queries, null_key, direct,
        "", "", "", "", "", "", "",
    )  # fmt: skip


def direct_plan(name: str = "v", *columns: tuple[str, int]) -> ViewPlan:
    """The rows of `t` as they are."""
    taken = columns or (("id", INT8), ("a", TEXT))
    return plan(
        name,
        direct=Direct(T, tuple(DirectColumn(n, n, o, -1) for n, o in taken), ("id",)),
        queries=(KeyQuery(T, "t", ("id",), None),),
        tables=(TableUse(T, frozenset(n for n, _ in taken), frozenset({"id"})),),
    )


def keyed_plan(*columns: str, used: Iterable[str] = ("id", "a")) -> ViewPlan:
    """A view over `t` with a condition: keys are read off the row."""
    names = columns or ("id",)
    query = KeyQuery(T, "t", names, None)
    use = TableUse(T, frozenset(used), frozenset(names))
    return plan("v", queries=(query,), tables=(use,))


def joined_plan(*, null_key: bool = False) -> ViewPlan:
    """A view whose keys are found from `u` by its column `link`."""
    queries = (
        KeyQuery(T, "t", ("id",), None),
        KeyQuery(U, "u", ("link",), "select …"),
    )
    tables = (
        TableUse(T, frozenset({"id", "a"}), frozenset({"id"})),
        TableUse(U, frozenset({"link", "x"}), frozenset({"link"})),
    )
    return plan("v", queries=queries, tables=tables, null_key=null_key)


REL = relation()
LINKED = relation(
    U, (("id", INT8), ("link", INT8), ("x", TEXT), ("unused", TEXT)), ("link",)
)
FULL = relation(identity=("id", "a", "b"))


def insert(*new: bytes | None, rel: Relation = REL) -> Change:
    return Change(ChangeKind.INSERT, rel, None, new)


def update(new: Image, old: Image | None = None, rel: Relation = REL) -> Change:
    return Change(ChangeKind.UPDATE, rel, old, new)


def delete(old: Image, rel: Relation = REL) -> Change:
    return Change(ChangeKind.DELETE, rel, old, None)


def gone(key: bytes) -> Change:
    return delete((key, ABSENT, ABSENT))


def moved(before: bytes, after: bytes) -> Change:
    return update((after, b"x", b"y"), (before, ABSENT, ABSENT))


def version(lsn: int) -> int:
    return Position(EPOCH, lsn).version


def transactions(*bodies: Sequence[Event], spilled: bool = False) -> list[Transaction]:
    """Transactions that end at 100, 200, …"""
    lsn = count(100, 100)
    return [
        Transaction(at, at, float(at), body, len(body), spilled)
        for body in bodies
        for at in (next(lsn),)
    ]


def digest(view: ViewPlan, *bodies: Sequence[Event]) -> Batch:
    """The one batch that these transactions come to."""
    [batch] = Digester([view], {}, epoch=EPOCH).digest(transactions(*bodies))
    return batch


def put(key: str, lsn: int, document: bytes | None) -> Operation:
    return Operation(key, (key,), version(lsn), document)


def test_a_row_becomes_its_document_at_its_transactions_version() -> None:
    batch = digest(direct_plan(), [insert(b"1", b"x", b"")], [insert(b"2", None, b"")])
    assert batch.puts == {
        "v": {
            "1": put("1", 100, b'{"id":1,"a":"x"}'),
            "2": put("2", 200, b'{"id":2,"a":null}'),
        }
    }
    assert not batch.reread
    assert (batch.end_lsn, batch.version_lsn, batch.version) == (200, 200, version(200))
    assert (batch.xids, batch.commit_time_s) == ((100, 200), 100.0)
    assert (batch.transactions, batch.changes) == (2, 2)
    assert batch.byte_size > len(b'{"id":1,"a":"x"}{"id":2,"a":null}')


def test_the_later_transaction_wins() -> None:
    batch = digest(
        direct_plan(),
        [insert(b"1", b"x", b"")],
        [update((b"1", b"y", b""))],
        [gone(b"1")],
        [insert(b"2", b"x", b"")],
        [gone(b"2")],
        [insert(b"2", b"z", b"")],
    )
    assert batch.puts["v"] == {
        "1": put("1", 300, None),
        "2": put("2", 600, b'{"id":2,"a":"z"}'),
    }
    assert not batch.reread


def test_a_new_key_takes_the_old_document_away() -> None:
    batch = digest(direct_plan(), [moved(b"1", b"2")])
    assert batch.puts["v"] == {
        "1": put("1", 100, None),
        "2": put("2", 100, b'{"id":2,"a":"x"}'),
    }


def test_keys_that_swap_in_one_transaction_are_read_back() -> None:
    """`update t set id = 3 - id` arrives as 1→2, 2→1."""
    batch = digest(direct_plan(), [moved(b"1", b"2"), moved(b"2", b"1")])
    assert not batch.puts
    assert batch.reread == {"v": {("1",): version(100), ("2",): version(100)}}


@pytest.mark.parametrize(
    "body",
    [
        [insert(b"1", b"x", b""), gone(b"1")],
        [gone(b"1"), insert(b"1", b"x", b"")],
        [insert(b"1", b"x", b""), gone(b"1"), insert(b"1", b"x", b"")],
        [gone(b"1"), insert(b"1", b"x", b""), gone(b"1")],
        [moved(b"1", b"2"), moved(b"2", b"1"), update((b"1", b"z", b""))],
    ],
)
def test_a_key_both_written_and_removed_stays_in_doubt(body: list[Event]) -> None:
    batch = digest(direct_plan(), body)
    assert "1" not in batch.puts.get("v", {})
    assert batch.reread["v"][("1",)] == version(100)


def test_a_chain_of_keys_loses_none() -> None:
    """`update t set id = id + 1` over three rows."""
    body = [moved(b"1", b"2"), moved(b"2", b"3"), moved(b"3", b"4")]
    batch = digest(direct_plan(), body)
    assert batch.puts["v"].keys() == {"1", "4"}
    assert batch.reread["v"].keys() == {("2",), ("3",)}


def test_doubt_ends_with_the_next_transaction_and_comes_again() -> None:
    doubt: list[Event] = [gone(b"1"), insert(b"1", b"x", b"")]
    after = digest(direct_plan(), doubt, [update((b"1", b"y", b""))])
    assert after.puts["v"] == {"1": put("1", 200, b'{"id":1,"a":"y"}')}
    assert not after.reread
    removed = digest(direct_plan(), doubt, [gone(b"1")])
    assert removed.puts["v"] == {"1": put("1", 200, None)}
    assert not removed.reread
    again = digest(direct_plan(), [insert(b"1", b"x", b"")], doubt)
    assert not again.puts
    assert again.reread == {"v": {("1",): version(200)}}


def test_an_unchanged_large_value_is_read_back() -> None:
    batch = digest(direct_plan(), [update((b"1", UNCHANGED, b"new"))])
    assert batch.reread == {"v": {("1",): version(100)}}
    assert not batch.puts


def test_an_unchanged_large_value_that_no_view_uses_does_not_matter() -> None:
    batch = digest(direct_plan(), [update((b"1", b"x", UNCHANGED))])
    assert batch.puts["v"]["1"].document == b'{"id":1,"a":"x"}'


def test_an_unchanged_large_value_is_taken_from_a_full_old_image() -> None:
    body = [update((b"2", UNCHANGED, b""), (b"1", b"large", b""), FULL)]
    batch = digest(direct_plan(), body)
    assert batch.puts["v"]["2"].document == b'{"id":2,"a":"large"}'
    assert batch.puts["v"]["1"].document is None


def test_a_type_without_a_known_form_has_all_rows_read_back() -> None:
    rel = relation(columns=(("id", INT8), ("m", MONEY)))
    view = direct_plan("v", ("id", INT8), ("m", MONEY))
    batch = digest(view, [insert(b"1", b"$1", rel=rel), delete((b"2", ABSENT), rel)])
    assert batch.reread == {"v": {("1",): version(100)}}
    assert batch.puts["v"] == {"2": put("2", 100, None)}


def test_a_table_described_anew_is_encoded_anew() -> None:
    more = relation(columns=(("b", TEXT), ("id", INT8), ("a", TEXT)))
    body = [insert(b"1", b"x", b""), insert(b"", b"2", b"y", rel=more)]
    batch = digest(direct_plan(), body)
    assert batch.puts["v"]["2"].document == b'{"id":2,"a":"y"}'
    retyped = relation(columns=(("id", INT8), ("a", INT8), ("b", TEXT)))
    batch = digest(direct_plan(), [insert(b"1", b"7", b"", rel=retyped)])
    assert batch.reread == {"v": {("1",): version(100)}}


def test_truncate_puts_what_was_written_in_doubt() -> None:
    body: list[Event] = [insert(b"2", b"x", b""), Truncate((REL,))]
    body.append(insert(b"3", b"x", b""))
    batch = digest(direct_plan(), [insert(b"1", b"x", b"")], body)
    assert batch.truncated == {1}
    assert not batch.puts
    assert batch.reread == {"v": {(k,): version(200) for k in "123"}}
    later = digest(direct_plan(), [Truncate((REL,))], [insert(b"1", b"x", b"")])
    assert later.puts["v"] == {"1": put("1", 200, b'{"id":1,"a":"x"}')}
    assert later.truncated == {1}


def test_truncate_of_a_table_that_no_view_reads() -> None:
    assert digest(direct_plan(), [Truncate((LINKED,))]).empty


def test_a_table_that_no_view_reads_is_only_counted() -> None:
    row = insert(b"1", b"2", b"", b"", rel=LINKED)
    batch = digest(direct_plan(), [row, row])
    assert batch.empty
    assert (batch.changes, batch.end_lsn, batch.xids) == (2, 100, (100,))


def test_messages_stand_with_the_end_of_their_transaction() -> None:
    batch = digest(direct_plan(), [], [LogicalMessage("pgbridge", b"marker")])
    assert batch.messages == (("pgbridge", b"marker", 200),)
    assert batch.empty


def test_keys_of_both_images_are_read_back() -> None:
    body = [moved(b"1", b"2"), insert(b"3", b"x", b""), gone(b"4")]
    batch = digest(keyed_plan(), body)
    assert batch.reread == {"v": {(k,): version(100) for k in "1234"}}
    assert not batch.puts


def test_a_null_in_a_key_read_off_the_row() -> None:
    batch = digest(keyed_plan("a"), [insert(b"1", None, b"")])
    assert batch.reread == {"v": {(None,): version(100)}}


def test_images_old_and_new_each_once() -> None:
    old, new = (b"9", b"1", b"x", ABSENT), (b"9", b"2", b"x", b"")
    again = (b"8", b"2", b"x", b"")
    body = [
        update(new, old, LINKED),
        insert(*again, rel=LINKED),
        delete((ABSENT, None, ABSENT, ABSENT), LINKED),
    ]
    batch = digest(joined_plan(), body)
    assert batch.images == {("v", 1): [(b"1",), (b"2",), (None,)]}


def test_an_update_of_unused_columns_alone_is_no_work() -> None:
    """A full old image tells; an identity that is all that is used tells by silence."""
    full = relation(identity=("id", "a", "b"))
    body = [update((b"1", b"x", b"new"), (b"1", b"x", b"old"), full)]
    assert digest(direct_plan(), body).empty
    assert digest(keyed_plan(used=("id",)), [update((b"1", b"x", b"new"))]).empty
    unchanged = [update((b"1", UNCHANGED, b"new"), (b"1", b"x", b"old"), full)]
    assert digest(direct_plan(), unchanged).empty


def test_an_update_that_might_have_changed_something_is_work() -> None:
    assert not digest(keyed_plan(), [update((b"1", b"x", b"new"))]).empty
    body = [update((b"1", b"y", b""), (b"1", b"x", b""), FULL)]
    assert not digest(direct_plan(), body).empty
    unknown = [update((b"1", b"x", b""), (b"1", ABSENT, ABSENT))]
    assert not digest(direct_plan(), unknown).empty
    nulled = [update((b"1", None, b""), (b"1", b"x", b""), FULL)]
    assert not digest(direct_plan(), nulled).empty


def test_the_null_key() -> None:
    batch = digest(joined_plan(null_key=True), [insert(b"1", b"x", b"")])
    assert batch.null_keys == {"v"}


@pytest.mark.parametrize(
    ("view", "change"),
    [
        (direct_plan(), delete((ABSENT, b"x", b""), relation(identity=("a",)))),
        (direct_plan(), update((b"1", b"x", b""), rel=relation(identity=("a",)))),
        (direct_plan(), delete((None, ABSENT, ABSENT))),
        (direct_plan(), update((b"1", b"x", b""), (None, ABSENT, ABSENT))),
        (keyed_plan(), delete((ABSENT, b"x", b""), relation(identity=("a",)))),
        (keyed_plan(), update((b"1", b"x", b""), rel=relation(identity=()))),
        (
            joined_plan(),
            delete(
                (b"1", ABSENT, ABSENT),
                relation(U, (("id", INT8), ("link", INT8), ("x", TEXT))),
            ),
        ),
        (
            joined_plan(),
            update(
                (b"1", b"2", b"x"),
                rel=relation(U, (("id", INT8), ("link", INT8), ("x", TEXT))),
            ),
        ),
        (joined_plan(), update((b"1", UNCHANGED, b"x", b""), rel=LINKED)),
        (joined_plan(), insert(b"1", b"x", rel=relation(U, (("id", 20), ("x", 25))))),
        (direct_plan(), insert(b"x", rel=relation(columns=(("a", TEXT),)))),
    ],
)
def test_what_the_log_lacks_halts_and_names_it(view: ViewPlan, change: Change) -> None:
    with pytest.raises(RouteHalt) as raised:
        digest(view, [change])
    assert raised.value.view == "v"
    assert f"public.{change.relation.name}" in raised.value.message
    assert raised.value.hint


def test_an_insert_needs_no_identity() -> None:
    rel = relation(identity=())
    assert not digest(direct_plan(), [insert(b"1", b"x", b"", rel=rel)]).empty


def test_several_views_of_one_table() -> None:
    digester = Digester(
        [direct_plan("one"), direct_plan("two", ("id", INT8))], {}, epoch=EPOCH
    )
    [batch] = digester.digest(transactions([insert(b"1", b"x", b"")]))
    assert batch.puts["one"]["1"].document == b'{"id":1,"a":"x"}'
    assert batch.puts["two"]["1"].document == b'{"id":1}'


def test_nothing_comes_of_nothing() -> None:
    digester = Digester([direct_plan()], {}, epoch=EPOCH, position=7)
    assert list(digester.digest([])) == []
    assert digester.position == 7


def spilled(lsn: int, events: Sequence[Event]) -> Transaction:
    return Transaction(lsn, lsn, float(lsn), events, len(events), spilled=True)


def test_a_spilled_transaction_comes_in_pieces_none_acknowledged_early() -> None:
    rows = [insert(str(k).encode(), b"x", b"") for k in range(5000)]
    before, *_ = transactions([insert(b"a", b"x", b"")])
    after = Transaction(900, 900, 900.0, [insert(b"b", b"x", b"")], 1)
    digester = Digester([direct_plan()], {}, epoch=EPOCH, piece_changes_max=1000)
    batches = list(digester.digest([before, spilled(500, rows), after]))
    first, *pieces, last = batches
    assert (first.end_lsn, last.end_lsn, last.version_lsn) == (100, 900, 900)
    assert len(pieces) > 3
    assert [piece.end_lsn for piece in pieces] == [100] * (len(pieces) - 1) + [500]
    assert {piece.version_lsn for piece in pieces} == {500}
    assert {piece.xids for piece in pieces} == {(500,)}
    assert sum(piece.transactions for piece in batches) == 3
    assert sum(piece.changes for piece in batches) == 5002
    read = [key for piece in pieces for key in piece.reread["v"]]
    assert sorted(read) == sorted((str(k),) for k in range(5000))
    assert not any(piece.puts for piece in pieces)
    assert max(len(piece.reread["v"]) for piece in pieces) < 2100
    assert digester.position == 900


def test_pieces_are_bounded_in_bytes() -> None:
    rows = [insert(str(k).encode(), b"x", b"") for k in range(5000)]
    digester = Digester([direct_plan()], {}, epoch=EPOCH, piece_bytes_max=1)
    assert len(list(digester.digest([spilled(500, rows)]))) == 5


def test_a_spilled_transaction_leaves_no_delete_at_its_own_version() -> None:
    """Removed in one piece, written in another, at one version: read back in both."""
    rows: list[Event] = [gone(b"1")]
    rows += [insert(str(k).encode(), b"x", b"") for k in range(2, 2000)]
    rows.append(insert(b"1", b"x", b""))
    digester = Digester([direct_plan()], {}, epoch=EPOCH, piece_changes_max=1000)
    first, *_, last = digester.digest([spilled(500, rows)])
    assert ("1",) in first.reread["v"]
    assert ("1",) in last.reread["v"]
    assert not first.puts


def test_what_was_dropped_from_a_spilled_row_may_have_changed() -> None:
    rows = [update((b"1", ABSENT, ABSENT), (b"1", ABSENT, ABSENT), FULL)]
    digester = Digester([direct_plan()], {}, epoch=EPOCH)
    [batch] = digester.digest([spilled(500, rows)])
    assert batch.reread == {"v": {("1",): version(500)}}


def test_what_a_spilled_transaction_keeps() -> None:
    digester = Digester([direct_plan(), joined_plan()], {}, epoch=EPOCH)
    assert digester.keep(REL) == {"id"}
    assert digester.keep(LINKED) == {"link"}
    assert digester.keep(relation(TableName(9, "public", "other"))) == frozenset()
