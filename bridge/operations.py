"""What a sink is asked to do: put or delete one document at a version.

The one thing to know: a document is bytes that Postgres made (or that are proven the
same); nobody parses and prints them again on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from bridge.keys import Parts


class Operation(NamedTuple):
    """Make the document of `key` be `document`, as known at `version`.

    `document` is one JSON object in UTF-8 without line breaks, or None: there is no
    such document. The version is `Position.version`: 63 bits, higher is newer.
    """

    key: str
    parts: Parts
    version: int
    document: bytes | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """The sink refused one document for good. `reason` never quotes a value."""

    key: str
    reason: str


@dataclass(slots=True)
class Report:
    """Outcome of one write, every operation counted in exactly one of the four.

    `again` and `rejections` are indexes into the operations of the call. Operations
    in `again` were not taken for the moment (too many requests, shard not available)
    and are sent once more by the bridge.
    """

    kept: int = 0
    superseded: int = 0
    """The sink already holds this or a newer version: success."""
    foreign: list[int] = field(default_factory=list)
    """Refused by a version above all that were ever issued: written by somebody else.
    Counted as done, reported, mended by a new generation."""
    rejections: dict[int, Rejection] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)
    why: str = ""
    """Why those of `again` were not taken, for `status`; no value of a row."""


_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'  # without a choice a byte: twice as fast
_TOKEN = re.compile(_STRING + rb"|[{}\[\],:]")


def fields(document: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The members of the document as (name, value) slices of its own JSON text.

    Nothing is printed again: numbers keep every digit. Both slices are JSON texts,
    so that a string still has its quotes and escapes.
    """
    depth, name, start, is_value = 0, b"", 0, False
    for token in _TOKEN.finditer(document):
        sign = document[token.start()]
        if sign in b"{[":
            depth += 1
        elif sign in b"}]":
            depth -= 1
        if depth == 1 and sign == 0x3A and not is_value:
            start, is_value = token.end(), True
        elif (depth == 0 or (depth == 1 and sign == 0x2C)) and is_value:
            yield name, document[start : token.start()].strip()
            is_value = False
        elif depth == 1 and sign == 0x22 and not is_value:
            name = token[0]


def key_of(document: bytes, key: tuple[str, ...]) -> Parts:
    """The parts of a document's key, from its own columns."""
    members = {orjson.loads(name): value for name, value in fields(document)}
    return tuple(_part(members.get(column)) for column in key)


def _part(value: bytes | None) -> str | None:
    """A key column's text from its JSON."""
    if value is None or value == b"null":
        return None
    return str(orjson.loads(value)) if value.startswith(b'"') else value.decode()
