"""Operations as the bytes of a request: ready-made, since packing is the cost.

The one thing to know: a client library's packing costs more than the server's work;
here an operation is four `bytes` formats and a join. Keys and arguments are those of
`write.lua`, whose head names them in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from bridge.sink import Operation, fields
from sinks.redis.layout import NAMED, Layout, lost_key, mark_key, version_text
from sinks.redis.options import Encoding

CALL_OPERATIONS_MAX = 500
"""Of one call: a server runs nothing else meanwhile. Measured: 500 is the fastest."""
CALL_BYTES_MAX = 1 << 20
TOMBSTONE_S = 86_400
"""How long a delete is remembered: longer than any request lives."""
DOCUMENT_BYTES_MAX = 512 << 20
"""`proto-max-bulk-len`: a longer argument would cost the connection."""

_HEAD_KEYS = 5
_NULL = b"null"
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_FLAT_MEMBER = re.compile(
    rb"[{,]\s*(" + _STRING + rb")\s*:\s*(" + _STRING + rb'|[^\s,{}\[\]"]+)\s*(?=[,}])'
)
"""A member of a document without arrays and objects; five times as fast as `fields`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the function, but for what is known only when it is sent."""

    arguments: int
    """How many there are, with those of the head and with the function's two."""
    before: bytes
    """From the number of keys to the count of operations."""
    after: bytes
    """From the generation on."""

    def packed(self, command: bytes, name: bytes, number: int, mark: int) -> bytes:
        """The whole request: `FCALL name` or `EVALSHA digest`, and what follows."""
        head = b"*%d\r\n" % self.arguments + _pack(command) + _pack(name)
        return b"".join(
            (head, self.before, _pack(b"%d" % number), _pack(b"%d" % mark), self.after)
        )


class Encoder:
    """Makes the calls of one generation."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.naming = layout.naming
        self._version_prefix = layout.versions.encode()
        keys = layout.keys
        head = (
            mark_key(layout.sink),
            lost_key(layout.sink),
            keys.generations,
            layout.count,
            keys.live,
        )
        options = layout.options
        self._head_keys = b"".join(_pack(key.encode()) for key in head)
        tail = (
            str(layout.number),
            options.encoding.value,
            str(options.ttl_ms),
            options.channel,
            str(TOMBSTONE_S),
        )
        self._tail = b"".join(_pack(word.encode()) for word in tail)

    def call(self, operations: Sequence[Operation]) -> Call:
        """The operations as one call. See `chunks` for how many it may hold."""
        values, versions, stamps = self._names(operations)
        documents: list[bytes] = []
        extra = 0
        match self._layout.options.encoding:
            case Encoding.JSON:
                documents = [
                    b"$%d\r\n%b\r\n" % (len(document), document)
                    if (document := operation.document) is not None
                    else b"$0\r\n\r\n"
                    for operation in operations
                ]
            case Encoding.HASH:
                for operation in operations:
                    count, packed = _hash_arguments(operation.document)
                    extra += count
                    documents.append(packed)
            case Encoding.NONE:
                versions, stamps = [], []
        messages = self._messages(operations)
        keys = _HEAD_KEYS + len(versions) + len(values)
        later = len(stamps) + len(documents) + extra + len(messages)
        count = len(operations)
        return Call(
            # command, name, number of keys; then count, number, mark and the tail
            arguments=3 + keys + 8 + later,
            before=b"".join(
                (
                    _pack(b"%d" % keys),
                    self._head_keys,
                    *versions,
                    *values,
                    _pack(b"%d" % count),
                )
            ),
            after=b"".join((self._tail, *stamps, *documents, *messages)),
        )

    def _names(
        self, operations: Sequence[Operation]
    ) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Packed: names of values, names of versions, versions."""
        values: list[bytes] = []
        versions: list[bytes] = []
        stamps: list[bytes] = []
        prefix = self._version_prefix
        of_text, of_parts = self.naming.of_text, self.naming.of_parts
        last, stamp = -1, b""
        for key, parts, version, _ in operations:
            if version != last:
                last, stamp = version, b"$19\r\n%019d\r\n" % version
            text = key.encode()
            versions.append(
                b"$%d\r\n%b%b\r\n" % (len(prefix) + len(text), prefix, text)
            )
            if (value := of_text(key)) is not None:
                stamps.append(stamp)
            else:
                value = of_parts(parts)
                stamps.append(_pack(version_text(version) + NAMED + value.encode()))
            name = value.encode()
            values.append(b"$%d\r\n%b\r\n" % (len(name), name))
        return values, versions, stamps

    def _messages(self, operations: Sequence[Operation]) -> list[bytes]:
        if not self._layout.options.channel:
            return []
        held = self._layout.held
        return [
            _pack(
                json.dumps(
                    {
                        "key": operation.key,
                        "version": str(operation.version),
                        "deleted": operation.document is None or not held,
                    },
                    ensure_ascii=False,
                ).encode()
            )
            for operation in operations
        ]


def chunks(operations: Sequence[Operation]) -> Iterator[tuple[int, int]]:
    """(start, end) of runs that fit into one call."""
    start, size = 0, 0
    for index, operation in enumerate(operations):
        length = len(operation.document or b"")
        if index > start and (
            size + length > CALL_BYTES_MAX or index - start >= CALL_OPERATIONS_MAX
        ):
            yield start, index
            start, size = index, 0
        size += length
    if start < len(operations):
        yield start, len(operations)


def hash_fields(document: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(field, value) of a document as a hash: strings as they are, other values as
    their JSON text, null as no field."""
    is_flat = document.count(b"{") == 1 and b"[" not in document
    members = _FLAT_MEMBER.findall(document) if is_flat else fields(document)
    for name, value in members:
        if value != _NULL:
            yield _plain(name), _plain(value) if value[:1] == b'"' else value


def _hash_arguments(document: bytes | None) -> tuple[int, bytes]:
    """How many arguments follow the first, and all of them packed."""
    if document is None:
        return 0, b"$0\r\n\r\n"
    packed = [
        b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(value), value)
        for name, value in hash_fields(document)
    ]
    count = 2 * len(packed)
    return count, _pack(b"%d" % count) + b"".join(packed)


def _plain(text: bytes) -> bytes:
    """A JSON string as the text that it stands for."""
    if b"\\" not in text:
        return text[1:-1]
    try:
        return str(orjson.loads(text)).encode()
    except orjson.JSONDecodeError:  # a lone surrogate, which is no text: as written
        return text[1:-1]


def _pack(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
