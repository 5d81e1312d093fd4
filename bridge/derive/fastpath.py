"""From a row of the log to the bytes that `row_to_json` gives in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bridge.changes import Image, Relation
from bridge.derive.view import Direct
from bridge.keys import Parts
from bridge.shape import TypeShape

Encode: TypeAlias = Callable[[Image], "bytes | None"]
Identify: TypeAlias = Callable[[Image], "tuple[str, Parts] | None"]


@dataclass(frozen=True, slots=True)
class DirectEncoder:
    """Compiled for one description of one table and one view of it."""

    encode: Encode
    """The document, or None: read it back."""
    key: Identify
    """The key's text and parts, or None: a key column is null, absent or unchanged."""
    source: str
    """The generated code, for debugging."""


def compile_direct(
    direct: Direct, relation: Relation, types: Mapping[int, TypeShape]
) -> DirectEncoder | None:
    """The encoder, or None: rows of this table are read back."""
    return None


def compile_key(
    names: tuple[str, ...], relation: Relation, types: Mapping[int, TypeShape]
) -> Identify | None:
    """From a row to the text and parts of its key; None when a column is missing."""
    return None
