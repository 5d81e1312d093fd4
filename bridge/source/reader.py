"""Reading one snapshot: keys of changed rows, documents of keys, ranges of a view.

The one thing to know: values go in and out as text; documents are taken from the
result as the bytes that the server sent.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Sequence,
)
from contextlib import aclosing
from functools import cache, partial
from typing import Any

from psycopg import AsyncConnection, AsyncRawServerCursor
from psycopg.abc import QueryNoTemplate
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier, Literal

from bridge.changes import Value
from bridge.derive.view import KeyQuery, ViewPlan
from bridge.errors import Transient
from bridge.gate import Snapshot
from bridge.keys import Parts
from bridge.source import Digest, Failure, QueryFailed, Row, StatementRefused, Texts
from bridge.source.failures import wrapped

PAGE_BYTES = 4 << 20
_FIRST_PAGE_ROWS = 256
_PAGE_ROWS_MAX = 5001
"""More than a chunk has: a page that is not full tells that nothing is left."""
READ_S_MAX = 1800.0
"""Half of the time for which a sink remembers a delete. A document read in an older
snapshot could come after one has been forgotten, and would be there for good."""
_BREAKS = bytes.maketrans(b"\n\r", b"  ")
_ARRAY_ROWS_MAX = 5000
_KEYS_AT_ONCE = 10_000
_FEW = SQL("select * from (\n{}\n) k limit {}")
_COUNT = SQL("select pg_catalog.count(*) from (\nselect distinct * from (\n{}\n) k) k")
_DIGESTS = SQL(
    "select {keys}, pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to("
    "pg_catalog.translate(s.d, E'\\n\\r', '  '), 'UTF8')), 1, 16)\n"
    "  from (\n{scan}\n) s({columns})"
)


@cache
def _few(statement: str) -> bytes:
    """The same, but no more rows than are held at once."""
    return _FEW.format(SQL(statement), Literal(_KEYS_AT_ONCE)).as_bytes(None)


@cache
def _digests(scan: str, parts: int) -> str:
    """The same rows as a scan gives, the digest of each document in its place."""
    names = [Identifier(f"c{i + 1}") for i in range(parts)]
    return _DIGESTS.format(
        keys=SQL(", ").join(SQL("s.{}").format(name) for name in names),
        scan=SQL(scan),
        columns=SQL(", ").join([*names, SQL("d")]),
    ).as_string(None)


_BY_INDEX = """
    select pg_catalog.set_config(name, 'off', true)
    from pg_catalog.unnest(
        array['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']
    ) as s(name)
"""
"""A condition that fails for one row is evaluated for no other key's row then."""


class PostgresReader:
    """`SnapshotReader` over one connection inside one transaction."""

    def __init__(
        self,
        connection: AsyncConnection[tuple[Any, ...]],
        snapshot: Snapshot,
        insert_lsn: int,
        page_rows: dict[str, int] | None = None,
    ) -> None:
        """`page_rows` says how many rows of a statement made a page the last time."""
        self.snapshot = snapshot
        self.insert_lsn = insert_lsn
        self._connection = connection
        self._page_rows = {} if page_rows is None else page_rows
        self._began_s = time.monotonic()

    async def keys(
        self, query: KeyQuery, images: Sequence[tuple[Value, ...]]
    ) -> AsyncIterator[list[Parts]]:
        """The keys that these changed rows touch, in pages."""
        assert query.sql is not None
        few = _few(query.sql)
        for at in range(0, len(images), _ARRAY_ROWS_MAX):
            part = images[at : at + _ARRAY_ROWS_MAX]
            columns = [list(map(_text, column)) for column in zip(*part, strict=True)]
            with wrapped():
                cursor = await self._connection.execute(few, columns)
                found = await cursor.fetchall()
            if len(found) < _KEYS_AT_ONCE:
                yield found
                continue
            async for page in self._many_keys(query.sql, columns):
                yield page

    async def _many_keys(
        self, statement: str, columns: Sequence[list[str | None]]
    ) -> AsyncIterator[list[Parts]]:
        """The same of a row that is in very many documents, held in pages only."""
        cursor = AsyncRawServerCursor(self._connection, "keys")
        with wrapped():
            await cursor.execute(statement.encode(), columns)
        try:
            while True:
                with wrapped():
                    page = await cursor.fetchmany(_KEYS_AT_ONCE)
                if not page:
                    return
                yield page
        finally:
            await self._close(cursor)

    async def documents(
        self, plan: ViewPlan, keys: Sequence[Parts], *, careful: bool = False
    ) -> tuple[list[Row], list[Failure]]:
        """The rows of these keys; see `SnapshotReader.documents`."""
        if not keys:
            return [], []
        if careful:
            with wrapped():
                await self._connection.execute(_BY_INDEX)
            # Planned anew: a plan that is kept reads as it was made to.
            read = partial(self._documents, plan, prepare=False)
            rows, failed = await self._bisect(keys, read)
            return rows, [Failure(parts, why) for parts, why in failed]
        return await self._documents(plan, keys), []

    async def unfit(self, cast_sql: str, rows: Collection[Texts]) -> set[Texts]:
        """Those that are no values of their types; see `SnapshotReader.unfit`."""
        statement, every, found = cast_sql.encode(), list(rows), set[Texts]()

        async def cast(rows: Sequence[Texts]) -> list[Row]:
            columns = [[_text(row[at]) for row in rows] for at in range(len(every[0]))]
            with wrapped():
                await self._connection.execute(statement, columns)
            return []

        for at in range(0, len(every), _ARRAY_ROWS_MAX):
            part = every[at : at + _ARRAY_ROWS_MAX]
            _, failed = await self._bisect(part, cast)
            found.update(row for row, _ in failed)
        return found

    async def scan(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Row]]:
        """All rows of a range, in pages of about `PAGE_BYTES`."""
        pages = self._pages(plan.scan_sql, len(plan.shape.key), lower, upper)
        async with aclosing(pages):
            async for page in pages:
                yield page

    async def digests(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Digest]]:
        """The same with digests in place of documents, made by the server."""
        parts = len(plan.shape.key)
        statement = _digests(plan.scan_sql, parts)
        pages = self._pages(statement, parts, lower, upper)
        async with aclosing(pages):
            async for page in pages:
                yield [
                    Digest(key, bytes.fromhex(text[2:].decode())) for key, text in page
                ]

    async def _pages(
        self, statement: str, parts: int, lower: Parts | None, upper: Parts | None
    ) -> AsyncGenerator[list[Row], None]:
        bounds = [_array(lower), _array(upper)]
        size = self._page_rows.get(statement, _FIRST_PAGE_ROWS)
        cursor = AsyncRawServerCursor(self._connection, "scan")
        with wrapped():
            await cursor.execute(statement.encode(), bounds)
        try:
            while True:
                with wrapped():
                    page = await self._page(parts, size)
                if not page:
                    return
                yield page
                mean = sum(len(row.document) for row in page) // len(page) + 1
                asked, size = size, min(max(PAGE_BYTES // mean, 1), _PAGE_ROWS_MAX)
                self._page_rows[statement] = size
                if len(page) < asked:
                    return  # nothing is left: no need to ask once more
        finally:
            await self._close(cursor)

    async def boundary(
        self, plan: ViewPlan, lower: Parts | None, count: int
    ) -> Parts | None:
        """The `count`-th key above `lower`; None when fewer are left."""
        with wrapped():
            cursor = await self._connection.execute(
                plan.boundary_sql, [_array(lower), count]
            )
            row = await cursor.fetchone()
        return None if row is None else tuple(row[0])

    async def null_keys(self, plan: ViewPlan) -> list[Parts]:
        """The keys with a part that is null; each once."""
        if not plan.null_keys_sql:
            return []
        with wrapped():
            cursor = await self._connection.execute(plan.null_keys_sql.encode())
            return [tuple(row[0]) for row in await cursor.fetchall()]

    async def matching(self, plan: ViewPlan, condition: str) -> list[Parts]:
        """The keys of the rows for which a condition on output columns holds."""
        query: QueryNoTemplate = plan.matching(condition).encode()
        with wrapped():
            # Prepared, so that a condition can never be a second statement.
            cursor = await self._connection.execute(query, prepare=True)
            return [tuple(row) for row in await cursor.fetchall()]

    async def count(self, plan: ViewPlan) -> int:
        """How many keys the view has; two rows for one are counted once."""
        statement = _COUNT.format(SQL(plan.matching("true"))).as_bytes(None)
        with wrapped():
            cursor = await self._connection.execute(statement)
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def estimate(self, plan: ViewPlan) -> int:
        """About how many documents there are; 0 when nothing is known."""
        with wrapped():
            cursor = await self._connection.execute(plan.estimate_sql.encode())
            row = await cursor.fetchone()
        return max(0, int(row[0])) if row and row[0] is not None else 0

    async def rows(
        self, statement: str, values: Sequence[str | int | None]
    ) -> list[tuple[str, ...]]:
        """What a statement of the planner's gives, for people to look at."""
        with wrapped():
            cursor = await self._connection.execute(statement.encode(), values)
            return [tuple(row) for row in await cursor.fetchall()]

    async def _documents(
        self, plan: ViewPlan, keys: Sequence[Parts], *, prepare: bool | None = None
    ) -> list[Row]:
        columns = [[parts[at] for parts in keys] for at in range(len(plan.shape.key))]
        with wrapped():
            cursor = await self._connection.execute(
                plan.documents_sql, columns, prepare=prepare
            )
        return self._young(_rows(cursor.pgresult, len(plan.shape.key)))

    def _young(self, rows: list[Row]) -> list[Row]:
        """The same rows. Transient where they were read in too old a snapshot."""
        if time.monotonic() - self._began_s > READ_S_MAX:
            raise Transient(
                f"documents could not be read within {READ_S_MAX / 60:.0f} minutes",
                hint="`pgbridge check` names the indexes that reading lacks",
            )
        return rows

    async def _bisect(
        self,
        keys: Sequence[Texts],
        read: Callable[[Sequence[Texts]], Awaitable[list[Row]]],
    ) -> tuple[list[Row], list[tuple[Texts, str]]]:
        """What `read` gives of all for which it does not fail; and the others, and why.

        StatementRefused where it fails for none at all, too.
        """
        with wrapped():
            await self._connection.execute("savepoint careful")
        try:
            rows = await read(keys)
        except QueryFailed as error:
            with wrapped():
                await self._connection.execute("rollback to savepoint careful")
            if len(keys) == 1:
                if error.doubtful:
                    await self._must_be_sound(read)
                return [], [(keys[0], str(error))]
            middle = len(keys) // 2
            left = await self._bisect(keys[:middle], read)
            right = await self._bisect(keys[middle:], read)
            return left[0] + right[0], left[1] + right[1]
        with wrapped():
            await self._connection.execute("release savepoint careful")
        return rows, []

    async def _must_be_sound(
        self, read: Callable[[Sequence[Texts]], Awaitable[list[Row]]]
    ) -> None:
        try:
            await read([])
        except QueryFailed as error:
            raise StatementRefused(
                f"the source refuses a statement: {error}",
                hint="`pgbridge plan` shows what of the schema has changed",
            ) from None

    async def _close(self, cursor: AsyncRawServerCursor[Any]) -> None:
        """Not where the transaction has failed or was cut off: it goes with it then,
        and an error of closing would hide that the task was cancelled."""
        if self._connection.info.transaction_status is TransactionStatus.INTRANS:
            with wrapped():
                await cursor.close()

    async def _page(self, parts: int, size: int) -> list[Row]:
        fetched = await self._connection.execute(
            b"fetch forward %d from scan" % size, prepare=False
        )
        return self._young(_rows(fetched.pgresult, parts))


def _rows(result: Any, parts: int) -> list[Row]:
    """The rows of a result whose first columns are the key, the next the document."""
    if result is None:
        return []
    value = result.get_value
    if parts == 1:
        return [
            Row((_decode(value(i, 0)),), value(i, 1).translate(_BREAKS))
            for i in range(result.ntuples)
        ]
    return [
        Row(
            tuple(_decode(value(i, part)) for part in range(parts)),
            value(i, parts).translate(_BREAKS),
        )
        for i in range(result.ntuples)
    ]


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    assert isinstance(value, bytes), value
    return value.decode()


def _array(parts: Parts | None) -> list[str | None] | None:
    return None if parts is None else list(parts)
