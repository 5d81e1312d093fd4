"""Keys as people write them, found in the source.

The one thing to know: a key whose text is a digest cannot be taken apart, so that it is
looked for among the few keys that have one.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Composable, Identifier, Literal

from bridge.derive.view import ViewPlan
from bridge.keys import DIGEST_PREFIX, KEY_BYTES_MAX, Parts, key_text, parse_key
from bridge.source import QueryFailed, SnapshotReader, Source

_ENCODED_BYTES_MAX = 3
"""What one byte of a part takes in a key's text, encoded."""


async def given_keys(
    reader: SnapshotReader, plan: ViewPlan, texts: Iterable[str]
) -> dict[str, Parts | None]:
    """The parts of each of these texts; None for a digest of no key of the view.

    ValueError for a text that no key of the view can have.
    """
    found: dict[str, Parts | None] = {}
    columns, nullable = len(plan.shape.key), plan.shape.key_nullable
    for text in texts:
        try:
            parts = found[text] = parse_key(text, columns, nullable=nullable)
        except ValueError:
            if not text.startswith(DIGEST_PREFIX):
                raise
            found[text] = None
        else:
            if (written := key_text(parts)) != text:
                raise ValueError(f"the key {text!r} is written {written!r} in `_id`")
    if None in found.values():
        for parts in await reader.matching(plan, _may_be_digests(plan)):
            text = key_text(parts)
            if text in found:
                found[text] = parts
    return found


async def can_be_a_key(source: Source, plan: ViewPlan, parts: Parts) -> bool:
    """Whether texts are values of the key columns' types. QueryFailed never."""
    for lower in (None, parts):
        try:
            async with source.read(scanning=True) as reader:
                await reader.boundary(plan, lower, 1)
        except QueryFailed:
            # Where the view itself fails, nothing is known of the key.
            return lower is None
    return True


def _may_be_digests(plan: ViewPlan) -> str:
    """A condition that holds for every key whose text is a digest, and few others."""
    texts: list[Composable] = [
        SQL("coalesce({}::pg_catalog.text, '')").format(Identifier(name))
        for name in plan.shape.key
    ]
    condition = SQL(
        "{first} like {like} or {single} and {first} = '' "
        "or {factor} * ({lengths}) > {most}"
    ).format(
        first=texts[0],
        like=Literal(DIGEST_PREFIX[:-1] + "%"),
        single=SQL("true" if len(texts) == 1 else "false"),
        factor=Literal(_ENCODED_BYTES_MAX),
        lengths=SQL(" + ").join(
            SQL("pg_catalog.octet_length({}) + 1").format(text) for text in texts
        ),
        most=Literal(KEY_BYTES_MAX),
    )
    return condition.as_string(None)
