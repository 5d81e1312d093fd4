"""How one view is kept: its tables, what the log must have of them, its key queries.

The one thing to know: nothing is guessed. The statements are those that the daemon
runs, and their plans are Postgres' own.
"""

from __future__ import annotations

from typing import Any

from bridge.config import Config
from bridge.control.check import one, rows
from bridge.control.check_tables import lacking
from bridge.control.planning import plan_one
from bridge.control.query_plans import QueryPlan, query_plan
from bridge.control.session import Session, session
from bridge.derive.view import KeyQuery, ViewPlan


async def explain_view(config: Config, view: str) -> dict[str, Any]:
    """The tables of a view, the identity that each needs, and every key query with
    its plan and the indexes behind it. Refusal, Transient, Halt."""
    async with session(config.source.dsn) as connection:
        planned, catalog = await plan_one(connection, config, view)
        plan = planned.plan
        facts = await rows(connection, "used_tables", oids=list(catalog.tables))
        server = await one(connection, "server")
        documents = await query_plan(connection, plan.documents_sql)
        return {
            "view": view,
            "key": list(plan.shape.key),
            "from_the_log": plan.direct is not None,
            "tables": _tables(plan, facts, server["role"]),
            "key_queries": [
                await _key_query(connection, query) for query in plan.key_queries
            ],
            "documents": {"sql": plan.documents_sql} | _told(documents),
        }


def _tables(plan: ViewPlan, facts: list[Any], role: str) -> list[dict[str, Any]]:
    found = []
    for use in plan.tables:
        own = [row for row in facts if row["oid"] == use.table.oid]
        found.append(
            {
                "table": str(use.table),
                "columns": sorted(use.columns),
                "identity": sorted(use.identity),
                "lacks": [
                    {"what": finding.what, "fix": finding.fix}
                    for finding in lacking(own, plan, role)
                ],
            }
        )
    return found


async def _key_query(connection: Session, query: KeyQuery) -> dict[str, Any]:
    plan = None if query.sql is None else await query_plan(connection, query.sql)
    return {
        "table": str(query.table),
        "occurrence": query.occurrence,
        "columns": list(query.columns),
        "sql": query.sql,
    } | _told(plan)


def _told(plan: QueryPlan | None) -> dict[str, Any]:
    if plan is None:
        return {"plan": [], "indexes": [], "scans": []}
    return {
        "plan": list(plan.lines),
        "indexes": list(plan.indexes),
        "scans": [
            {
                "table": f"{scan.schema}.{scan.table}",
                "columns": list(scan.columns),
                "fix": scan.statement,
            }
            for scan in plan.scans
        ],
    }
