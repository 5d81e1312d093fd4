"""Whether an index is behind each way from a changed row to its documents.

The one thing to know: this is about speed alone; nothing is read wrongly without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.control.query_plans import Scan, query_plan
from bridge.control.session import Session
from bridge.derive.view import ViewPlan
from bridge.sink import Finding, Level

ROWS_MIN = 10_000
"""A smaller table is read whole in a few milliseconds."""


async def indexes(connection: Session, plans: Mapping[str, ViewPlan]) -> list[Finding]:
    """A warning for each large table that a change would have read whole."""
    found: dict[Scan, str] = {}
    for name, plan in plans.items():
        for query in plan.key_queries:
            if query.sql is not None:
                why = f"a change of {query.table.name}"
                for scan in await _scans(connection, query.sql):
                    found.setdefault(scan, f"{why} looks for {scan}")
        for scan in await _scans(connection, plan.documents_sql):
            found.setdefault(scan, f"each document of {name} looks for {scan}")
    findings = []
    for scan, what in found.items():
        rows = await _rows(connection, scan)
        if rows >= ROWS_MIN:
            findings.append(
                Finding(
                    Level.WARNING,
                    f"{what} without an index, in {rows:,} rows",
                    scan.statement,
                )
            )
    return findings


async def _scans(connection: Session, statement: str) -> tuple[Scan, ...]:
    found = await query_plan(connection, statement)
    return found.scans if found is not None else ()


async def _rows(connection: Session, scan: Scan) -> int:
    cursor = await connection.execute(
        # Without statistics: by size, as rows of a hundred bytes.
        "select case when c.reltuples >= 0 then c.reltuples::bigint"
        "            else pg_relation_size(c.oid) / 100 end as rows"
        "  from pg_class c"
        " where c.oid = format('%%I.%%I', %s::text, %s::text)::regclass",
        [scan.schema, scan.table],
    )
    row = await cursor.fetchone()
    return int(row["rows"]) if row else 0
