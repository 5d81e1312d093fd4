"""Random views over random tables, many at once in one daemon, under random traffic:
after each round every document in every sink is what the view's own query gives.

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
from dataclasses import replace
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
from tests.property.derive.drawing import drawn_schema
from tests.property.derive.families import FAMILIES
from tests.property.derive.grammar import Asked, Grammar
from tests.property.derive.schema import Schema, Table, quoted
from tests.property.derive.traffic import changing, inserting
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import eventually
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

COUNT = int(os.environ.get("PGBRIDGE_TEST_RANDOM_VIEWS", "12"))
BUDGET_S = float(os.environ.get("PGBRIDGE_TEST_RANDOM_S", "10"))
SINKS = os.environ.get("PGBRIDGE_TEST_RANDOM_SINKS", "search cache").split()
STYLE = "-c TimeZone=UTC -c IntervalStyle=iso_8601"
PATH = "-c search_path=public,ext"
ROUNDS_MIN, TRANSACTIONS, ROWS = 12, 2, 2
REFUSED = (
    psycopg.IntegrityError,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.LockNotAvailable,
)
"""A key, a reference, or one that leads to what is truncated forbids the statement."""


def prepare(own: psycopg.Connection, schema: Schema) -> Schema:
    """The tables as a bridge needs them; the schema as it could be made."""
    schema = replace(schema, tables=tuple(map(_identified, schema.tables)))
    for statement in schema.statements(own.info.server_version):
        own.execute(statement.encode())
    for name in {schema.extensions, *(table.schema for table in schema.tables)}:
        own.execute(f"grant usage on schema {quoted(name)} to public".encode())
    for table in schema.tables:
        for leaf in table.leaves():
            _identify(own, table, leaf)
    made = []
    for view in schema.views:
        with suppress(psycopg.Error):
            own.execute(view.statement.encode())
            made.append(view)
    return replace(schema, views=tuple(made))


def _identified(table: Table) -> Table:
    """With a generated column every other one is to be in an index."""
    if not any(c.generated for c in table.columns):
        return table
    if not all(c.kind.family.compares for c in table.columns):
        return replace(table, columns=table.written)
    return replace(
        table,
        columns=tuple(
            c if c.generated else replace(c, not_null=True) for c in table.columns
        ),
    )


def _identify(own: psycopg.Connection, table: Table, leaf: str) -> None:
    identity = "full"
    if len(table.written) < len(table.columns):
        columns = ", ".join(quoted(c.name) for c in table.written)
        name = quoted(f"old {leaf}")
        own.execute(f"create unique index {name} on {leaf} ({columns})".encode())
        identity = f"using index {name}"
    own.execute(f"alter table {leaf} replica identity {identity}".encode())


def refill(own: psycopg.Connection, schema: Schema, dice: Random) -> None:
    """A few rows more in each table: some of them are there already."""
    for table in schema.tables:
        for _ in range(ROWS):
            with suppress(psycopg.IntegrityError):
                own.execute(inserting(dice, table).encode())


async def accepted(
    dsn: str, schema: Schema, dice: Random
) -> tuple[dict[str, Asked], int]:
    """Queries that the planner takes, by the view's name, and how many were asked."""
    found: dict[str, Asked] = {}
    asked = 0
    grammar = Grammar(dice, schema, FAMILIES)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own:
        while len(found) < COUNT:
            views = [
                ViewDefinition(f"view{i}", query=query, key=key)
                for i, (query, key) in enumerate(grammar.asked() for _ in range(40))
            ]
            catalog = await read_definitions(own, views, ["public"])
            for view in views:
                asked += 1
                with suppress(QueryRefusal):
                    plan = plan_view(view, catalog)
                    rows = await own.execute(f"select from ({view.query}) v".encode())
                    likely = rows.rowcount > 0 and plan.finds_keys
                    if likely or dice.random() < 0.1:
                        found[f"v{len(found)}"] = Asked(str(view.query), view.key)
                if len(found) == COUNT:
                    break
    return found, asked


class Writer:
    """Transactions of several statements, and others that run while one is open."""

    def __init__(self, dsn: str, schema: Schema, dice: Random) -> None:
        self.schema = schema
        self.dice = dice
        self.one = psycopg.connect(dsn, options=PATH)
        self.other = psycopg.connect(dsn, options=f"{PATH} -c lock_timeout=50ms")

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
        with suppress(*REFUSED):
            with own.transaction(force_rollback=dice.random() < 0.1):
                for _ in range(dice.choice((1, 1, 2))):
                    own.execute(changing(dice, self.schema).encode())

    def end(self, own: psycopg.Connection) -> None:
        own.rollback() if self.dice.random() < 0.1 else own.commit()


Documents = dict[str, str]


class Sinks:
    """What is in the sinks, and what SQL says that must be there."""

    def __init__(self, bridge: Bridge, views: dict[str, Asked]) -> None:
        self.bridge = bridge
        self.views = views
        self.keys: dict[str, tuple[str, ...]] = {}
        self.compared = 0

    async def plan(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self.bridge.dsn, autocommit=True
        ) as own:
            views = [
                ViewDefinition(n, query=v.query, key=v.key)
                for n, v in self.views.items()
            ]
            catalog = await read_definitions(own, views, ["public"])
            self.keys = {v.name: plan_view(v, catalog).shape.key for v in views}

    def truth(self) -> dict[str, tuple[Documents, set[str]]]:
        """By view the documents by key, and the keys that are not unique."""
        found = {}
        with psycopg.connect(self.bridge.dsn, options=STYLE) as own:
            own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for name, view in self.views.items():
                listed = sql.SQL(", ").join(
                    sql.SQL("v.{}::text").format(sql.Identifier(k))
                    for k in self.keys[name]
                )
                rows = own.execute(
                    sql.SQL("select {}, row_to_json(v.*)::text from ({}) v").format(
                        listed, sql.SQL(view.query)
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
                assert not wrong, f"{sink}/{view}: {wrong}\n{self.views[view]}"
                self.compared += len(documents)
        return True


def _same(expected: str | None, found: str | None, sink: str) -> bool:
    if expected is None or found is None:
        return expected is found
    if sink == "cache":  # its bytes
        return expected.replace("\n", " ") == found
    return bool(json.loads(expected) == json.loads(found))


def _configured(view: Asked) -> str:
    key = f"\nkey = {json.dumps(view.key)}" if view.key else ""
    return f"query = '''{view.query}'''{key}"


async def test_random_views_follow_random_traffic(
    request: pytest.FixtureRequest, make_bridge: MakeBridge, seed: int
) -> None:
    dsn = request.getfixturevalue("database" if seed % 2 else "database15")
    bridge = make_bridge(dsn)
    dice = Random(seed)
    with psycopg.connect(dsn, autocommit=True) as own:
        schema = prepare(own, drawn_schema(Random(seed)))
        refill(own, schema, dice)
    views, asked = await accepted(dsn, schema, dice)
    print(f"seed {seed}: {asked} views, {len(views)} of them accepted")
    sinks = Sinks(bridge, views)
    await sinks.plan()
    bridge.configure(
        {name: _configured(view) for name, view in views.items()}, sinks=SINKS
    )
    bridge.daemon.start()
    await bridge.ready()
    writer = Writer(dsn, schema, dice)
    try:
        deadline, rounds = time.monotonic() + BUDGET_S, 0
        while rounds < ROUNDS_MIN or time.monotonic() < deadline:
            with psycopg.connect(dsn, autocommit=True) as own:
                refill(own, schema, dice)
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
