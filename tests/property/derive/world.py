"""A database in which views are kept by key queries alone, beside what they are.

One `World` has the tables, with triggers that note every image of a changed row. It
plans views, changes rows, and after each change does what the bridge does: find keys
from the images, read the documents of those keys, put them into a copy. The copy must
then be what the query itself gives.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, sql

from bridge.catalog import Catalog
from bridge.catalog import Table as CatalogTable
from bridge.changes import Identity, Relation, RelationColumn
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.fastpath import compile_key
from bridge.derive.levels import ALL, Rules
from bridge.derive.plan import Planned, plan_ways
from bridge.derive.shapes import digest_types
from bridge.errors import QueryRefusal
from bridge.source.postgres import PINNED
from tests.property.derive.grammar import Asked
from tests.property.derive.schema import FIXED, PATH, Schema, Table, quoted
from tests.property.derive.traffic import History, Step

SETUP = """
create schema noted;
create table noted.rows (place bigserial, relation oid, old text[], new text[]);
create table noted.gone (relation oid);
create function noted.truncated() returns trigger language plpgsql as $$
begin
  insert into noted.gone values (tg_relid);
  return null;
end $$;
create function noted.attempt(statement text) returns void language plpgsql
set search_path = public, ext as $$
begin
  execute statement;
exception when integrity_constraint_violation or feature_not_supported then
  null;  -- by a key, a reference, or references to what was to be truncated
end $$;
"""
NOTE = """
create function noted.{function}() returns trigger language plpgsql as $$
begin
  insert into noted.rows (relation, old, new) values (
    coalesce(pg_partition_root(tg_relid), tg_relid),
    case when tg_op <> 'INSERT' then array[{old}]::text[] end,
    case when tg_op <> 'DELETE' then array[{new}]::text[] end);
  return null;
end $$;
create trigger note after insert or update or delete on {table}
  for each row execute function noted.{function}();
create trigger gone after truncate on {table}
  for each statement execute function noted.truncated();
"""
"""Every value as the log has it: by the output of its type."""
EMPTY = """
do $$ declare name text; begin
  for name in select nspname from pg_namespace where nspname !~ '^pg_'
    and nspname <> 'information_schema'
  loop execute format('drop schema %I cascade', name); end loop;
  create schema public;
end $$;
"""
Parts = tuple[str | None, ...]
Documents = dict[Parts, list[str]]


class Lost(AssertionError):
    """A document that changed was not derived again."""


@dataclass
class Kept:
    """One view with the copy that is kept of it."""

    definition: ViewDefinition
    planned: Planned
    catalog: Catalog
    copy: Documents = field(default_factory=dict)


@dataclass
class Images:
    """What happened to rows: all images by relation, and which were truncated."""

    rows: dict[int, list[tuple[str | None, ...]]]
    truncated: frozenset[int] = frozenset()


@dataclass
class World:
    """One database with its views."""

    connection: AsyncConnection[Any]
    schema: Schema
    refused: list[tuple[str, str]] = field(default_factory=list)
    keys_found: int = 0
    keys_changed: int = 0

    async def run(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(query.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def create(self, table: Table) -> None:
        """The triggers that note its changes."""

        def listed(row: str) -> str:
            return ", ".join(
                "null" if c.generated else f"{_output(f'{row}.{quoted(c.name)}')}"
                for c in table.columns
            )

        number = self.schema.tables.index(table)
        await self.connection.execute(
            NOTE.format(
                function=f"note{number}",
                table=table,
                old=listed("old"),
                new=listed("new"),
            ).encode()
        )

    async def plan(self, asked: Iterable[Asked], rules: Rules = ALL) -> list[Kept]:
        """The views that are accepted; why the others are not is noted."""
        definitions = [
            ViewDefinition(f"view{i}", query=query, key=key)
            for i, (query, key) in enumerate(asked)
        ]
        catalog = await read_definitions(self.connection, definitions, ["public"])
        kept = []
        for definition in definitions:
            planned = self._planned(definition, catalog, rules)
            if planned is not None:
                kept.append(Kept(definition, planned, catalog))
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

    async def images(self) -> Images:
        """What happened since the last call."""
        rows = await self.run(
            "select relation, old, new from noted.rows order by place"
        )
        gone = await self.run("select relation from noted.gone")
        await self.run("delete from noted.rows")
        await self.run("delete from noted.gone")
        images: dict[int, list[tuple[str | None, ...]]] = defaultdict(list)
        for relation, old, new in rows:
            images[relation] += [tuple(i) for i in (old, new) if i is not None]
        return Images(images, frozenset(oid for (oid,) in gone))

    async def keys(self, view: Kept, images: Images) -> set[Parts]:
        """The keys that the images touch."""
        plan = view.planned.plan
        found: set[Parts] = set()
        for query in plan.key_queries:
            rows = images.rows.get(query.table.oid)
            if not rows:
                continue
            relation = _relation(view.catalog.tables[query.table.oid])
            if query.sql is None:
                found |= _of_rows(query.columns, relation, rows, view.catalog)
                continue
            names = [column.name for column in relation.columns]
            places = [names.index(column) for column in query.columns]
            taken = list(dict.fromkeys(tuple(row[p] for p in places) for row in rows))
            columns = [list(column) for column in zip(*taken, strict=True)]
            found.update(await self.run(query.sql, *columns))
        if plan.null_key and any(images.rows.get(t.table.oid) for t in plan.tables):
            found.add((None,) * len(plan.shape.key))
        return found

    async def apply(self, view: Kept, images: Images) -> None:
        """Derive again what the images touch; all of it when a table was emptied."""
        if any(use.table.oid in images.truncated for use in view.planned.plan.tables):
            view.copy = await self.scanned(view)
            return
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
                    if not _same(truth.get(k), view.copy.get(k))
                ),
                key=str,
            )
            if not different:
                return
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
        await self.run(f"truncate {', '.join(map(str, self.schema.tables))}")
        for statement in rows:
            await self.attempt(statement)
        await self.images()

    async def attempt(self, statement: str) -> None:
        """Run it; nothing happens if a key or a reference forbids it."""
        await self.run("select noted.attempt($1)", statement)

    async def transaction(self, steps: Iterable[Step]) -> None:
        """Its statements, some of them taken back."""
        async with self.connection.transaction():
            for step in steps:
                if step.undone:
                    async with self.connection.transaction(force_rollback=True):
                        await self.attempt(step.statement)
                else:
                    await self.attempt(step.statement)


def _output(value: str) -> str:
    return f"case when {value} is not null then format('%s', {value}) end"


def _relation(table: CatalogTable) -> Relation:
    """The table as the log describes it."""
    return Relation(
        table.oid,
        table.schema,
        table.name,
        Identity.FULL,
        tuple(
            RelationColumn(c.name, c.type_oid, c.modifier, in_identity=True)
            for c in table.columns
        ),
    )


def _of_rows(
    columns: tuple[str, ...],
    relation: Relation,
    rows: Iterable[tuple[str | None, ...]],
    catalog: Catalog,
) -> set[Parts]:
    """The keys that stand in the rows themselves."""
    key = compile_key(columns, relation, digest_types(catalog.types))
    assert key is not None
    found: set[Parts] = set()
    for row in rows:
        identified = key([None if v is None else v.encode() for v in row])
        assert identified is not None
        found.add(identified[1])
    return found


def _same(one: list[str] | None, other: list[str] | None) -> bool:
    """Equal but for how numbers are written, which no reader of JSON can tell."""
    if one is None or other is None:
        return one is other
    read = partial(json.loads, parse_float=_number, parse_int=_number)
    return sorted(map(str, map(read, one))) == sorted(map(str, map(read, other)))


def _number(text: str) -> Decimal:
    return Decimal(text).normalize()


def _documents(rows: Iterable[tuple[Any, ...]]) -> Documents:
    found: Documents = defaultdict(list)
    for *parts, document in rows:
        found[tuple(parts)].append(document)
    return {parts: sorted(documents) for parts, documents in found.items()}


@asynccontextmanager
async def world(dsn: str, schema: Schema = FIXED) -> AsyncIterator[World]:
    """A world in a database, which is empty before and after."""
    connection = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        cursor_factory=AsyncRawCursor,
        options="-c synchronous_commit=off -c jit=off -c plan_cache_mode="
        "force_generic_plan -c max_parallel_workers_per_gather=0 "
        "-c client_min_messages=warning",
    )
    async with connection:
        made = World(connection, schema)
        for setting in PINNED.items():
            await connection.execute("select set_config($1, $2, false)", setting)
        await connection.execute(SETUP)
        for statement in schema.statements(connection.info.server_version):
            await connection.execute(statement.encode())
        for table in schema.tables:
            await made.create(table)
        for view in schema.views:
            try:
                await connection.execute(view.statement.encode())
            except psycopg.Error:  # of a table that Postgres cannot make either
                made.schema = replace(
                    made.schema,
                    views=tuple(v for v in made.schema.views if v is not view),
                )
        await made.run(PATH)
        yield made
        await connection.execute(EMPTY)


async def follow(
    made: World, views: list[Kept], history: History, enough: int | None = None
) -> list[tuple[Kept, BaseException]]:
    """Change rows and keep the views; those that lose a document, and by what.

    It ends when `enough` of them do.
    """
    lost: list[tuple[Kept, BaseException]] = []
    await made.fill(history.rows)
    alive = []
    for view in views:
        try:
            view.copy = await made.truth(view)
            alive.append(view)
        except psycopg.Error as error:
            lost.append((view, error))
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
        if not alive or (enough and len(lost) >= enough):
            break
    return lost
