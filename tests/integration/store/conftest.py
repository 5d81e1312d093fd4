"""A migrated database, a store on it, and a target to play with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.store import Store
from bridge.store.migrate import migrate
from bridge.store.rows import GenerationKey, SourceRow


@pytest.fixture
async def migrated(any_database: str) -> str:
    """Dsn of a database with the schema, on 18 and on 15."""
    await migrate(any_database)
    return any_database


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on Postgres 18 that may write positions."""
    await migrate(database)
    async with await Store.open(database) as opened:
        await opened.save_source(SourceRow("1", 1, "shop", "pgbridge", 1))
        await opened.take_over(
            host="here", pid=1, version="0", http="", state="streaming"
        )
        yield opened


@pytest.fixture
async def building(store: Store) -> GenerationKey:
    """The first generation of a target `es/products` of the view `product`."""
    return await add_target(store)


async def add_target(
    store: Store, sink: str = "es", name: str = "products", view: str = "product"
) -> GenerationKey:
    """One more target, with a generation that is building."""
    await store.save_sink(sink, "memory")
    await store.generations.save_view(view, {"query": "select 1"}, "plan 1")
    await store.generations.save_target(
        sink, name, view=view, definition={}, fingerprint="mapping 1"
    )
    return await store.generations.create(
        sink, name, fingerprint="mapping 1", view_fingerprint="plan 1"
    )
