"""Having Postgres itself read a view's query.

Each query becomes a temporary view inside a transaction that is rolled back. Postgres
resolves every name, operator and cast, and prints the query again with everything
qualified; what it refers to is read out of its own parse of it.

The one thing to know: nothing stays. But it takes the right to make temporary tables,
which every role has unless it was taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import tuple_row

from bridge.catalog.model import (
    FIRST_USER_OID,
    Analysis,
    AnalysisFailure,
    OutputColumn,
    Uses,
)
from bridge.catalog.nodetree import uses
from bridge.errors import Halt

Connection: TypeAlias = AsyncConnection[Any]
_VIEW = "pgbridge analysed query"
_ITSELF = f'pg_temp."{_VIEW}"'
_PREFIX = f'create temporary view "{_VIEW}" as\n'
_PRIVILEGE = "42501"

_RESULT: LiteralString = """
    select pg_catalog.pg_get_viewdef(c.oid),
           (select r.ev_action::text from pg_catalog.pg_rewrite r
             where r.ev_class = c.oid)
      from pg_catalog.pg_class c
     where c.oid = $1::pg_catalog.regclass
"""
_COLUMNS: LiteralString = """
    select a.attname::text, a.atttypid::int8, a.atttypmod,
           coalesce(l.collisdeterministic, true)
      from pg_catalog.pg_attribute a
      left join pg_catalog.pg_collation l on l.oid = a.attcollation
     where a.attrelid = $1::pg_catalog.regclass and a.attnum > 0
     order by a.attnum
"""


async def fetch(
    connection: Connection, query: LiteralString, *parameters: object
) -> list[tuple[Any, ...]]:
    """All rows of one statement with `$1` parameters, as plain tuples."""
    async with AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


async def table_query(
    connection: Connection, table: str, columns: tuple[str, ...] | None
) -> str:
    """The query that the table form stands for. psycopg.Error when there is none."""
    await fetch(connection, "select $1::text::pg_catalog.regclass", table)
    rows = await fetch(
        connection,
        """
        select pg_catalog.format('%I.%I', n.nspname, c.relname),
               array(select pg_catalog.quote_ident(name)
                       from pg_catalog.unnest($2::text[]) as given(name))
          from pg_catalog.pg_class c
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.oid = $1::text::pg_catalog.regclass
        """,
        table,
        list(columns or ()),
    )
    name, quoted = rows[0]
    return f"select {', '.join(quoted) or '*'} from {name}"  # noqa: S608 (both quoted)


async def analyse(
    connection: Connection, query: str, search_path: str
) -> Analysis | AnalysisFailure:
    """What Postgres makes of the query; it must be one `select` (checked before)."""
    try:
        async with connection.transaction(force_rollback=True):
            await _make(connection, query, search_path)
            analysis = await _read(connection, query)
        if not await reads_as_printed(
            connection, analysis.query, analysis.uses, search_path
        ):
            return read_otherwise(query, "the query")
        return analysis
    except psycopg.Error as error:
        return failure(error, query)


async def _make(connection: Connection, query: str, search_path: str) -> None:
    """Make the temporary view of a query, as it is read under this search path."""
    await fetch(
        connection, "select pg_catalog.set_config('search_path', $1, true)", search_path
    )
    # Its last line may be a comment.
    await connection.execute((_PREFIX + query + "\n").encode(), prepare=False)


async def reads_as_printed(
    connection: Connection, printed: str, own: Uses, search_path: str
) -> bool:
    """Whether Postgres reads in its own print what it printed.

    Not always: `using`, `is distinct from` and their like name no operator, and rows
    one for all of their columns. Of Postgres' own operators every path finds the same.
    """
    if all(operator < FIRST_USER_OID for operator in own.operators):
        return True
    try:
        async with connection.transaction(force_rollback=True):
            await _make(connection, printed, search_path)
            again, tree = await _printed(connection)
    except psycopg.DatabaseError as error:
        if error.sqlstate is None:
            raise
        return False
    found = uses(tree)
    return (again, found.operators, found.functions) == (
        printed,
        own.operators,
        own.functions,
    )


def read_otherwise(query: str, what: str) -> AnalysisFailure:
    """The failure of what `reads_as_printed` is not true of."""
    return AnalysisFailure(
        query,
        f"{what} is read otherwise where it is printed: `using`, `is distinct from` "
        "and comparisons of rows do not name each operator of an extension's types",
        "compare column by column, as in `exists (select from t where t.a = x and "
        "t.b = y)`, or have source.search_path name the extension's schema",
        None,
    )


async def _printed(connection: Connection) -> tuple[str, str]:
    """The temporary view as Postgres prints it, qualified, and its own parse of it."""
    await fetch(
        connection, "select pg_catalog.set_config('search_path', 'pg_catalog', true)"
    )
    [(text, tree)] = await fetch(connection, _RESULT, _ITSELF)
    return bare(text), str(tree)


def bare(printed: object) -> str:
    """A query as `pg_get_viewdef` prints it, without what ends it."""
    return str(printed).strip().removesuffix(";")


async def _read(connection: Connection, query: str) -> Analysis:
    text, tree = await _printed(connection)
    columns = await fetch(connection, _COLUMNS, _ITSELF)
    return Analysis(
        source=query,
        query=text,
        columns=tuple(OutputColumn(*row) for row in columns),
        uses=uses(tree),
        denied=await _denied(connection, _ITSELF),
    )


async def _denied(connection: Connection, view: str) -> str:
    """The right that is missing to run it with every row, as Postgres says it."""
    try:
        async with connection.transaction():
            await connection.execute("set local row_security = off")
            await connection.execute(
                f"explain select * from {view}".encode(),  # noqa: S608 (ours)
                prepare=False,
            )
    except psycopg.DatabaseError as error:
        if error.sqlstate is None:
            raise
        if error.sqlstate == _PRIVILEGE:
            return error.diag.message_primary or ""
        # Whatever else fails here fails with some row, or with none at all.
    return ""


async def describe(
    connection: Connection, queries: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """Type and modifier of the first column of each query that Postgres takes."""
    found: dict[str, tuple[int, int]] = {}
    queries = list(queries)
    if not queries:
        return found
    async with connection.transaction(force_rollback=True):
        await fetch(
            connection,
            "select pg_catalog.set_config('search_path', 'pg_catalog', true)",
        )
        for query in queries:
            try:
                async with connection.transaction():
                    cursor = await connection.execute(
                        f"select * from ({query}) asked limit 0".encode(),  # noqa: S608
                        prepare=False,
                    )
            except psycopg.DatabaseError as error:
                if error.sqlstate is None:
                    raise
                continue
            result = cursor.pgresult
            assert result is not None
            found[query] = (result.ftype(0), result.fmod(0))
    return found


_NAME = "name it as schema.table, or add its schema to source.search_path"
_MEND = "mend the query: Postgres does not take it as it is"
_HINTS = {
    "42P01": _NAME,
    "3F000": _NAME,
    "42703": "name a column that the table has",
    "42701": "give each output column a name of its own: `… as NAME`",
    "42883": "call it with the types that it takes, or with its schema",
    "42P16": "name the parts, as in `json_build_object('a', a, …)`",
    "42501": "`pgbridge check` prints the grants that the role needs",
}
"""What to do where Postgres itself does not say."""


def failure(error: psycopg.Error, query: str) -> AnalysisFailure:
    """The sentence of Postgres, with the place moved to the query as it was given."""
    message = error.diag.message_primary
    if error.sqlstate is None or message is None:
        raise error
    if error.sqlstate == _PRIVILEGE and "temporary" in message:
        raise Halt(
            "the role may not make temporary tables, which reading a query takes",
            hint="grant temporary on database … to the role of source.dsn",
        ) from error
    place = error.diag.statement_position
    at = int(place) - 1 - len(_PREFIX) if place else None
    return AnalysisFailure(
        source=query,
        message=message,
        hint=error.diag.message_hint or _HINTS.get(error.sqlstate, _MEND),
        at=at if at is not None and 0 <= at < len(query) else None,
        denied=error.sqlstate == _PRIVILEGE,
    )
