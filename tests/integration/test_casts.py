"""Keys and old values that are no values of their types any more: told from what fails
for a row as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.documents import NOT_UNIQUE, Derived, derive
from bridge.derive.plan import plan_view
from bridge.derive.view import ViewPlan
from bridge.keys import Parts
from bridge.source import QueryFailed, SnapshotReader
from bridge.source.postgres import PostgresSource, connect, identify

pytestmark = pytest.mark.integration

TABLES = (
    "create type public.mood as enum ('glad', 'sad')",
    "create table public.item (id int primary key, mood public.mood, n int not null)",
    "insert into public.item values (1, 'glad', 1), (2, 'sad', 0), (3, 'glad', 2)",
    "create table public.place (id int primary key, mood public.mood, code int)",
    "insert into public.place values (1, 'glad', 1), (2, 'sad', 6)",
)
GROUPED = "select mood, sum(6 / n) as n from item group by mood"
COUNTED = (
    "select p.id, (select count(*) from item i where i.mood = p.mood) as n from place p"
)


@asynccontextmanager
async def reading(
    dsn: str, query: str, *tables: str, key: tuple[str, ...] | None = None
) -> AsyncIterator[tuple[SnapshotReader, ViewPlan]]:
    """A snapshot of these tables, and the view planned upon them."""
    async with await connect(dsn) as connection:
        for statement in tables:
            await connection.execute(statement.encode())
        view = ViewDefinition("view", query=query, key=key)
        plan = plan_view(view, await read_definitions(connection, [view], ["public"]))
        source = PostgresSource(dsn, ("public",), await identify(connection))
        try:
            async with source.read() as reader:
                yield reader, plan
        finally:
            await source.close()


def told(derived: Derived) -> dict[str, str]:
    """By key what becomes of its document."""
    found = {o.key: "put" if o.document else "delete" for o in derived.operations}
    return found | {r.key: r.reason for _, r in derived.rejections}


async def test_a_key_that_no_type_allows_has_no_row(database: str) -> None:
    """And one of a row whose document cannot be made is rejected as before."""
    async with reading(database, GROUPED, *TABLES) as (reader, plan):
        gone: list[Parts] = [("blue",), ("wild",)]
        keys: list[Parts] = [("glad",), *gone, ("sad",), (None,)]
        assert await reader.unfit(plan.cast_sql, keys) == set(gone)
        derived = told(await derive(reader, plan, keys, 7, careful=True))
        assert derived.pop("sad").endswith("DivisionByZero (22012)")
        assert derived == {
            "glad": "put", "blue": "delete", "wild": "delete", "%00": "delete"
        }  # fmt: skip
        assert told(await derive(reader, plan, gone, 7, careful=True)) == {
            "blue": "delete", "wild": "delete"
        }  # fmt: skip


async def test_a_key_that_is_written_otherwise_by_now_is_removed(database: str) -> None:
    """Texts that became integers: both texts of one number are no two rows of it."""
    tables = (
        "create table public.item (code text primary key, n int)",
        "insert into public.item values ('007', 1), ('x', 2)",
        "update public.item set code = '8' where code = 'x'",
        "alter table public.item alter column code type int using code::int",
    )
    query = "select code, n from item where n > 0"
    async with reading(database, query, *tables) as (reader, plan):
        keys: list[Parts] = [("007",), ("x",), ("7",), ("8",)]
        assert told(await derive(reader, plan, keys, 7, careful=True)) == {
            "7": "put", "007": "delete", "x": "delete", "8": "put"
        }  # fmt: skip
        assert told(await derive(reader, plan, [("007",)], 7)) == {
            "7": "put", "007": "delete"
        }  # fmt: skip


async def test_two_rows_of_a_key_are_told_beside_one_that_is_gone(
    database: str,
) -> None:
    tables = (
        "create table public.item (id int primary key, n int not null)",
        "create table public.part (item int, label text)",
        "alter table public.part replica identity full",
        "insert into public.item values (1, 1), (2, 2)",
        "insert into public.part values (1, 'a'), (1, 'b'), (2, 'c')",
    )
    query = "select i.id, p.label from item i join part p on p.item = i.id"
    async with reading(database, query, *tables, key=("id",)) as (reader, plan):
        keys: list[Parts] = [("1",), ("2",), ("3",)]
        assert told(await derive(reader, plan, keys, 7)) == {
            "1": NOT_UNIQUE, "2": "put", "3": "delete"
        }  # fmt: skip


async def test_a_link_of_a_former_type_is_told_from_the_others(database: str) -> None:
    async with reading(database, COUNTED, *TABLES) as (reader, plan):
        (query,) = [q for q in plan.key_queries if q.table.name == "item"]
        rows = [(b"glad",), (b"blue",), (None,)]
        with pytest.raises(QueryFailed):
            await anext(reader.keys(query, rows))
    async with reading(database, COUNTED) as (reader, plan):
        assert await reader.unfit(query.cast_sql, rows) == {(b"blue",)}
        # The snapshot goes on.
        pages = [page async for page in reader.keys(query, [rows[0]])]
        assert [key for page in pages for key in page] == [("1",)]
