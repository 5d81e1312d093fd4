"""Documents are read in snapshots that no sink has forgotten deletes since."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import Transient
from bridge.source import reader
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
