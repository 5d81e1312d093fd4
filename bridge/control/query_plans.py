"""What Postgres would do for a statement: the indexes behind it, and what it lacks.

The one thing to know: sequential scans are discouraged while it is asked, so that a
small table shows the index that a large one would be read by; where one is left all
the same, no index could serve.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncRawCursor
from psycopg.rows import tuple_row

from bridge.control.quoting import quoted
from bridge.control.session import Session

_CONDITIONS = ("Hash Cond", "Merge Cond", "Join Filter", "Filter")
_READS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")
"""These read everything, an index without a condition too."""
_PARAMETER = re.compile(r"\$(\d+)")


class Scan(NamedTuple):
    """A table that is read whole, and the columns that it is searched by."""

    schema: str
    table: str
    columns: tuple[str, ...]

    @property
    def statement(self) -> str:
        """What makes the index that is missing."""
        on = f"{quoted(self.schema)}.{quoted(self.table)}"
        columns = ", ".join(map(quoted, self.columns))
        return f"create index concurrently on {on} ({columns});"

    def __str__(self) -> str:
        return ", ".join(f"{self.table}.{column}" for column in self.columns)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """How Postgres carries out one statement."""

    lines: tuple[str, ...]
    """As `explain (costs off)` prints it."""
    indexes: tuple[str, ...]
    scans: tuple[Scan, ...]


async def query_plan(connection: Session, statement: str) -> QueryPlan | None:
    """The plan of a statement of text arrays. None where the role may not read."""
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
            assert row is not None
            found = row[0] if not isinstance(row[0], str) else json.loads(row[0])
            top = found[0]["Plan"]
            leading = await _leading(cursor, list(_indexes(top)))
            await cursor.execute(f"explain (costs off) {statement}".encode(), values)
            lines = tuple(str(line) for (line,) in await cursor.fetchall())
    except psycopg.errors.Error:
        # Without a right to a table, which is a finding of its own.
        return None
    return QueryPlan(
        lines,
        tuple(dict.fromkeys(_indexes(top))),
        tuple(dict.fromkeys(scans(top, leading))),
    )


async def _leading(
    cursor: AsyncRawCursor[Any], names: list[str]
) -> dict[str, frozenset[str]]:
    """The first column of each of these indexes, where it is a plain column."""
    await cursor.execute(
        "select c.relname::text, array_agg(a.attname::text)"
        "  from pg_index i"
        "  join pg_class c on c.oid = i.indexrelid"
        "  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        " where c.relname = any ($1::text[]) group by 1",
        [names],
    )
    return {name: frozenset(columns) for name, columns in await cursor.fetchall()}


def _indexes(node: Mapping[str, Any]) -> Iterator[str]:
    if "Index Name" in node and "Index Cond" in node:
        yield str(node["Index Name"])
    for child in node.get("Plans", ()):
        yield from _indexes(child)


def scans(
    node: Mapping[str, Any],
    leading: Mapping[str, frozenset[str]],
    above: str = "",
    table: Mapping[str, Any] | None = None,
) -> Iterator[Scan]:
    """The tables below a node of a plan that are read whole, and searched all the same.

    `above` is the text of the conditions of the nodes above, `table` the one that a
    bitmap is made of; `leading` has the first column of each index. An index that is
    searched by a later column alone is read whole, or nearly.
    """
    conditions = " ".join(str(node.get(name, "")) for name in _CONDITIONS)
    own = node if "Relation Name" in node else table
    if own is not None and node["Node Type"] in _READS:
        condition = str(node.get("Index Cond", ""))
        first = leading.get(node.get("Index Name", ""), frozenset())
        served = condition and (
            not first or not first.isdisjoint(_named(own["Alias"], condition))
        )
        columns = () if served else _searched(own, f"{above} {conditions} {condition}")
        if columns:
            yield Scan(own["Schema"], own["Relation Name"], columns)
    for child in node.get("Plans", ()):
        inside = node if node["Node Type"] == "Bitmap Heap Scan" else None
        yield from scans(child, leading, f"{above} {conditions}", inside or table)


def _column(alias: str) -> str:
    name = re.escape(quoted(alias))
    return rf'(?<![\w"]){name}\.("(?:[^"]|"")+"|\w+)'


def _named(alias: str, condition: str) -> set[str]:
    """The columns of `alias` that a condition names."""
    return {_bare(match[1]) for match in re.finditer(_column(alias), condition)}


def _searched(table: Mapping[str, Any], conditions: str) -> tuple[str, ...]:
    """The columns of a table that conditions compare with something else."""
    column = _column(table["Alias"])
    found = [
        match[1] or match[2]
        for match in re.finditer(rf"{column} = |= {column}", conditions)
    ]
    return tuple(dict.fromkeys(_bare(each) for each in found))


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
