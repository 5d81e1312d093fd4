"""Reading back what is stored: by keys, all of it, counted, compared.

The one thing to know: a value that has expired is not a missing one. Where there is a
`ttl`, a version without its value is given as an empty document, and an empty document
is the same as any; without a `ttl` somebody removed it, and it is given as none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from redis.exceptions import ResponseError

from bridge.sink import WHOLE, Part, Parts, Stored, key_text
from sinks.redis.layout import Layout, parse_version
from sinks.redis.options import Encoding, TargetOptions
from sinks.redis.places import Places
from sinks.redis.request import hash_fields
from sinks.redis.server import Server
from sinks.redis.template import is_reserved

READ_KEYS_MAX = 500
"""Of one round trip."""
EXPIRED = b""


class Reading:
    """Reads of one sink. Raises `Transient` and `Halt` only."""

    def __init__(self, server: Server, places: Places) -> None:
        self._client = server.client
        self._sorting = server.sorting
        self._places = places

    async def read(self, layout: Layout, keys: Sequence[Parts]) -> dict[str, Stored]:
        """Documents and remembered deletes by key text."""
        found: dict[str, Stored] = {}
        if not layout.held:
            return found
        names = {
            key_text(parts): name
            for parts in keys
            if not is_reserved(name := layout.naming.of_parts(parts))
        }
        ordered = list(names)
        with self._sorting():
            for start in range(0, len(ordered), READ_KEYS_MAX):
                page = ordered[start : start + READ_KEYS_MAX]
                pairs = [(layout.versions + text, names[text]) for text in page]
                for text, stored in zip(
                    page, await self._stored(layout, pairs), strict=True
                ):
                    if stored is not None:
                        found[text] = Stored(text, *stored)
        return found

    async def scan(
        self, layout: Layout, *, documents: bool, part: Part = WHOLE
    ) -> AsyncIterator[list[Stored]]:
        """Pages of what is not deleted; of an expired value there is no document.

        A key may come twice, with the same content unless it was written meanwhile.
        """
        if not layout.held:
            return
        prefix = layout.versions
        with self._sorting():
            async for names, versions in self._places.pages(prefix, part):
                page: list[Stored] = []
                pairs: list[tuple[str, str]] = []
                for name, raw in zip(names, versions, strict=True):
                    version, deleted, value = parse_version(raw)
                    if deleted:
                        continue
                    text = name[len(prefix) :].decode()
                    value = value or layout.naming.of_text(text) or ""
                    if is_reserved(value):
                        continue
                    page.append(Stored(text, version, None))
                    pairs.append((name.decode(), value))
                if documents:
                    page = await self._with_documents(layout, page, pairs)
                if page:
                    yield page

    async def count(self, layout: Layout) -> int:
        """As the function counts: puts of what was not there, less deletes."""
        with self._sorting():
            found = await self._client.get(layout.count)
        return int(found or 0)

    async def _with_documents(
        self, layout: Layout, page: list[Stored], pairs: list[tuple[str, str]]
    ) -> list[Stored]:
        read: list[Stored] = []
        for start in range(0, len(pairs), READ_KEYS_MAX):
            some = await self._stored(layout, pairs[start : start + READ_KEYS_MAX])
            for bare, stored in zip(
                page[start : start + READ_KEYS_MAX], some, strict=True
            ):
                if stored is not None and stored[1] is not None:
                    version, document = stored
                    read.append(Stored(bare.key, version, document or None))
        return read

    async def _stored(
        self, layout: Layout, pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[int, bytes | None] | None]:
        """(version, document) for each pair of names, read at one moment."""
        if not pairs:
            return []
        pipeline = self._client.pipeline(transaction=True)
        pipeline.mget([version for version, _ in pairs])
        if layout.options.encoding is Encoding.HASH:
            for _, value in pairs:
                pipeline.hgetall(value)
        else:
            pipeline.mget([value for _, value in pairs])
        versions, *rest = await pipeline.execute(raise_on_error=False)
        for answer in (versions, *rest[:1]):
            if isinstance(answer, Exception) and not _is_wrong_type(answer):
                raise answer
        values = rest if layout.options.encoding is Encoding.HASH else rest[0]
        found: list[tuple[int, bytes | None] | None] = []
        for raw, value in zip(versions, values, strict=True):
            if raw is None:
                found.append(None)
                continue
            version, deleted, _ = parse_version(raw)
            found.append(
                (version, None if deleted else document_of(value, layout.options))
            )
        return found


def document_of(value: Any, options: TargetOptions) -> bytes | None:
    """The document that a value stands for, as JSON; see the module for a missing one.

    Of a hash it is an object of strings: of what type a value was is not stored.
    """
    if isinstance(value, Exception):
        return None  # a key of another type stands there
    if options.encoding is Encoding.HASH and value:
        return orjson.dumps({_text(k): _text(v) for k, v in value.items()})
    if value:
        return bytes(value)
    if options.ttl_ms:
        return EXPIRED
    # A hash without fields cannot be stored: all columns of the document are null.
    return b"{}" if options.encoding is Encoding.HASH else None


def same(options: TargetOptions, expected: bytes, stored: bytes) -> bool:
    """Whether the stored document is this one."""
    if stored == EXPIRED and options.ttl_ms:
        return True
    if options.encoding is Encoding.HASH:
        fields = {_text(name): _text(value) for name, value in hash_fields(expected)}
        return bool(json.loads(stored) == fields)
    return expected == stored


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
