"""What a row costs between decoding and the lane: `python -m tests.bench.bench_digest`.

Synthetic transactions of 100 inserts of 10 columns, about 300 bytes a row. Prints
microseconds a row, the best of several runs, for each way that a view takes its rows.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from bridge.changes import (
    Change,
    ChangeKind,
    Event,
    Identity,
    Relation,
    RelationColumn,
    Transaction,
)
from bridge.derive.digest import Digester
from bridge.derive.fastpath import compile_direct
from bridge.derive.view import (
    Direct,
    DirectColumn,
    KeyQuery,
    TableName,
    TableUse,
    ViewPlan,
)
from bridge.shape import Shape

TABLE = TableName(1, "public", "orders")
COLUMNS = {
    "id": 20, "customer": 23, "status": 25, "title": 25, "price": 1700,
    "quantity": 23, "paid": 16, "placed": 1184, "changed": 1184, "note": 25,
}  # fmt: skip
RELATION = Relation(
    1,
    "public",
    "orders",
    Identity.DEFAULT,
    tuple(RelationColumn(n, oid, -1, n == "id") for n, oid in COLUMNS.items()),
)
DIRECT = Direct(
    TABLE, tuple(DirectColumn(n, n, oid, -1) for n, oid in COLUMNS.items()), ("id",)
)
TRANSACTIONS, ROWS, ROUNDS = 500, 100, 7


def plan(direct: Direct | None, query: KeyQuery) -> ViewPlan:
    """A view that takes its rows directly, or by the key query."""
    use = TableUse(TABLE, frozenset(COLUMNS), frozenset({"id"}))
    return ViewPlan(
        "orders", "", Shape((), ("id",)), (use,), (query,), False, direct,
        "", "", "", "", "", "", "",
    )  # fmt: skip


def row(number: int) -> list[bytes | None]:
    """About 300 bytes; one of twenty has a character that is escaped, some a null."""
    note = b"Leave with the neighbour at the second door on the left if nobody is in. "
    return [
        b"%d" % number,
        b"%d" % (number % 9973),
        b"shipped",
        b'A "quoted" title'
        if number % 20 == 0
        else b"A title of forty characters, all",
        b"%d.99" % (number % 1000),
        b"3",
        b"t" if number % 3 else b"f",
        b"2026-01-31 12:34:56.789012+00",
        b"2026-01-31 12:34:57.789012+00" if number % 5 else None,
        note * 2,
    ]


def transactions() -> list[Transaction]:
    """Distinct keys throughout."""
    made = []
    for at in range(TRANSACTIONS):
        rows = (row(at * ROWS + k) for k in range(ROWS))
        inserts = [Change(ChangeKind.INSERT, RELATION, None, tuple(v)) for v in rows]
        events: list[Event] = [*inserts]
        made.append(Transaction(at, 1000 + at, 0.0, events, len(events)))
    return made


def best(run: Callable[[], object], rows: int) -> float:
    """Microseconds a row of the fastest round."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times) / rows * 1e6


def main() -> None:
    """Measure and print."""
    work = transactions()
    gc.freeze()  # the input is not garbage, and a stream would not hold it
    rows = TRANSACTIONS * ROWS
    images = [
        event.new for t in work for event in t.events if isinstance(event, Change)
    ]
    encoder = compile_direct(DIRECT, RELATION, {})
    assert encoder is not None
    encode = encoder.encode

    def encode_all() -> None:
        for image in images:
            assert image is not None
            encode(image)

    by_key = KeyQuery(TABLE, "orders", ("id",), None)
    by_link = KeyQuery(TABLE, "orders", ("customer",), "select …")
    views = {
        "direct": plan(DIRECT, by_key),
        "direct keys": plan(None, by_key),
        "key query": plan(None, by_link),
    }
    size = sum(len(v) for v in row(1) if v)
    print(f"{rows} rows of {len(COLUMNS)} columns, {size} bytes")
    alone = best(encode_all, rows)
    print(f"{'encode alone':14}{alone:6.2f} us a row")
    for name, view in views.items():
        # Batches of 50 transactions, as a busy stream gives them.
        def digest(view: ViewPlan = view) -> None:
            digester = Digester([view], {}, epoch=1)
            for at in range(0, len(work), 50):
                list(digester.digest(work[at : at + 50]))

        cost = best(digest, rows)
        beyond = f", {cost - alone:.2f} beyond encode" if name == "direct" else ""
        print(f"{name:14}{cost:6.2f} us a row{beyond}")


if __name__ == "__main__":
    main()
