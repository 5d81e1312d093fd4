"""The text of a key: what a document is called in every sink.

The one thing to know: two keys are equal if and only if their texts are. A key is
kept beside its text as its parts (the text of each key column, None for null), since
a text that was too long is a digest and cannot be taken apart again.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import unquote

Parts: TypeAlias = tuple[str | None, ...]
"""The text of each key column in the order of the view's key; None is null."""

KEY_BYTES_MAX = 512
"""Elasticsearch refuses an `_id` beyond 512 bytes; every sink uses the same text."""
DIGEST_PREFIX = "sha256:"
NULL_PART = "%00"

_SPECIAL = re.compile(r"[%:\x00-\x1f\x7f]")


def encode_part(part: str | None) -> str:
    """One part of a composite key: `%`, `:` and control characters encoded."""
    if part is None:
        return NULL_PART
    return _SPECIAL.sub(lambda m: f"%{ord(m[0]):02X}", part)


def key_text(parts: Parts) -> str:
    """The text of a key: a single part as it is, several encoded and joined by `:`.

    What is empty, over 512 bytes or begins like a digest becomes `sha256:` and the
    digest of the UTF-8 text, in hexadecimal.
    """
    if len(parts) == 1 and parts[0] is not None:
        text = parts[0]
    else:
        text = ":".join(map(encode_part, parts))
    if 0 < len(text) <= 128 and text[0] != "s":
        return text  # the common case: at most 4 bytes a character
    encoded = text.encode()
    if 0 < len(encoded) <= KEY_BYTES_MAX and not text.startswith(DIGEST_PREFIX):
        return text
    return DIGEST_PREFIX + sha256(encoded).hexdigest()


def parse_key(text: str, columns: int, *, nullable: bool = True) -> Parts:
    """The parts of a key's text; `nullable` tells whether a single one may be null.

    ValueError when it has another number of parts, or is a digest, which cannot be
    taken apart.
    """
    if text.startswith(DIGEST_PREFIX):
        if columns == 1 and text == key_text(("",)):
            return ("",)
        raise ValueError(f"{text} is a digest and cannot be taken apart")
    if columns == 1:
        return (None,) if text == NULL_PART and nullable else (text,)
    parts = text.split(":")
    if len(parts) != columns:
        count = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
        raise ValueError(f"the key {text!r} has {count}, not {columns}")
    return tuple(None if part == NULL_PART else unquote(part) for part in parts)


def named_key(text: str, columns: int, *, nullable: bool = True) -> Parts | None:
    """The parts of the key that a stored document is called by; None where no key of
    the view has that text: somebody else wrote it. Not for digests."""
    try:
        parts = parse_key(text, columns, nullable=nullable)
    except ValueError:
        return None
    return parts if key_text(parts) == text else None
