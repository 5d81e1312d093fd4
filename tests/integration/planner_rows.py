"""Tables whose changes are noted, and the keys that a planned view finds for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import Planned, plan_ways
from bridge.keys import Parts

_NOTE = """
create table noted (place bigserial, relation oid, old jsonb, new jsonb);
create function note() returns trigger language plpgsql as $$
begin
  insert into noted (relation, old, new) values (
    coalesce((select inhparent from pg_inherits where inhrelid = tg_relid), tg_relid),
    case when tg_op <> 'INSERT' then to_jsonb(old) end,
    case when tg_op <> 'DELETE' then to_jsonb(new) end);
  return null;
end $$;
"""
_TRIGGERS = """
do $$ declare t regclass; begin
  for t in select oid from pg_class where relnamespace = 'public'::regnamespace
            and relkind = 'r' and relname <> 'noted' loop
    execute format('create trigger note after insert or update or delete on %s
                    for each row execute function note()', t);
  end loop; end $$;
"""

Images = Mapping[int, list[Mapping[str, Any]]]


class Rows:
    """One database, for tests of single examples."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def run(self, statement: str, *parameters: object) -> list[Any]:
        cursor = await self.connection.execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def plan(
        self,
        query: str | None = None,
        *,
        table: str | None = None,
        columns: tuple[str, ...] | None = None,
        key: tuple[str, ...] | None = None,
        functions: tuple[str, ...] = (),
        search_path: tuple[str, ...] = ("public",),
    ) -> Planned:
        definition = ViewDefinition("view", query, table, columns, key, functions)
        catalog = await read_definitions(self.connection, [definition], search_path)
        return plan_ways(definition, catalog)

    async def documents(self, planned: Planned) -> dict[Parts, list[str]]:
        found: dict[Parts, list[str]] = defaultdict(list)
        for *parts, document in await self.run(planned.plan.scan_sql, None, None):
            found[tuple(parts)].append(document)
        return found

    async def images(self) -> Images:
        found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        rows = await self.run("select relation, old, new from noted order by place")
        for relation, *images in rows:
            found[relation] += [image for image in images if image is not None]
        await self.run("truncate noted")
        return found

    async def keys(self, planned: Planned, images: Images) -> set[Parts]:
        found: set[Parts] = set()
        for query in planned.plan.key_queries:
            taken = [
                tuple(_text(image[column]) for column in query.columns)
                for image in images.get(query.table.oid, [])
            ]
            if not taken:
                continue
            if query.sql is None:
                found.update(taken)
            else:
                columns = map(list, zip(*taken, strict=True))
                found.update(await self.run(query.sql, *columns))
        if planned.plan.null_key and images:
            found.add((None,) * len(planned.plan.shape.key))
        return found

    async def change(
        self, planned: Planned, *statements: str
    ) -> tuple[set[Parts], set[Parts]]:
        """Keys found for one transaction, and keys whose documents it changed."""
        before = await self.documents(planned)
        await self.images()
        async with self.connection.transaction():
            for statement in statements:
                await self.run(statement)
        after = await self.documents(planned)
        changed = {
            key
            for key in before.keys() | after.keys()
            if before.get(key) != after.get(key)
        }
        return await self.keys(planned, await self.images()), changed


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


@asynccontextmanager
async def rows(dsn: str, schema: str) -> AsyncIterator[Rows]:
    """An empty database with these tables; what takes long to compile is not, as in
    the sessions of the bridge."""
    connection = await AsyncConnection.connect(
        dsn, autocommit=True, cursor_factory=AsyncRawCursor, options="-c jit=off"
    )
    async with connection:
        await connection.execute(schema.encode())
        await connection.execute(_NOTE.encode())
        await connection.execute(_TRIGGERS.encode())
        yield Rows(connection)
