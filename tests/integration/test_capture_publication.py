"""The publication comes to hold what it must, and shows what happened to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import psycopg
import pytest

from bridge.capture.publication import (
    PublicationState,
    QualifiedName,
    change_publication,
    describe_publication,
    statements,
)
from bridge.capture.slot import Connection, take_barrier
from bridge.errors import Halt
from tests.fixtures.waiting import DEADLINE_S
from tests.integration.capturing import TABLE, execute

NAME = "pub"
T, ODD = QualifiedName("public", "t"), QualifiedName('a "b', "Täble")


@pytest.fixture
async def connection(any_database: str) -> AsyncIterator[Connection]:
    execute(
        any_database,
        TABLE,
        'create schema "a ""b"',
        'create table "a ""b"."Täble" (id int primary key, n int)',
    )
    async with await psycopg.AsyncConnection.connect(
        any_database, autocommit=True
    ) as opened:
        yield opened


async def arrange(
    connection: Connection,
    wanted: Collection[QualifiedName],
    *,
    generated: bool = False,
) -> PublicationState:
    """Make it so; what it is then, which leaves nothing to do."""
    found = await describe_publication(connection, NAME)
    await change_publication(
        connection, statements(NAME, wanted, found, generated=generated)
    )
    found = await describe_publication(connection, NAME)
    assert found is not None
    assert statements(NAME, wanted, found, generated=generated) == []
    assert {each.table for each in found.tables} == set(wanted)
    assert found.via_root
    assert found.all_kinds
    return found


async def test_made_widened_and_narrowed(connection: Connection) -> None:
    assert await describe_publication(connection, NAME) is None
    await arrange(connection, {T})
    await arrange(connection, {T, ODD})
    await arrange(connection, {ODD})
    await arrange(connection, set())


@pytest.mark.parametrize(
    "wrong",
    [
        "create publication pub for all tables",
        "create publication pub for tables in schema public",
        "create publication pub for table t (id)",
        "create publication pub for table t where (id > 3)",
        "create publication pub for table t with (publish = 'insert')",
        "create publication pub for table t",
    ],
)
async def test_a_wrong_one_is_put_right(connection: Connection, wrong: str) -> None:
    await connection.execute(wrong.encode())
    found = await describe_publication(connection, NAME)
    assert statements(NAME, {T}, found)
    await arrange(connection, {T})


async def test_tables_that_inherit_are_published_only_by_name(
    connection: Connection,
) -> None:
    await connection.execute("create table child () inherits (t)")
    await arrange(connection, {T})
    await arrange(connection, {T, QualifiedName("public", "child")})
    await arrange(connection, {T})


async def test_dropped_and_added_again_has_another_fingerprint(
    connection: Connection,
) -> None:
    before = await arrange(connection, {T, ODD})
    assert (await arrange(connection, {T, ODD})).fingerprint == before.fingerprint
    await connection.execute("alter publication pub drop table t")
    await connection.execute("alter publication pub add table t")
    after = await arrange(connection, {T, ODD})
    assert after.fingerprint != before.fingerprint


async def test_generated_columns_on_18(database: str) -> None:
    execute(
        database,
        "create table t (id int primary key, twice int generated always as (id * 2)"
        " stored)",
    )
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True
    ) as connection:
        assert not (await arrange(connection, {T})).generated
        assert (await arrange(connection, {T}, generated=True)).generated


async def test_all_or_nothing(connection: Connection) -> None:
    wanted = {T, QualifiedName("public", "nosuch")}
    with pytest.raises(Halt, match="nosuch") as caught:
        await change_publication(connection, statements(NAME, wanted, None))
    assert caught.value.hint
    assert await describe_publication(connection, NAME) is None


async def test_adding_does_not_wait_for_a_writer_and_so_needs_a_barrier(
    any_database: str, connection: Connection
) -> None:
    """What the barrier is for: the writer's transaction is older than it."""
    await arrange(connection, {ODD})
    async with (
        await psycopg.AsyncConnection.connect(any_database, autocommit=True) as writer,
        writer.transaction(),
    ):
        await writer.execute("insert into t values (1, 'a')")
        cursor = await writer.execute("select pg_current_xact_id()::text::bigint")
        (xid,) = await cursor.fetchone() or (0,)
        found = await describe_publication(connection, NAME)
        await asyncio.wait_for(
            change_publication(connection, statements(NAME, {T, ODD}, found)),
            DEADLINE_S,
        )
        assert await take_barrier(connection) > xid
