"""What the log says: relations, rows, transactions.

The one thing to know: a column of a row image is absent, null, unchanged or a text,
and these four are never confused. Values are the bytes of Postgres' text output in
UTF-8; nobody decodes them to Python types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple, TypeAlias


class Marker(Enum):
    """Values of a column that are neither null nor text."""

    UNCHANGED = "unchanged"
    """A large (TOAST) value that the change did not touch: the log leaves it out."""
    ABSENT = "absent"
    """Not in this image: not part of the replica identity, or dropped on purpose
    from a transaction too large to be kept in memory."""


UNCHANGED = Marker.UNCHANGED
ABSENT = Marker.ABSENT

Value: TypeAlias = bytes | None | Marker
Image: TypeAlias = "list[Value] | tuple[Value, ...]"
"""A row's columns in the order of `Relation.columns`."""


class Identity(StrEnum):
    """`pg_class.relreplident`: which old columns an update or delete carries."""

    DEFAULT = "d"
    NOTHING = "n"
    FULL = "f"
    INDEX = "i"


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """One column as a Relation message tells it."""

    name: str
    type_oid: int
    type_modifier: int
    in_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the stream describes it (a partitioned one as its root)."""

    oid: int
    schema: str
    name: str
    identity: Identity
    columns: tuple[RelationColumn, ...]


class ChangeKind(StrEnum):
    """What a statement did to a row, by the letter of its message."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


class Change(NamedTuple):
    """The effect of one statement on one row.

    `old` is None for an insert, and for an update that did not touch the identity
    (then the old key equals the new one). Columns of `old` that the identity does not
    carry are ABSENT. `new` is None for a delete.
    """

    kind: ChangeKind
    relation: Relation
    old: Image | None
    new: Image | None


class Truncate(NamedTuple):
    """All rows of these relations are gone."""

    relations: tuple[Relation, ...]


class LogicalMessage(NamedTuple):
    """`pg_logical_emit_message`; a transactional one stands among the changes."""

    prefix: str
    content: bytes


Event: TypeAlias = Change | Truncate | LogicalMessage


@dataclass(frozen=True, slots=True)
class Transaction:
    """One committed transaction, whole.

    `events` is in the order of execution and can be iterated more than once. Of a
    transaction beyond the memory limit (`spilled`) it reads from disk, and images
    hold only the columns that keys are found by, all others ABSENT.
    """

    xid: int
    """Top-level transaction id, 32 bits."""
    end_lsn: int
    commit_time_s: float
    """When it committed, by the server's clock, in seconds since 1970."""
    events: Iterable[Event]
    count: int
    """Number of events."""
    spilled: bool = False
    memory_bytes: int = 0
    """About what its events take in memory, for bounds on what is queued."""
    described: tuple[Relation, ...] = ()
    """Relations that this transaction was the first to describe on its connection, or
    described otherwise than before: what depends on them is to be checked again."""


class Keepalive(NamedTuple):
    """The server has sent everything that committed up to `wal_end`."""

    wal_end: int
