"""Reading documents back, byte for byte.

    {"pit_id":"…","hits":{"hits":[{"_index":"p--g1","_id":"1","_version":7,"_score":null,
     "_source":{"id":1,"price":1.10},"sort":[4294967298]},…]}}

The one thing to know: Elasticsearch gives `_source` as it was sent, and a parser would
turn `1.10` into 1.1; so the document is cut out of the answer, and only what stands
around it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import orjson

from bridge.sink import (
    WHOLE,
    Generation,
    Halt,
    Part,
    Parts,
    Stored,
    Transient,
    key_text,
)
from sinks.elasticsearch.client import Answer, Client
from sinks.elasticsearch.generations import refresh
from sinks.elasticsearch.plan import index_name

PAGE_BYTES = 8 << 20
"""What an answer with documents is to have, going by those before."""
PAGE_DOCUMENTS_FIRST = 100
PAGE_DOCUMENTS_MAX = 2_000
PAGE_KEYS = 10_000
"""`index.max_result_window`; without documents a page is small."""
KEEP_ALIVE = "5m"

_SOURCE = b'"_source":'
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]', re.DOTALL)
_SPACE = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|\s+', re.DOTALL)
_HITS = re.compile(rb'"(?:hits|docs)":\[')


def cut_hits(answer: bytes) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Each hit of a search (or of `_mget`) with its document's own bytes."""
    found = _HITS.search(answer)
    if found is None:
        raise Halt("an answer of the server has no documents in it")
    place = found.end()
    while answer[place : place + 1] != b"]":
        end, source = _object(answer, place)
        if source is None:
            yield orjson.loads(answer[place:end]), None
        else:
            around = answer[place : source[0]] + b"null" + answer[source[1] : end]
            yield orjson.loads(around), answer[source[0] : source[1]]
        place = end + 1 if answer[end : end + 1] == b"," else end


def _object(answer: bytes, start: int) -> tuple[int, tuple[int, int] | None]:
    """Where the object that begins at `start` ends, and its member `_source` lies."""
    depth, source_start, source = 0, 0, None
    for token in _TOKEN.finditer(answer, start):
        sign = answer[token.start()]
        if sign == 0x7B:
            depth += 1
            if depth == 2 and answer.endswith(_SOURCE, 0, token.start()):
                source_start = token.start()
        elif sign == 0x7D:
            depth -= 1
            if depth == 1 and source_start and source is None:
                source = source_start, token.end()
            elif depth == 0:
                return token.end(), source
    raise Transient("an answer of the server is not whole")


def same(expected: bytes, stored: bytes) -> bool:
    """Whether two JSON texts are the same but for white space between their parts."""
    if expected == stored:
        return True
    return _SPACE.sub(rb"\1", expected) == _SPACE.sub(rb"\1", stored)


class Reading:
    """What verifying and waiting need."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(
        self, generation: Generation, keys: Sequence[Parts]
    ) -> dict[str, Stored]:
        """Realtime: what was kept is found, refreshed or not."""
        index = index_name(generation)
        texts = [key_text(parts) for parts in keys]
        found: dict[str, Stored] = {}
        size, start = PAGE_DOCUMENTS_FIRST, 0
        while start < len(texts):
            body = orjson.dumps({"ids": texts[start : start + size]})
            page = await self._client.run(partial(self._mget, index, body))
            found.update((stored.key, stored) for stored in page)
            start += size
            size = next_size(size, page)
        return found

    def _mget(self, index: str, body: bytes) -> list[Stored]:
        answer = self._client.send("POST", f"/{index}/_mget?realtime=true", body)
        if not answer.ok:
            raise self._client.failure(answer, "reading documents", quote=False)
        page: list[Stored] = []
        for hit, document in cut_hits(answer.body):
            if error := hit.get("error"):
                raise Transient(
                    f"{self._client.sink}: reading a document: {error.get('type')}"
                )
            if hit["found"]:
                page.append(Stored(hit["_id"], hit["_version"], document))
        return page

    async def count(self, generation: Generation) -> int:
        """After a refresh. Nested objects are not counted."""
        index = index_name(generation)
        await refresh(self._client, index)
        answer = await self._client.ask("GET", f"/{index}/_count")
        if answer["_shards"]["failed"]:
            raise Transient(f"{self._client.sink}: a shard of {index} did not count")
        return int(answer["count"])

    async def scan(
        self, generation: Generation, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """A point in time, read in the order of the shards' own documents. Parts are
        slices of it, which may shift as segments are merged."""
        index = index_name(generation)
        await refresh(self._client, index)
        opened = await self._client.ask(
            "POST",
            f"/{index}/_pit?keep_alive={KEEP_ALIVE}&allow_partial_search_results=false",
        )
        pit: str = opened["id"]
        after: list[Any] | None = None
        size = PAGE_DOCUMENTS_FIRST if documents else PAGE_KEYS
        try:
            while True:
                body = _search(pit, after, size, part, documents=documents)
                pit, after, page = await self._client.run(partial(self._page, body))
                if not page:
                    return
                yield page
                if documents:
                    size = next_size(size, page)
        finally:
            await self._close(pit)

    def _page(self, body: bytes) -> tuple[str, list[Any] | None, list[Stored]]:
        path = "/_search?allow_partial_search_results=false"
        answer = self._client.send("POST", path, body)
        if not answer.ok:
            raise self._client.failure(answer, "a search", quote=False)
        page: list[Stored] = []
        hit: dict[str, Any] = {}
        for hit, document in cut_hits(answer.body):
            page.append(Stored(hit["_id"], hit["_version"], document))
        return _pit(answer), hit.get("sort"), page

    async def _close(self, pit: str) -> None:
        with suppress(Transient):  # it ends by itself after `KEEP_ALIVE`
            await self._client.request("DELETE", "/_pit", {"id": pit})


def next_size(size: int, page: Sequence[Stored]) -> int:
    """How many documents to ask for next, after these."""
    held = sum(len(stored.document or b"") for stored in page)
    fits = PAGE_BYTES * len(page) // held if held else PAGE_DOCUMENTS_MAX
    return max(1, min(fits, 4 * size, PAGE_DOCUMENTS_MAX))


def _search(
    pit: str, after: list[Any] | None, size: int, part: Part, *, documents: bool
) -> bytes:
    body: dict[str, Any] = {
        "size": size,
        "pit": {"id": pit, "keep_alive": KEEP_ALIVE},
        "sort": ["_shard_doc"],
        "track_total_hits": False,
        "version": True,
        "_source": documents,
    }
    if part.of > 1:
        body["slice"] = {"id": part.number, "max": part.of}
    if after is not None:
        body["search_after"] = after
    return orjson.dumps(body)


def _pit(answer: Answer) -> str:
    """The id to go on with: it may change from page to page."""
    head = answer.body[: answer.body.index(b'"hits"')]
    found = re.search(rb'"pit_id":"([^"]+)"', head)
    assert found is not None, "a search in a point in time tells its id"
    if b'"timed_out":true' in head:
        raise Transient("a search timed out")
    return found[1].decode()
