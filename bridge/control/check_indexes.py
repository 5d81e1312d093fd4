"""Whether an index is behind each way from a changed row to its documents.

Postgres is asked for the plan of every key query and of the documents query with
sequential scans discouraged: where one is left all the same, no index could serve.

The one thing to know: this is about speed alone; nothing is read wrongly without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncRawCursor
from psycopg.rows import tuple_row

from bridge.control.quoting import quoted
from bridge.control.session import Session
from bridge.derive.view import ViewPlan
from bridge.sink import Finding, Level

ROWS_MIN = 10_000
"""A smaller table is read whole in a few milliseconds."""
_CONDITIONS = ("Hash Cond", "Merge Cond", "Join Filter", "Filter")
_WHOLE = ("Seq Scan", "Index Scan", "Index Only Scan")
"""These read everything, an index without a condition too."""
_PARAMETER = re.compile(r"\$(\d+)")


class Scan(NamedTuple):
    """A table that is read whole, and the columns that it is searched by."""

    schema: str
    table: str
    columns: tuple[str, ...]


async def indexes(connection: Session, plans: Mapping[str, ViewPlan]) -> list[Finding]:
    """A warning for each large table that a change would have read whole."""
    found: dict[Scan, str] = {}
    for name, plan in plans.items():
        for query in plan.key_queries:
            if query.sql is not None:
                why = f"a change of {query.table.name}"
                for scan in await _scans(connection, query.sql):
                    found.setdefault(scan, f"{why} looks for {_named(scan)}")
        for scan in await _scans(connection, plan.documents_sql):
            found.setdefault(scan, f"each document of {name} looks for {_named(scan)}")
    findings = []
    for scan, what in found.items():
        rows = await _rows(connection, scan)
        if rows >= ROWS_MIN:
            on = f"{quoted(scan.schema)}.{quoted(scan.table)}"
            columns = ", ".join(map(quoted, scan.columns))
            findings.append(
                Finding(
                    Level.WARNING,
                    f"{what} without an index, in {rows:,} rows",
                    f"create index concurrently on {on} ({columns});",
                )
            )
    return findings


def _named(scan: Scan) -> str:
    return ", ".join(f"{scan.table}.{column}" for column in scan.columns)


async def _rows(connection: Session, scan: Scan) -> int:
    cursor = await connection.execute(
        "select greatest(c.reltuples, 0)::bigint as rows"
        "  from pg_class c"
        " where c.oid = format('%%I.%%I', %s::text, %s::text)::regclass",
        [scan.schema, scan.table],
    )
    row = await cursor.fetchone()
    return int(row["rows"]) if row else 0


async def _scans(connection: Session, statement: str) -> list[Scan]:
    """What the plan of a statement still reads whole. None where it has no plan."""
    parameters = {int(number) for number in _PARAMETER.findall(statement)}
    values: list[list[str]] = [[] for _ in range(max(parameters, default=0))]
    try:
        async with (
            connection.transaction(force_rollback=True),
            AsyncRawCursor(connection, row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(
                "select set_config('enable_seqscan', 'off', true),"
                " set_config('plan_cache_mode', 'force_generic_plan', true)"
            )
            await cursor.execute(
                f"explain (format json, verbose) {statement}".encode(), values
            )
            row = await cursor.fetchone()
    except psycopg.errors.Error:
        # Without a right to a table, which is a finding of its own.
        return []
    if row is None:
        return []
    plan = row[0] if not isinstance(row[0], str) else json.loads(row[0])
    return list(scans(plan[0]["Plan"]))


def scans(node: Mapping[str, Any], above: str = "") -> Iterator[Scan]:
    """The sequential scans below a node of a plan that some condition searches.

    `above` is the text of the conditions of the nodes above.
    """
    conditions = " ".join(str(node.get(name, "")) for name in _CONDITIONS)
    if node["Node Type"] in _WHOLE and "Index Cond" not in node:
        columns = _searched(node["Alias"], f"{above} {conditions}")
        if columns:
            yield Scan(node["Schema"], node["Relation Name"], columns)
    for child in node.get("Plans", ()):
        yield from scans(child, f"{above} {conditions}")


def _searched(alias: str, conditions: str) -> tuple[str, ...]:
    """The columns of `alias` that conditions compare with something else."""
    name = re.escape(quoted(alias))
    column = rf'(?<![\w"]){name}\.("(?:[^"]|"")+"|\w+)'
    found = [
        match[1] or match[2]
        for match in re.finditer(rf"{column} = |= {column}", conditions)
    ]
    return tuple(dict.fromkeys(_bare(each) for each in found))


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
