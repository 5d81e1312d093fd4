"""A database in which views are kept by key queries alone, beside what they are.

One `World` has the tables, with triggers that note every image of a changed row. It
plans views, changes rows, and after each change does what the bridge does: find keys
from the images, read the documents of those keys, put them into a copy. The copy must
then be what the query itself gives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, sql

from bridge.catalog import Catalog
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.levels import ALL, Rules
from bridge.derive.plan import Planned, plan_ways
from bridge.errors import QueryRefusal
from tests.property.derive.grammar import COLUMNS, TABLES
from tests.property.derive.traffic import FOLDED, WRITTEN, History, Step

SETUP = """
create domain whole as int;
create extension citext;
create table changed_rows (place bigserial, relation oid, old text[], new text[]);
create function note_change() returns trigger language plpgsql as $$
begin
  insert into changed_rows (relation, old, new) values (
    coalesce((select inhparent from pg_inherits where inhrelid = tg_relid), tg_relid),
    case when tg_op <> 'INSERT' then array[old.id, old.a, old.b, old.c]::text[] end,
    case when tg_op <> 'DELETE' then array[new.id, new.a, new.b, new.c]::text[] end);
  return null;
end $$;
"""
TABLE = """
create table {0} (id {1} primary key, a {2}, b {3}, c {4}{5});
create trigger note after insert or update or delete on {0}
  for each row execute function note_change();
"""
REST = """
create table part (id int not null, a int, b int, c int, primary key (id))
  partition by range (id);
create table part_low partition of part for values from (minvalue) to (3);
create table part_high partition of part for values from (3) to (maxvalue);
create trigger note after insert or update or delete on part_low
  for each row execute function note_change();
create trigger note after insert or update or delete on part_high
  for each row execute function note_change();
"""
VIEWS = """
create view vu as select u.id, coalesce(v.a, u.a) as a from u left join v on v.id = u.b;
create view vv as select vu.id, coalesce(w.d, 0) + vu.a as n
  from vu left join w on w.a = vu.a;
create view vg as select a, count(*) as n from w group by a;
"""
TYPES = {
    "r": ("int", "int", "int", "int", ""),
    "u": ("bigint", "int", "bigint", "whole", ""),
    "v": ("int", "smallint", "numeric", "int", ""),
    "x": ("citext", "citext", "text", "citext", ""),
    "y": ("text", "citext", "citext", "text", ""),
    "w": (
        "numeric",
        "int",
        "int",
        "float8",
        ", d int generated always as (coalesce(a, 0) + 1) stored",
    ),
}
"""Links are between unlike types as well; of a numeric one value has several texts."""
Parts = tuple[str | None, ...]
Documents = dict[Parts, list[str]]


class Lost(AssertionError):
    """A document that changed was not derived again."""


@dataclass
class Kept:
    """One view with the copy that is kept of it."""

    definition: ViewDefinition
    planned: Planned
    copy: Documents = field(default_factory=dict)


@dataclass
class World:
    """One database with its views."""

    connection: AsyncConnection[Any]
    refused: list[tuple[str, str]] = field(default_factory=list)
    keys_found: int = 0
    keys_changed: int = 0

    async def run(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(query.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def plan(
        self,
        queries: Iterable[str],
        rules: Rules = ALL,
        keys: dict[str, tuple[str, ...]] | None = None,
    ) -> list[Kept]:
        """The views that are accepted; why the others are not is noted."""
        definitions = [
            ViewDefinition(f"view{i}", query=query, key=(keys or {}).get(query))
            for i, query in enumerate(queries)
        ]
        catalog = await read_definitions(self.connection, definitions, ["public"])
        kept = []
        for definition in definitions:
            planned = self._planned(definition, catalog, rules)
            if planned is not None:
                kept.append(Kept(definition, planned))
        return kept

    def _planned(
        self, definition: ViewDefinition, catalog: Catalog, rules: Rules
    ) -> Planned | None:
        try:
            return plan_ways(definition, catalog, rules)
        except QueryRefusal as refusal:
            self.refused.append((definition.query or "", refusal.message))
            return None

    async def truth(self, view: Kept) -> Documents:
        """What the query itself gives, as documents by key."""
        names = view.planned.plan.shape.key
        listed = sql.SQL(", ").join(
            sql.SQL("v.{}::text").format(sql.Identifier(n)) for n in names
        )
        assert view.definition.query is not None
        rows = await self.run(
            sql.SQL("select {}, row_to_json(v.*)::text from ({}) v")
            .format(listed, sql.SQL(view.definition.query))
            .as_string(None)
        )
        return _documents(rows)

    async def scanned(self, view: Kept) -> Documents:
        """What reading the whole view by ranges gives."""
        found: list[tuple[Any, ...]] = []
        lower = None
        plan = view.planned.plan
        while True:
            [upper] = await self.run(plan.boundary_sql, lower, 2) or [(None,)]
            found += await self.run(plan.scan_sql, lower, upper[0])
            if upper[0] is None:
                return _documents(found)
            lower = upper[0]

    async def images(self) -> dict[int, list[tuple[str | None, ...]]]:
        """All images since the last call, by relation."""
        rows = await self.run(
            "select relation, old, new from changed_rows order by place"
        )
        await self.run("delete from changed_rows")
        images: dict[int, list[tuple[str | None, ...]]] = defaultdict(list)
        for relation, old, new in rows:
            images[relation] += [tuple(i) for i in (old, new) if i is not None]
        return images

    async def keys(
        self, view: Kept, images: dict[int, list[tuple[str | None, ...]]]
    ) -> set[Parts]:
        """The keys that the images touch."""
        plan = view.planned.plan
        found: set[Parts] = set()
        for query in plan.key_queries:
            rows = images.get(query.table.oid)
            if not rows:
                continue
            places = [COLUMNS.index(column) for column in query.columns]
            taken = list(dict.fromkeys(tuple(row[p] for p in places) for row in rows))
            if query.sql is None:
                found.update(taken)
            else:
                columns = [list(column) for column in zip(*taken, strict=True)]
                found.update(await self.run(query.sql, *columns))
        if plan.null_key and any(images.get(t.table.oid) for t in plan.tables):
            found.add((None,) * len(plan.shape.key))
        return found

    async def apply(
        self, view: Kept, images: dict[int, list[tuple[str | None, ...]]]
    ) -> None:
        """Derive again what the images touch."""
        found = await self.keys(view, images)
        self.keys_found += len(found)
        for parts in found:
            view.copy.pop(parts, None)
        if found:
            columns = [list(column) for column in zip(*found, strict=True)]
            rows = await self.run(view.planned.plan.documents_sql, *columns)
            for parts, documents in _documents(rows).items():
                assert parts in found, f"{parts} was not asked for"
                view.copy[parts] = documents

    async def check(self, view: Kept) -> None:
        """The copy is what the query gives. Lost when it is not."""
        truth = await self.truth(view)
        if truth != view.copy:
            different = sorted(
                (
                    k
                    for k in truth.keys() | view.copy.keys()
                    if truth.get(k) != view.copy.get(k)
                ),
                key=str,
            )
            ways = "\n".join(
                f"  {w.occurrence.alias} -> "
                + " -> ".join(e.target.alias for e in w.edges)
                for w in view.planned.ways
            )
            raise Lost(
                f"{view.definition.query}\nkey {view.planned.plan.shape.key}, "
                f"different: {different}\n{ways}"
            )

    # Traffic.

    async def fill(self, rows: Iterable[str]) -> None:
        """Empty the tables and make these rows."""
        await self.run(f"truncate {', '.join(WRITTEN)}")
        for statement in rows:
            await self.run(statement)
        await self.run("delete from changed_rows")

    async def transaction(self, steps: Iterable[Step]) -> None:
        """Its statements, some of them taken back."""
        async with self.connection.transaction():
            for step in steps:
                if step.undone:
                    async with self.connection.transaction(force_rollback=True):
                        await self.run(step.statement)
                else:
                    await self.run(step.statement)


def _documents(rows: Iterable[tuple[Any, ...]]) -> Documents:
    found: Documents = defaultdict(list)
    for *parts, document in rows:
        found[tuple(parts)].append(document)
    return {parts: sorted(documents) for parts, documents in found.items()}


@asynccontextmanager
async def world(dsn: str) -> AsyncIterator[World]:
    """A world in an empty database."""
    connection = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        cursor_factory=AsyncRawCursor,
        options="-c synchronous_commit=off -c jit=off -c plan_cache_mode="
        "force_generic_plan -c max_parallel_workers_per_gather=0",
    )
    async with connection:
        made = World(connection)
        await connection.execute(SETUP)
        for table in (*TABLES, *FOLDED):
            await connection.execute(TABLE.format(table, *TYPES[table]))
        await connection.execute(REST + VIEWS)
        yield made


async def follow(
    made: World, views: list[Kept], history: History
) -> list[tuple[Kept, BaseException]]:
    """Change rows and keep the views; those that lose a document, and by what."""
    lost: list[tuple[Kept, BaseException]] = []
    await made.fill(history.rows)
    for view in views:
        view.copy = await made.truth(view)
    alive = list(views)
    for round_ in history.rounds:
        batches = []
        for transactions in round_:
            for steps in transactions:
                await made.transaction(steps)
            batches.append(await made.images())
        for view in list(alive):
            try:
                for images in batches:
                    await made.apply(view, images)
                await made.check(view)
            except (Lost, psycopg.Error, AssertionError) as error:
                lost.append((view, error))
                alive.remove(view)
        if not alive:
            break
    return lost
