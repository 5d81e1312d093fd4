"""What a snapshot gives of a view: all of its rows or an error, and none too late."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

import pytest
from psycopg.conninfo import make_conninfo

from bridge.changes import Value
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import Transient
from bridge.source import StatementRefused, reader
from bridge.source.postgres import PostgresSource, connect, identify


async def test_documents_of_an_old_snapshot_are_not_given_out(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await connect(database))
        await connection.execute(
            "create table public.item (id int primary key, name text)"
        )
        await connection.execute("insert into public.item values (1, 'a'), (2, 'b')")
        view = ViewDefinition("item", query="select id, name from public.item")
        plan = plan_view(view, await read_definitions(connection, [view], ["public"]))
        source = PostgresSource(database, ("public",), await identify(connection))
        stack.push_async_callback(source.close)

        async def documents() -> int:
            async with source.read() as snapshot:
                rows, _ = await snapshot.documents(plan, [("1",)])
            return len(rows)

        async def scanned() -> int:
            async with source.read(scanning=True) as snapshot:
                return sum(
                    [len(page) async for page in snapshot.scan(plan, None, None)]
                )

        assert (await documents(), await scanned()) == (1, 2)
        monkeypatch.setattr(reader, "READ_S_MAX", -1.0)
        for read in (documents, scanned):
            with pytest.raises(Transient, match="could not be read within"):
                await read()
        monkeypatch.undo()
        assert (await documents(), await scanned()) == (1, 2)


async def test_no_limit_of_the_role_ends_a_patient_reader(any_database: str) -> None:
    role = f"hasty_{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(await connect(any_database))
        await owner.execute(f"create role {role} login password 'secret'")
        stack.push_async_callback(owner.execute, f"drop role {role}")
        known = await owner.execute(
            "select name from pg_settings where name ~"
            " '^(statement|lock|idle_in_transaction_session|transaction)_timeout$'"
        )
        for (name,) in await known.fetchall():
            await owner.execute(f"alter role {role} set {name} = '20ms'")
        dsn = make_conninfo(any_database, user=role, password="secret")
        async with await connect(dsn) as reader, reader.transaction():
            await reader.execute("select pg_sleep(0.1)")
            await reader.execute("select pg_sleep(0.1)")


async def test_a_server_that_is_gone_without_a_word_is_noticed(database: str) -> None:
    """Unless the connection string says otherwise."""
    async with await connect(database) as connection:
        given = connection.info.get_parameters()
        assert given["keepalives_idle"] == "10"
        assert given["tcp_user_timeout"] == "25000"
    async with await connect(make_conninfo(database, keepalives_idle=77)) as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "77"


async def test_rows_that_are_hidden_from_the_role_are_no_deletes(database: str) -> None:
    """Row-level security that comes after the plan is an error, whatever is read."""
    role = f"reader_{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(await connect(database))
        for statement in (
            "create table public.item (id int primary key, name text, at int)",
            "insert into public.item values (1, 'a', 7), (2, 'b', 7)",
            "create table public.place (id int primary key, name text)",
            "insert into public.place values (7, 'here')",
            f"create role {role} login in role pg_read_all_data",
        ):
            await owner.execute(statement)
        stack.push_async_callback(owner.execute, f"drop role {role}")
        query = "select i.id, p.name from item i join place p on p.id = i.at"
        view = ViewDefinition("item", query=query)
        plan = plan_view(view, await read_definitions(owner, [view], ["public"]))
        (from_place,) = [q for q in plan.key_queries if q.table.name == "place"]
        dsn = make_conninfo(database, user=role)
        source = PostgresSource(dsn, ("public",), await identify(owner))
        stack.push_async_callback(source.close)

        async def documents() -> int:
            async with source.read() as snapshot:
                rows, _ = await snapshot.documents(plan, [("1",), ("2",)])
            return len(rows)

        async def scanned() -> int:
            async with source.read(scanning=True) as snapshot:
                pages = [page async for page in snapshot.scan(plan, None, None)]
            return sum(map(len, pages))

        async def keys() -> int:
            async with source.read() as snapshot:
                image: tuple[Value, ...] = (b"7",)
                pages = [page async for page in snapshot.keys(from_place, [image])]
            return sum(map(len, pages))

        for read in (documents, scanned, keys):
            await owner.execute("alter table public.item disable row level security")
            assert await read() == 2
            await owner.execute("alter table public.item enable row level security")
            with pytest.raises(StatementRefused, match="row-level security"):
                await read()
