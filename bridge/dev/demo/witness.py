"""Asking the three servers what they hold, as an application would.

The one thing to know: nothing here goes through the bridge. Rows are counted by SQL,
documents by the index behind its alias, keys by SCAN.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import redis.asyncio

from bridge.errors import Transient

_SCAN_KEYS = 2000
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A view of the demo, and where its documents are."""

    view: str
    rows_sql: str
    index: str
    keys: str = ""
    """What its cached keys begin with; empty: it is not cached."""


VIEWS = (
    Shown("product", "select count(*) from product", "products", "product:"),
    Shown("bargain", "select count(*) from product where price < 20", "bargains"),
    Shown("orders", "select count(*) from orders", "orders", "order:"),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What is where: rows, documents, keys (None: not cached)."""

    rows: int
    documents: int
    keys: int | None


class Pages:
    """JSON and text over plain HTTP from one server on loopback."""

    def __init__(self, url: str) -> None:
        """`url` is http://HOST:PORT."""
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=_TIMEOUT_S
        )
        self._lock = asyncio.Lock()

    async def get(self, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content of the answer. Transient when there is none."""
        async with self._lock:
            return await asyncio.to_thread(self._get, path, body)

    def _get(self, path: str, body: object) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            self._connection.request("GET", path, content, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Transient(
                f"{self._connection.host}:{self._connection.port} does not answer: "
                f"{type(error).__name__}"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Witness:
    """Connections to the source, the index and the cache."""

    def __init__(self, dsn: str, search: str, cache: str) -> None:
        """Nothing is connected until something is asked."""
        self._dsn = dsn
        self._search = Pages(search)
        # A timeout would have it lose cancellations (sinks/redis/server.py).
        self._cache = redis.asyncio.Redis.from_url(
            cache, decode_responses=True, socket_timeout=None
        )
        self._source: psycopg.AsyncConnection | None = None

    async def source(self) -> psycopg.AsyncConnection:
        """A connection to the shop, in autocommit."""
        if self._source is None:
            self._source = await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True
            )
        return self._source

    async def counts(self) -> list[Counts]:
        """One for each of `VIEWS`."""
        return [
            Counts(
                await self._rows(shown.rows_sql),
                await self._documents(shown.index),
                await self._keys(shown.keys) if shown.keys else None,
            )
            for shown in VIEWS
        ]

    async def indexed(self, index: str, key: str) -> dict[str, Any] | None:
        """A document as the index gives it by its id; None when it is not there."""
        status, content = await self._search.get(f"/{index}/_doc/{quote(key, safe='')}")
        if status != http.client.OK:
            return None
        return dict(loads(content)["_source"])

    async def cached(self, key: str) -> dict[str, Any] | None:
        """A cached value, of either encoding; None when it is not there."""
        if await self._cache.type(key) == "hash":
            found = await self._cache.hgetall(key)
            return {str(name): str(text) for name, text in found.items()} or None
        value = await self._cache.get(key)
        return None if value is None else loads(value)

    async def found(self, index: str, query: str) -> list[str]:
        """The ids that a search in the index finds."""
        body = {"query": {"query_string": {"query": query, "default_operator": "and"}}}
        _, content = await self._search.get(f"/{index}/_search?size=1000", body)
        hits: Sequence[dict[str, Any]] = loads(content).get("hits", {}).get("hits", [])
        return [hit["_id"] for hit in hits]

    async def newest_review(self, product: int) -> int:
        """The id of a product's review that was written last; 0: it has none."""
        cursor = await (await self.source()).execute(
            "select max(id) from review where product_id = %s", (product,)
        )
        row = await cursor.fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    async def close(self) -> None:
        """Close the connections."""
        self._search.close()
        await self._cache.aclose()
        if self._source is not None:
            await self._source.close()

    async def _rows(self, statement: str) -> int:
        cursor = await (await self.source()).execute(statement.encode())
        row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def _documents(self, index: str) -> int:
        _, content = await self._search.get(f"/{index}/_count")
        return int(loads(content).get("count", 0))

    async def _keys(self, prefix: str) -> int:
        found = set()
        async for key in self._cache.scan_iter(match=f"{prefix}*", count=_SCAN_KEYS):
            found.add(key)
        return len(found)


def loads(content: bytes | str) -> dict[str, Any]:
    """A JSON object with its numbers as they are written."""
    return dict(json.loads(content, parse_float=Decimal))
