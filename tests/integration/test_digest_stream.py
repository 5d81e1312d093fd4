"""Random transactions through a real slot and the digest end where Postgres is."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from bridge.capture.connection import SESSION
from bridge.changes import Transaction
from bridge.decode.transactions import TransactionAssembler
from bridge.derive.digest import Batch, Digester
from bridge.derive.view import (
    Direct,
    DirectColumn,
    KeyQuery,
    TableName,
    TableUse,
    ViewPlan,
)
from bridge.shape import Shape

Connection = psycopg.Connection[tuple[Any, ...]]
KEYS, ROUNDS, STATEMENTS = 6, 30, 4
VIEWS = {
    "direct": "select id, a, large from t",
    "some": "select id, a from t where a > 3",
    "narrow": "select id from t",
}


@pytest.fixture
def source(any_database: str) -> Iterator[Connection]:
    """A database with a table, a publication of it and a slot."""
    slot = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(any_database, autocommit=True) as connection:
        for name, value in SESSION.items():
            if name not in ("search_path", "statement_timeout"):
                connection.execute("select set_config(%s, %s, false)", (name, value))
        connection.execute(
            "create table t (a int, id int primary key, b text, large text)"
        )
        connection.execute("alter table t alter column large set storage external")
        connection.execute("create publication p for table t")
        connection.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
        )
        connection.execute("select set_config('test.slot', %s, false)", (slot,))
        yield connection
        connection.execute("select pg_drop_replication_slot(%s)", (slot,))


def plans(connection: Connection) -> list[ViewPlan]:
    """Views that take the table's rows in each of the ways that have no query."""
    row = connection.execute("select 't'::regclass::oid::int8").fetchone()
    assert row is not None
    table = TableName(row[0], "public", "t")
    types = {"id": 23, "a": 23, "large": 25}

    def view(name: str, columns: list[str], *, direct: bool) -> ViewPlan:
        taken = tuple(DirectColumn(c, c, types[c], -1) for c in columns)
        return ViewPlan(
            name, VIEWS[name], Shape((), ("id",)),
            (TableUse(table, frozenset(columns), frozenset({"id"})),),
            (KeyQuery(table, "t", ("id",), None),), False,
            Direct(table, taken, ("id",)) if direct else None,
            "", "", "", "", "", "", "",
        )  # fmt: skip

    return [
        view("direct", ["id", "a", "large"], direct=True),
        view("some", ["id", "a"], direct=False),
        view("narrow", ["id"], direct=True),
    ]


def statement(dice: random.Random) -> str:
    """Something that an application, or an administrator, might do."""
    if dice.random() < 0.03:
        return "truncate t"
    one, two = dice.sample(range(KEYS), 2)
    value = dice.randrange(8)
    large = f"repeat(md5('{value}'), 400)"
    return dice.choice(
        [
            (
                f"insert into t values ({value}, {one}, 'b', {large})"
                " on conflict (id) do update set a = excluded.a"
            ),
            f"insert into t values ({value}, {one}, 'b', null)",
            f"insert into t values ({value}, {one}, 'b', {large})",
            f"update t set a = {value} where id = {one}",
            f"update t set b = '{value}'",
            f"update t set large = {large} where id in ({one}, {two})",
            f"delete from t where id = {one}",
            (
                f"update t set id = {two} where id = {one}"
                f" and not exists (select from t where id = {two})"
            ),
            f"update t set id = id + {KEYS}",
            f"update t set id = {KEYS - 1} - id where id < {KEYS}",
            (
                f"update t set id = id % {KEYS} where id >= {KEYS}"
                f" and not exists (select from t where id < {KEYS})"
            ),
        ]
    )


def change(connection: Connection, dice: random.Random) -> None:
    """One transaction; what fails in it is rolled back to before the statement."""
    with connection.transaction():
        for _ in range(dice.randrange(1, STATEMENTS)):
            try:
                with connection.transaction():
                    connection.execute(statement(dice).encode())
            except (
                psycopg.errors.UniqueViolation,
                psycopg.errors.ObjectNotInPrerequisiteState,  # on conflict, deferrable
            ):
                continue


def streamed(
    connection: Connection, assembler: TransactionAssembler
) -> list[Transaction]:
    """What the slot has had since."""
    rows = connection.execute(
        "select data from pg_logical_slot_get_binary_changes("
        " current_setting('test.slot'), null, null,"
        " 'proto_version', '1', 'publication_names', 'p')"
    ).fetchall()
    return assembler.feed([row[0] for row in rows])


class Sink:
    """What is kept of one view: versions decide, as they do in every real sink."""

    def __init__(self, connection: Connection, view: str) -> None:
        self.documents: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self._connection = connection
        self._view = view

    def take(self, batch: Batch) -> None:
        """Write what the batch says, and read back what it asks for."""
        for operation in batch.puts.get(self._view, {}).values():
            self._write(operation.key, operation.version, operation.document)
        truth = expected(self._connection, self._view)
        for (key,) in batch.reread.get(self._view, {}):
            assert key is not None
            self._write(key, batch.version, truth.get(key))
        if batch.truncated:
            for key in list(self.documents):
                if key not in truth:
                    self._write(key, batch.version, None)

    def _write(self, key: str, version: int, document: bytes | None) -> None:
        if self._versions.get(key, 0) >= version:
            return
        self._versions[key] = version
        if document is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = document


def expected(connection: Connection, view: str) -> dict[str, bytes]:
    """Every document of the view as Postgres makes it now."""
    query = f"select id::text, row_to_json(v)::text from ({VIEWS[view]}) v"
    rows = connection.execute(query.encode()).fetchall()
    return {key: document.encode() for key, document in rows}


@pytest.mark.parametrize("swaps", [False, True])
def test_every_view_ends_where_postgres_is(
    source: Connection, seed: int, *, swaps: bool
) -> None:
    """Keys that move, swap, come back and go; large values; identities that change.

    Rows swap keys only where the key is checked at the end of the statement, which
    Postgres takes for an identity only as `full`.
    """
    dice = random.Random(seed)
    if swaps:
        source.execute("alter table t drop constraint t_pkey")
        source.execute("alter table t add primary key (id) deferrable")
        source.execute("alter table t replica identity full")
    assembler = TransactionAssembler()
    digester = Digester(plans(source), {}, epoch=1, piece_changes_max=1)
    sinks = {view: Sink(source, view) for view in VIEWS}
    straight = 0
    for _ in range(ROUNDS):
        if not swaps and dice.random() < 0.2:
            full = dice.choice(["full", "default"])
            source.execute(f"alter table t replica identity {full}".encode())
        for _ in range(dice.randrange(1, 4)):
            change(source, dice)
        for batch in digester.digest(streamed(source, assembler)):
            straight += len(batch.puts.get("direct", {}))
            for sink in sinks.values():
                sink.take(batch)
        for view, sink in sinks.items():
            assert sink.documents == expected(source, view), view
    assert straight > ROUNDS // 4
