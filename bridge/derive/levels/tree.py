"""One way from each occurrence to the key: a tree.

The one thing to know: the way of an occurrence is one edge and the way of the next.
Ways that are not a tree lose documents when two links change in one transaction and
each is looked for by the other's way.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.derive.levels.edges import Edge
from bridge.derive.levels.model import Occurrence
from bridge.derive.levels.rules import ALL, Rule, Rules


def ways(
    key: Occurrence,
    edges: list[Edge],
    indexed: Callable[[Edge], bool],
    rules: Rules = ALL,
) -> dict[int, tuple[Edge, ...]]:
    """By identity of each occurrence that is reached: its edges, in order, to `key`.

    Breadth first from the key backwards. Of several next occurrences that are equally
    far, one by an equality with an index behind it goes before the others.
    """
    if Rule.ONE_TREE not in rules:
        return _each_its_own(key, edges)
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


def _each_its_own(key: Occurrence, edges: list[Edge]) -> dict[int, tuple[Edge, ...]]:
    """The longest way of each by itself: what the rule is there to forbid."""
    found: dict[int, tuple[Edge, ...]] = {id(key): ()}

    def follow(at: Occurrence, way: tuple[Edge, ...], seen: frozenset[int]) -> None:
        start = id(way[0].source) if way else 0
        if at is key:
            if start and len(way) > len(found.get(start, ())):
                found[start] = way
            return
        for edge in edges:
            if edge.source is at and id(edge.target) not in seen:
                follow(edge.target, (*way, edge), seen | {id(edge.target)})

    for edge in edges:
        if edge.source is not key:
            follow(edge.source, (), frozenset({id(edge.source)}))
    return found


def _rank(edge: Edge, indexed: Callable[[Edge], bool]) -> tuple[bool, bool]:
    return not edge.equals, not indexed(edge)
