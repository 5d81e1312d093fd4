"""Keys as people write them, found in the source.

The one thing to know: a key whose text is a digest cannot be taken apart, so that it is
looked for among the few keys that have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from psycopg.sql import SQL, Composable, Identifier, Literal

from bridge.derive.view import ViewPlan
from bridge.keys import DIGEST_PREFIX, KEY_BYTES_MAX, Parts, key_text, parse_key
from bridge.source import QueryFailed, SnapshotReader, Source, StatementRefused

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


async def range_end(
    source: Source, plan: ViewPlan, lower: Parts | None, count: int
) -> Parts | None:
    """The `count`-th key above `lower`; None when fewer are left. StatementRefused
    where a key cannot be made."""
    with _keys_of(plan):
        async with source.read(scanning=True) as reader:
            return await reader.boundary(plan, lower, count)


async def keys_of_range(
    reader: SnapshotReader, plan: ViewPlan, lower: Parts | None, upper: Parts | None
) -> list[Parts]:
    """The keys with lower < key <= upper, one by one: slow, and needed once in a while.

    Those with a part that is null are in the last range of all. StatementRefused where
    a key cannot be made.
    """
    keys: list[Parts] = []
    at = lower
    with _keys_of(plan):
        while at is None or at != upper:
            at = await reader.boundary(plan, at, 1)
            if at is None:
                break
            keys.append(at)
        if upper is None:
            keys += await reader.null_keys(plan)
    return keys


@contextmanager
def _keys_of(plan: ViewPlan) -> Iterator[None]:
    """A document that fails leaves the others alone; a key that does leaves no order
    of keys in which they could be read."""
    try:
        yield
    except QueryFailed as error:
        raise StatementRefused(
            f"a key of view {plan.name} cannot be made: {error}",
            hint="put the row right, or write a query whose key fails for no row",
        ) from None


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
