"""Whether what a view stands on has changed: a cheap look, aspect by aspect.

    before = await read_traces(connection, plan.depends_on)
    …
    changed = compare(before, await read_traces(connection, plan.depends_on))

The one thing to know: this says that something may have changed, and which aspect of
it. What it means for the documents, a new plan tells: by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from bridge.catalog.analysis import Connection, fetch
from bridge.catalog.read import statement


class Aspect(StrEnum):
    """What of an object is looked at."""

    NAME = "name"
    """Schema, name, kind and persistence."""
    COLUMNS = "columns"
    LEAVES = "leaves"
    """Which tables have the rows."""
    STORAGE = "storage"
    """The files: written anew by `truncate`, by rewriting `alter table`, and by
    `vacuum full` and `cluster`, which change nothing."""
    IDENTITY = "identity"
    DEFINITION = "definition"
    """A view's query, an enum's labels, a composite's attributes."""
    BODY = "body"


class Trace(NamedTuple):
    """One aspect of one object."""

    kind: str
    """`relation`, `function` or `type`."""
    oid: int
    aspect: Aspect


class DependsOn(Protocol):
    """The objects that a view stands on, by oid."""

    @property
    def relations(self) -> Collection[int]:
        """Tables, and views of the database."""

    @property
    def functions(self) -> Collection[int]:
        """Functions that are not Postgres' own."""

    @property
    def types(self) -> Collection[int]:
        """Types that are not Postgres' own."""


Traces: TypeAlias = Mapping[Trace, str]


async def read_traces(connection: Connection, depends_on: DependsOn) -> Traces:
    """A digest for each aspect; an object that is gone has none. psycopg.Error."""
    rows = await fetch(
        connection,
        statement("traces"),
        sorted(depends_on.relations),
        sorted(depends_on.types),
    )
    found = {
        Trace(kind, oid, Aspect(aspect)): digest for kind, oid, aspect, digest in rows
    }
    functions = await fetch(
        connection, statement("functions"), sorted(depends_on.functions), []
    )
    for oid, schema, name, *_, digest in functions:
        found[Trace("function", oid, Aspect.BODY)] = f"{schema}.{name} {digest}"
    return found


def compare(before: Traces, now: Traces) -> frozenset[Trace]:
    """What is another now, or came, or is gone."""
    return frozenset(
        trace
        for trace in before.keys() | now.keys()
        if before.get(trace) != now.get(trace)
    )
