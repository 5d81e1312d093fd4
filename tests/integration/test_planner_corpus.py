"""Queries as people write them: accepted with the key and the old values they need,
and right by their own rows; or refused, saying why.

Each file of tests/corpus is one query under comments that say what is expected:

    -- accepted            or: -- refused
    -- key: id             and `-- given` where the configuration gives it
    -- identity: t(a,b)    columns whose old values the table's log must have (some)
    -- says: words         in the refusal's sentence
    -- functions: s.f      declared by the view

tests/corpus/keys has the key queries that are expected of each that is accepted, to be
read by people; with PGBRIDGE_TEST_WRITE=1 they are written, as they are now.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection, AsyncRawCursor, sql

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.derive.view import KeyQuery, ViewPlan
from bridge.errors import QueryRefusal

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(p for p in CORPUS.glob("*.sql") if p.stem not in ("schema", "rows"))
WRITE = bool(os.environ.get("PGBRIDGE_TEST_WRITE"))
PRINTED_BY = 18
"""The major version of Postgres whose print of the queries the files have."""
_TABLE = re.compile(r"(\w+)\(([\w,]*)\)")


@dataclass(frozen=True)
class Case:
    query: str
    accepted: bool
    key: tuple[str, ...]
    given: bool
    identity: dict[str, set[str]]
    says: str
    functions: tuple[str, ...]


def read(path: Path) -> Case:
    notes: dict[str, str] = {}
    lines = path.read_text().splitlines()
    for line in lines:
        if line.startswith("-- "):
            name, _, value = line.removeprefix("-- ").partition(": ")
            notes[name] = value
    return Case(
        "\n".join(line for line in lines if not line.startswith("-- ")),
        "accepted" in notes,
        tuple(notes.get("key", "").split(",")),
        "given" in notes,
        {t: set(c.split(",")) for t, c in _TABLE.findall(notes.get("identity", ""))},
        notes.get("says", ""),
        tuple(notes["functions"].split(",")) if "functions" in notes else (),
    )


@pytest.fixture
async def shop(database: str) -> AsyncIterator[AsyncConnection[Any]]:
    connection = await AsyncConnection.connect(
        database, autocommit=True, cursor_factory=AsyncRawCursor
    )
    async with connection:
        await connection.execute((CORPUS / "schema.sql").read_bytes())
        await connection.execute((CORPUS / "rows.sql").read_bytes())
        yield connection


async def test_every_query_is_as_expected(shop: AsyncConnection[Any]) -> None:
    cases = {path.stem: read(path) for path in FILES}
    definitions = [
        ViewDefinition(
            name,
            query=case.query,
            key=case.key if case.given else None,
            functions=case.functions,
        )
        for name, case in cases.items()
    ]
    catalog = await read_definitions(shop, definitions, ["public"])
    wrong = []
    for definition in definitions:
        case = cases[definition.name]
        try:
            plan = plan_view(definition, catalog)
        except QueryRefusal as refusal:
            wrong += refused(definition.name, case, refusal)
        else:
            wrong += accepted(definition.name, case, plan)
            if shop.info.server_version // 10_000 == PRINTED_BY:
                wrong += compared(definition.name, plan)
            if case.accepted:
                wrong += await read_back(shop, definition.name, case, plan)
    assert len(cases) > 60
    assert not wrong, "\n".join(wrong)


def refused(name: str, case: Case, refusal: QueryRefusal) -> list[str]:
    if case.accepted:
        return [f"{name}: refused: {refusal.message}"]
    said = case.says in refusal.message
    return [] if said else [f"{name}: says {refusal.message!r}, not {case.says!r}"]


def accepted(name: str, case: Case, plan: ViewPlan) -> list[str]:
    if not case.accepted:
        return [f"{name}: accepted, with the key {plan.shape.key}"]
    wrong = []
    if plan.shape.key != case.key:
        wrong.append(f"{name}: key {plan.shape.key}, not {case.key}")
    needed: dict[str, set[str]] = {}
    for use in plan.tables:
        needed.setdefault(use.table.name, set()).update(use.identity)
    for table, columns in case.identity.items():
        if columns != needed.get(table):
            wrong.append(f"{name}: {table} needs {needed.get(table)}, not {columns}")
    return wrong


def compared(name: str, plan: ViewPlan) -> list[str]:
    """The key queries with those of the file."""
    file = CORPUS / "keys" / f"{name}.sql"
    text = "\n\n".join(map(_shown, plan.key_queries)) + "\n"
    if WRITE:
        file.write_text(text)
    elif not file.exists() or file.read_text() != text:
        return [f"{name}: other key queries than those of {file.name}:\n{text}"]
    return []


def _shown(query: KeyQuery) -> str:
    how = query.sql or "-- these are the key"
    return f"-- {query.table} {query.occurrence} ({', '.join(query.columns)})\n{how}"


async def read_back(
    shop: AsyncConnection[Any], name: str, case: Case, plan: ViewPlan
) -> list[str]:
    """By its keys, by ranges and as a whole the view is the query's own result."""
    columns = sql.SQL(", ").join(map(sql.Identifier, plan.shape.key))
    whole = sql.SQL("select {}, row_to_json(v.*)::text from ({}) v").format(
        columns, sql.SQL(case.query)
    )
    truth = sorted(d for *_, d in await rows(shop, whole.as_string(None)))
    ranged = [tuple(r) for r in await rows(shop, plan.scan_sql, None, None)]
    wrong = []
    if sorted(row[-1] for row in ranged) != truth:
        wrong.append(f"{name}: read by ranges it is not what the query gives")
    keys = [list(column) for column in zip(*ranged, strict=True)][:-1]
    keyed = await rows(shop, plan.documents_sql, *keys) if ranged else []
    if sorted(map(tuple, keyed), key=str) != sorted(ranged, key=str):
        wrong.append(f"{name}: read by keys it is not what the query gives")
    for query in plan.key_queries:
        if query.sql is not None:
            images = await rows(shop, _images(query))
            found = await rows(shop, query.sql, *map(list, zip(*images, strict=True)))
            if images and any(len(row) != len(plan.shape.key) for row in found):
                wrong.append(f"{name}: {query.sql} does not give keys")
    if len(await rows(shop, plan.matching("true"))) != len(truth):
        wrong.append(f"{name}: not every row matches `true`")
    await rows(shop, plan.estimate_sql)
    return wrong


def _images(query: KeyQuery) -> str:
    """Every row of the table, and one of nulls, as texts."""
    texts = [sql.SQL("{}::text").format(sql.Identifier(c)) for c in query.columns]
    return (
        sql.SQL("select {} from {} union all select {}")
        .format(
            sql.SQL(", ").join(texts),
            sql.Identifier(query.table.schema, query.table.name),
            sql.SQL(", ").join([sql.SQL("null")] * len(texts)),
        )
        .as_string(None)
    )


async def rows(
    shop: AsyncConnection[Any], statement: str, *parameters: object
) -> list[Any]:
    cursor = await shop.execute(statement.encode(), parameters)
    return await cursor.fetchall()
