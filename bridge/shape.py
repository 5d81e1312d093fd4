"""A view's output: which columns of which types its documents have.

The one thing to know: this is what a sink decides its mapping by, before any document
exists; for JSON built in the query it holds the types of the parts as far as the
query tells them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What JSON a value of the type becomes, in the words of pg_type."""

    SCALAR = "scalar"
    ARRAY = "array"
    OBJECT = "object"
    """A composite type or a JSON object built in the query: `members` tell."""
    RANGE = "range"
    MULTIRANGE = "multirange"
    ENUM = "enum"
    JSON = "json"
    """A json or jsonb value of unknown content."""


@dataclass(frozen=True, slots=True)
class TypeShape:
    """One type, domains already resolved to what they stand for.

    `name` is pg_type.typname of the base type (`int8`, `text`, `numeric`, `hstore`);
    `element` is set for arrays and the subtype of ranges, `members` for objects.
    """

    kind: Kind
    name: str
    oid: int = 0
    modifier: int = -1
    """atttypmod: precision and scale of a numeric, length of a varchar; -1: none."""
    element: TypeShape | None = None
    members: tuple[tuple[str, TypeShape], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One output column of a view, under the name it has in the document."""

    name: str
    type: TypeShape
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """The output columns of a view in order, and which of them are the key."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_nullable: bool = True
    """Whether a part of a key may be null, as a group's over an outer join."""

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
