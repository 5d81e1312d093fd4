"""Keys' parts on their way into `text[]` parameters, and rows on their way out.

The one thing to know: parts of many keys travel as one array of array *literals*,
since Postgres has no array of arrays of different lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.keys import Parts
from bridge.position import Position, parse_lsn
from bridge.store.rows import GenerationKey


def literal(parts: Sequence[str | None]) -> str:
    """The text form of a one-dimensional `text[]`."""
    return "{" + ",".join(map(_element, parts)) + "}"


def _element(part: str | None) -> str:
    if part is None:
        return "NULL"
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'


def maybe_literal(parts: Parts | None) -> str | None:
    """The same for a bound of a range, None where it is unbounded."""
    return None if parts is None else literal(parts)


def generation_key(row: dict[str, Any]) -> GenerationKey:
    """The generation that a row belongs to."""
    return GenerationKey(row["sink"], row["name"], row["number"])


def position(row: dict[str, Any]) -> Position | None:
    """The position in a row's `epoch` and `lsn`, where they are not null."""
    if row["epoch"] is None or row["lsn"] is None:
        return None
    return Position(row["epoch"], parse_lsn(row["lsn"]))
