"""Random views, many at once in one daemon, under random traffic: after each round
every document in every sink is what the view's own query gives.

PGBRIDGE_TEST_RANDOM_VIEWS is how many views there are (default 12), `…_RANDOM_S` for
how many seconds rounds go on (default 10; twelve rounds at least), `…_RANDOM_SINKS`
which sinks (default `search cache`). The seed of what fails is in the test's id; odd
seeds run on Postgres 18, even ones on 15. `--seeds 20` runs twenty.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import httpx
import psycopg
import pytest
import redis
from psycopg import sql

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import QueryRefusal
from bridge.keys import key_text
from tests.property.derive.families import FAMILIES
from tests.property.derive.grammar import TABLES, Grammar
from tests.property.derive.traffic import FOLDED, IDS, WRITTEN, changing, inserting
from tests.property.derive.world import TYPES, VIEWS
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import eventually
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

COUNT = int(os.environ.get("PGBRIDGE_TEST_RANDOM_VIEWS", "12"))
BUDGET_S = float(os.environ.get("PGBRIDGE_TEST_RANDOM_S", "10"))
SINKS = os.environ.get("PGBRIDGE_TEST_RANDOM_SINKS", "search cache").split()
ROUNDS_MIN, TRANSACTIONS, ROWS = 12, 2, 2
REST = """
create table part (id int not null, a int, b int, c int, primary key (id))
  partition by range (id);
create table part_low partition of part for values from (minvalue) to (3);
create table part_high partition of part for values from (3) to (maxvalue);
alter table part_low replica identity full;
alter table part_high replica identity full;
alter table v add foreign key (c) references r on delete cascade on update cascade;
alter table u add foreign key (b) references v on delete set null;
"""
"""Rows that go, move and lose their parent because another one does."""
GENERATED = """
update w set a = 0 where a is null;
alter table w alter a set not null, alter b set not null, alter c set not null;
create unique index old on w (id, a, b, c);
alter table w replica identity using index old;
"""
"""`full` is not for a table with a generated column."""


def prepare(own: psycopg.Connection) -> None:
    """The tables of the planner's differential test, as a bridge needs them."""
    own.execute("create domain whole as int")
    own.execute("create extension citext")
    for table in (*TABLES, *FOLDED):
        key, a, b, c, more = TYPES[table]
        columns = f"id {key} primary key, a {a}, b {b}, c {c}{more}"
        own.execute(f"create table {table} ({columns})".encode())
        if not more:
            own.execute(f"alter table {table} replica identity full".encode())
    for statement in (*REST.split(";\n"), *GENERATED.split(";\n"), *VIEWS.split(";\n")):
        if statement.strip():
            own.execute(statement.encode())


def refill(own: psycopg.Connection, dice: Random) -> None:
    """A few rows more in each table: some of them are there already."""
    for table in WRITTEN:
        for _ in range(ROWS):
            with suppress(psycopg.IntegrityError):
                own.execute(inserting(dice, table).encode())


async def accepted(dsn: str, dice: Random) -> tuple[dict[str, str], int]:
    """Queries that the planner takes, by the view's name, and how many were asked."""
    found: dict[str, str] = {}
    asked = 0
    grammar = Grammar(dice, FAMILIES)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own:
        while len(found) < COUNT:
            views = [
                ViewDefinition(f"view{i}", query=grammar.query()) for i in range(40)
            ]
            catalog = await read_definitions(own, views, ["public"])
            for view in views:
                asked += 1
                with suppress(QueryRefusal):
                    plan = plan_view(view, catalog)
                    rows = await own.execute(f"select from ({view.query}) v".encode())
                    likely = rows.rowcount > 0 and plan.finds_keys
                    if likely or dice.random() < 0.1:
                        found[f"v{len(found)}"] = str(view.query)
                if len(found) == COUNT:
                    break
    return found, asked


class Writer:
    """Transactions of several statements, and others that run while one is open."""

    def __init__(self, dsn: str, dice: Random) -> None:
        self.dice = dice
        self.one = psycopg.connect(dsn)
        self.other = psycopg.connect(dsn)
        self.other.execute("set lock_timeout = '50ms'")
        self.other.commit()

    def close(self) -> None:
        self.one.close()
        self.other.close()

    def transaction(self) -> None:
        dice = self.dice
        for _ in range(dice.choice((1, 1, 2, 3, 5))):
            self.statement(self.one)
            if dice.random() < 0.1:  # another one comes and goes meanwhile
                self.statement(self.other)
                self.end(self.other)
        self.end(self.one)

    def statement(self, own: psycopg.Connection) -> None:
        """One or two under a savepoint, which may be rolled back."""
        dice = self.dice
        with suppress(psycopg.IntegrityError, psycopg.errors.LockNotAvailable):
            with own.transaction(force_rollback=dice.random() < 0.1):
                for _ in range(dice.choice((1, 1, 2))):
                    own.execute(self.text().encode())

    def text(self) -> str:
        dice = self.dice
        table = dice.choice(WRITTEN)
        if table in FOLDED:
            return changing(dice, table)
        match dice.randrange(80):
            case 0 if dice.random() < 0.3:
                return f"truncate {table} cascade"
            case 1:
                return f"delete from {table} where a = {dice.randint(0, 2)}"
            case 2:  # keys move all at once
                return f"update {table} set id = id + {IDS} where id <= 2"
            case 3:
                return f"update {table} set id = id - {IDS} where id > {IDS}"
        return changing(dice, table)

    def end(self, own: psycopg.Connection) -> None:
        own.rollback() if self.dice.random() < 0.1 else own.commit()


Documents = dict[str, str]


class Sinks:
    """What is in the sinks, and what SQL says that must be there."""

    def __init__(self, bridge: Bridge, queries: dict[str, str]) -> None:
        self.bridge = bridge
        self.queries = queries
        self.keys: dict[str, tuple[str, ...]] = {}
        self.compared = 0

    async def plan(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self.bridge.dsn, autocommit=True
        ) as own:
            views = [ViewDefinition(n, query=q) for n, q in self.queries.items()]
            catalog = await read_definitions(own, views, ["public"])
            self.keys = {v.name: plan_view(v, catalog).shape.key for v in views}

    def truth(self) -> dict[str, tuple[Documents, set[str]]]:
        """By view the documents by key, and the keys that are not unique."""
        found = {}
        with psycopg.connect(self.bridge.dsn) as own:
            own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for name, query in self.queries.items():
                listed = sql.SQL(", ").join(
                    sql.SQL("v.{}::text").format(sql.Identifier(k))
                    for k in self.keys[name]
                )
                rows = own.execute(
                    sql.SQL("select {}, row_to_json(v.*)::text from ({}) v").format(
                        listed, sql.SQL(query)
                    )
                ).fetchall()
                keyed = [(key_text(tuple(parts)), text) for *parts, text in rows]
                count = Counter(key for key, _ in keyed)
                found[name] = (dict(keyed), {k for k, n in count.items() if n > 1})
        return found

    async def search(self, view: str) -> Documents:
        """Every document of the live index."""
        index = f"{self.bridge.prefix}{view}"
        async with httpx.AsyncClient(
            base_url=self.bridge.es, trust_env=False, timeout=30.0
        ) as client:
            (await client.post(f"/{index}/_refresh")).raise_for_status()
            answer = await client.get(f"/{index}/_search", params={"size": 10000})
            answer.raise_for_status()
        hits = answer.json()["hits"]["hits"]
        return {hit["_id"]: json.dumps(hit["_source"]) for hit in hits}

    async def cache(self, view: str) -> Documents:
        """Every key of the view's template."""
        start = f"{self.bridge.prefix}{view}:"
        with redis.Redis.from_url(self.bridge.redis, decode_responses=True) as client:
            keys: list[Any] = list(client.scan_iter(f"{start}*", count=1000))
            values: Any = client.mget(keys) if keys else []
        return {
            key.removeprefix(start): value
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }

    async def equal(self) -> bool:
        """AssertionError with the view, its query and what differs."""
        self.bridge.daemon.must_run()
        for view, (documents, several) in self.truth().items():
            for sink in SINKS:
                there: Documents = await getattr(self, sink)(view)
                wrong = {
                    key: (documents.get(key), there.get(key))
                    for key in (documents.keys() | there.keys()) - several
                    if not _same(documents.get(key), there.get(key), sink)
                }
                assert not wrong, f"{sink}/{view}: {wrong}\n{self.queries[view]}"
                self.compared += len(documents)
        return True


def _same(expected: str | None, found: str | None, sink: str) -> bool:
    if expected is None or found is None:
        return expected is found
    if sink == "cache":  # its bytes
        return expected.replace("\n", " ") == found
    return bool(json.loads(expected) == json.loads(found))


async def test_random_views_follow_random_traffic(
    request: pytest.FixtureRequest, make_bridge: MakeBridge, seed: int
) -> None:
    dsn = request.getfixturevalue("database" if seed % 2 else "database15")
    bridge = make_bridge(dsn)
    dice = Random(seed)
    with psycopg.connect(dsn, autocommit=True) as own:
        prepare(own)
        refill(own, dice)
    queries, asked = await accepted(dsn, dice)
    print(f"seed {seed}: {asked} views, {len(queries)} of them accepted")
    sinks = Sinks(bridge, queries)
    await sinks.plan()
    bridge.configure(
        {name: f"query = '''{query}'''" for name, query in queries.items()},
        sinks=SINKS,
    )
    bridge.daemon.start()
    await bridge.ready()
    writer = Writer(dsn, dice)
    try:
        deadline, rounds = time.monotonic() + BUDGET_S, 0
        while rounds < ROUNDS_MIN or time.monotonic() < deadline:
            with psycopg.connect(dsn, autocommit=True) as own:
                refill(own, dice)
            for _ in range(TRANSACTIONS):
                writer.transaction()
            await eventually(
                sinks.equal, deadline_s=60.0, every_s=0.2, what=f"round {rounds}"
            )
            rounds += 1
    finally:
        writer.close()
    print(f"{rounds} rounds, {sinks.compared} documents compared")
    assert sinks.compared, "no view ever had a document"
    assert await bridge.daemon.stop() == 0
