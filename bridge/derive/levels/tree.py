"""One way from each occurrence to the key: a tree.

The one thing to know: the way of an occurrence is one edge and the way of the next.
Ways that are not a tree lose documents when two links change in one transaction and
each is looked for by the other's way.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.derive.levels.edges import Edge
from bridge.derive.levels.model import Occurrence


def ways(
    key: Occurrence, edges: list[Edge], indexed: Callable[[Edge], bool]
) -> dict[int, tuple[Edge, ...]]:
    """By identity of each occurrence that is reached: its edges, in order, to `key`.

    Breadth first from the key backwards. Of several next occurrences that are equally
    far, one by an equality with an index behind it goes before the others.
    """
    found: dict[int, tuple[Edge, ...]] = {id(key): ()}
    layer = {id(key)}
    while layer:
        reached: dict[int, Edge] = {}
        for edge in edges:
            source = id(edge.source)
            if source in found or id(edge.target) not in layer:
                continue
            before = reached.get(source)
            if before is None or _rank(edge, indexed) < _rank(before, indexed):
                reached[source] = edge
        for source, edge in reached.items():
            found[source] = (edge, *found[id(edge.target)])
        layer = set(reached)
    return found


def _rank(edge: Edge, indexed: Callable[[Edge], bool]) -> tuple[bool, bool]:
    return not edge.equals, not indexed(edge)
