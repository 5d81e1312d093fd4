"""The least history, and the simplest query, that still lose a document.

The one thing to know: a part is left out if without it something is still lost, until
there is no such part; nobody asks whether the query then still means something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import JoinType
from pglast.stream import RawStream

from bridge.derive.parse import walk
from tests.property.derive.traffic import History

_LISTS = frozenset(
    "targetList fromClause groupClause sortClause usingClause ctes args".split()
)
"""Lists that may be shorter."""
_PARTS = frozenset(
    "whereClause havingClause limitCount distinctClause withClause agg_filter".split()
)
"""What may be missing."""


async def shrunk(
    history: History, loses: Callable[[History], Awaitable[bool]]
) -> History:
    """A history that still loses, of which no part can be left out."""
    found = True
    while found:
        found = False
        for less in history.fewer():
            if await loses(less):
                history, found = less, True
                break
    return history


async def simplest(
    query: str, losing: Callable[[list[str]], Awaitable[str | None]]
) -> str:
    """A query that still loses, of which no part can be left out.

    `losing` gives the first of several that loses.
    """
    found: str | None = query
    while found is not None:
        query = found
        found = await losing(list(simpler(query)))
    return query


def simpler(query: str) -> Iterator[str]:
    """The same query with one part less, outer parts first. Not all are valid."""
    for number in count():
        statement = parse_sql(query)[0].stmt
        edit = next((e for n, e in enumerate(_edits(statement)) if n == number), None)
        if edit is None:
            return
        edit()
        try:
            less = RawStream()(statement)
        except Exception:  # noqa: BLE001 - what no text can be made of
            continue
        yield less


def _edits(statement: ast.Node) -> Iterator[Callable[[], None]]:
    """Ways to leave something out, each for a statement of its own."""
    for node in walk(statement):
        for name in node:
            value = getattr(node, name)
            if isinstance(value, tuple) and name in _LISTS:
                yield from _of_list(node, name, value)
            elif name in _PARTS and value is not None:
                yield lambda node=node, name=name: setattr(node, name, None)
            elif isinstance(value, ast.Node):
                for other in _instead(value):
                    yield lambda n=node, a=name, o=other: setattr(n, a, o)
        if isinstance(node, ast.JoinExpr) and node.jointype != JoinType.JOIN_INNER:
            yield lambda n=node: setattr(n, "jointype", JoinType.JOIN_INNER)


def _of_list(
    node: ast.Node, name: str, value: tuple[Any, ...]
) -> Iterator[Callable[[], None]]:
    for at, item in enumerate(value):
        rest = (value[:at], value[at + 1 :])
        if len(value) > 1:
            yield lambda rest=rest: setattr(node, name, rest[0] + rest[1])
        for other in _instead(item):
            yield lambda rest=rest, o=other: setattr(
                node, name, (*rest[0], o, *rest[1])
            )


def _instead(node: object) -> Iterator[ast.Node]:
    """Parts of an expression or join that may take its place."""
    match node:
        case ast.JoinExpr(larg=left, rarg=right):
            yield from (left, right)
        case ast.BoolExpr(args=(only,)) | ast.CoalesceExpr(args=(only, *_)):
            yield only
        case ast.SelectStmt(larg=left, rarg=right) if left is not None:
            yield from (left, right)
        case ast.TypeCast(arg=inner):
            yield inner
