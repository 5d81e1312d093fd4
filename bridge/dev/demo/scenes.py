"""Scenes: one change of one row, the document before and after, and who finds it.

The one thing to know: a scene polls the index and the cache for the change that it has
just committed; what it tells is the time until it was there, and who was asked first
does not matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import astuple, dataclass
from string import Template
from typing import Any, TypeAlias, TypeVar

from bridge.dev.demo.traffic import CATEGORIES, RESERVED
from bridge.dev.demo.witness import Witness
from bridge.errors import Halt

_POLL_S, _SEARCH_POLL_S, _DEADLINE_S = 0.003, 0.05, 30.0
Document: TypeAlias = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scene:
    """A change, and where it is to be seen."""

    statement: str
    index: str
    key: str
    cached: str
    field: str
    """The field that changes; empty: the document goes."""
    query: str
    """A search that the change brings the document into, or out of."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a scene has shown; times are from the commit."""

    scene: Scene
    before: Document
    after: Document | None
    indexed_s: float
    cached_s: float
    hits: int
    searched_s: float


# With two products and an order that the traffic leaves alone.
_ACT = (
    Scene(
        "update product set price = $price where id = $first",
        "products",
        "$first",
        "product:$first",
        "price",
        "price:$price",
    ),
    Scene(
        "insert into review (product_id, rating, body) values ($first, 5, 'superb')",
        "products",
        "$first",
        "product:$first",
        "reviews",
        "reviews.body:superb",
    ),
    Scene(
        "update category set name = '$name' where id = $category",
        "products",
        "$second",
        "product:$second",
        "category",
        'category:"$name"',
    ),
    Scene(
        "update orders set status = 'returned' where id = $order",
        "orders",
        "$order",
        "order:$order",
        "status",
        "status:returned",
    ),
    Scene(
        "update review set product_id = $second where id = $review",
        "products",
        "$second",
        "product:$second",
        "reviews",
        "reviews.body:superb",
    ),
    Scene(
        "delete from product where id = $first",
        "products",
        "$first",
        "product:$first",
        "",
        "id:$first",
    ),
)


async def scenes(witness: Witness) -> AsyncIterator[Told]:
    """One after another, each played when it is asked for."""
    for act in range(1, RESERVED // 2):
        first, second = 2 * act - 1, 2 * act
        for scene in _ACT:
            values = {
                "first": first,
                "second": second,
                "order": act,
                "category": 1 + second % CATEGORIES,
                "name": f"offer {act}",
                "price": f"{100 + act}.50",
                "review": await witness.newest_review(first),
            }
            texts = [Template(text).substitute(values) for text in astuple(scene)]
            yield await _play(witness, Scene(*texts))


async def _play(witness: Witness, scene: Scene) -> Told:
    before = await witness.indexed(scene.index, scene.key)
    cached = await witness.cached(scene.cached)
    assert before is not None and cached is not None, scene
    await (await witness.source()).execute(scene.statement.encode())
    committed = time.monotonic()

    def changed(document: Document | None, was: Document) -> bool:
        if document is None or not scene.field:
            return document is None
        return document.get(scene.field) != was.get(scene.field)

    (after, indexed_s), (_, cached_s) = await asyncio.gather(
        _until(
            lambda: witness.indexed(scene.index, scene.key),
            lambda document: changed(document, before),
            committed,
        ),
        _until(
            lambda: witness.cached(scene.cached),
            lambda document: changed(document, cached),
            committed,
        ),
    )
    hits, searched_s = await _until(
        lambda: witness.found(scene.index, scene.query),
        lambda found: (scene.key in found) == bool(scene.field),
        committed,
        every_s=_SEARCH_POLL_S,
    )
    return Told(scene, before, after, indexed_s, cached_s, len(hits), searched_s)


async def _until(
    ask: Callable[[], Awaitable[T]],
    enough: Callable[[T], bool],
    since_s: float,
    every_s: float = _POLL_S,
) -> tuple[T, float]:
    """The first answer that is enough, and how long it took. Halt at the deadline."""
    while True:
        answer = await ask()
        passed = time.monotonic() - since_s
        if enough(answer):
            return answer, passed
        if passed > _DEADLINE_S:
            raise Halt(
                f"a change was not there {_DEADLINE_S:g} s after its commit",
                hint="this is a defect of pgbridge, or a machine with no time for it",
            )
        await asyncio.sleep(every_s)
