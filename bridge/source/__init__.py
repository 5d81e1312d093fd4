"""What the pipeline asks of the source besides its stream: snapshots and markers.

The one thing to know: this is a seam. `bridge.source.postgres` answers it with real
connections, the simulator with a history of its own; the pipeline cannot tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import NamedTuple, Protocol, TypeVar

from bridge.changes import Value
from bridge.derive.view import KeyQuery, ViewPlan
from bridge.errors import Halt, ViewHalt, first_of
from bridge.gate import Snapshot
from bridge.keys import Parts

Texts = TypeVar("Texts", bound=tuple[object, ...])
"""Values as texts: parts of a key, or columns of a changed row."""


class Row(NamedTuple):
    """One row of a view: its key and its document as Postgres made it."""

    parts: Parts
    document: bytes


class Digest(NamedTuple):
    """A row of a view by its key, and the first 16 bytes of its document's SHA-256."""

    parts: Parts
    digest: bytes


class Failure(NamedTuple):
    """A key for which the query failed. `reason` quotes no value."""

    parts: Parts
    reason: str


class StatementRefused(Halt):
    """A statement of a view is not carried out: its tables are not as it was planned
    for, or a right is missing."""

    def of(self, view: str) -> ViewHalt:
        """The same, told of the view whose statement it was."""
        return ViewHalt(view, self.message, hint=self.hint)


@contextmanager
def refusals_of(view: str) -> Iterator[None]:
    """A statement that is refused inside, alone or in a group, is told of that view."""
    try:
        yield
    except* StatementRefused as errors:
        raise first_of(errors).of(view) from None


class QueryFailed(Exception):
    """The query fails for some key; read again with `careful` to learn for which.

    Where it is `doubtful`, it may be the statement that fails, whatever the key is.
    """

    def __init__(self, message: str, *, doubtful: bool = False) -> None:
        super().__init__(message)
        self.doubtful = doubtful


class SnapshotReader(Protocol):
    """One open snapshot of the source: every call sees the same state."""

    snapshot: Snapshot
    insert_lsn: int

    def keys(
        self, query: KeyQuery, images: Sequence[tuple[Value, ...]]
    ) -> AsyncIterator[list[Parts]]:
        """The keys that these changed rows touch, in pages; some perhaps twice."""

    async def documents(
        self, plan: ViewPlan, keys: Sequence[Parts], *, careful: bool = False
    ) -> tuple[list[Row], list[Failure]]:
        """The rows of these keys; a key without one has no row.

        QueryFailed where the query fails for some key, unless `careful`: then each
        such key is a failure, at the cost of more statements.
        """

    async def unfit(self, cast_sql: str, rows: Collection[Texts]) -> set[Texts]:
        """Those of these rows of texts that are no values of the types that they are
        cast to (`ViewPlan.cast_sql`, `KeyQuery.cast_sql`), as types are now."""

    def scan(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Row]]:
        """All rows with lower < key <= upper, in pages of some MiB."""

    def digests(
        self, plan: ViewPlan, lower: Parts | None, upper: Parts | None
    ) -> AsyncIterator[list[Digest]]:
        """The same rows with digests in place of their documents."""

    async def boundary(
        self, plan: ViewPlan, lower: Parts | None, count: int
    ) -> Parts | None:
        """The `count`-th key above `lower`; None when fewer are left."""

    async def null_keys(self, plan: ViewPlan) -> list[Parts]:
        """The keys with a part that is null: they are in the last range of all."""

    async def matching(self, plan: ViewPlan, condition: str) -> list[Parts]:
        """The keys of the view's rows for which a condition on its columns holds."""

    async def count(self, plan: ViewPlan) -> int:
        """How many keys the view has."""

    async def estimate(self, plan: ViewPlan) -> int:
        """About how many documents the view has, by the planner's statistics."""


class Source(Protocol):
    """One source database."""

    def read(
        self, *, scanning: bool = False
    ) -> AbstractAsyncContextManager[SnapshotReader]:
        """A fresh snapshot. `scanning` uses other connections, so that a backfill
        never makes the stream wait for one."""

    async def emit(self, content: str) -> None:
        """Put a transactional message with the bridge's prefix into the log."""
