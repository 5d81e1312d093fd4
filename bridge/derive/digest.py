"""From whole transactions to what there is to do: operations, keys, changed rows.

    transactions ─▶ digest ─▶ Batch: puts     documents straight from the log
                                     reread   keys known from the row, to be read back
                                     images   changed rows, for the views' key queries
                                     …

Pure, and made for the thread that captures: no I/O, no clock. One `Digester` is used
by one thread; it remembers nothing between calls but the position it has come to.

The one thing to know: a document leaves from here only when its row says everything
and its key was not also removed in the same transaction; in any doubt the key is to be
read back, which is always right. Two changes of one key are told apart by version
alone: within a transaction (one version) a doubtful key stays doubtful, between
transactions the later wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bridge.changes import (
    Change,
    Event,
    LogicalMessage,
    Relation,
    Transaction,
    Truncate,
)
from bridge.derive.draft import Draft
from bridge.derive.route import Route, Step
from bridge.derive.view import ViewPlan
from bridge.keys import Parts
from bridge.operations import Operation
from bridge.position import Position
from bridge.shape import TypeShape

Images = dict[tuple[str, int], list[tuple[bytes | None, ...]]]
"""By view and index of the key query in `ViewPlan.key_queries`: the values of
`KeyQuery.columns` of every row image that changed, old and new, each once."""

PIECE_CHANGES_MAX = 10_000
"""Events of a spilled transaction that go into one batch at most."""
PIECE_BYTES_MAX = 16 << 20
"""What a piece of a spilled transaction holds before it is handed on, in bytes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some whole transactions, or a piece of one that was too large for memory.

    Of a spilled transaction each piece but the last carries the position *before* the
    transaction as `end_lsn`, so that nothing is acknowledged early; `version_lsn` is
    the transaction's end in all of them, and so are `xids`.
    """

    end_lsn: int
    """What may be acknowledged once all of this is kept: a transaction's end."""
    version_lsn: int
    """LSN of the version of what is derived from this: the end of the last
    transaction that is (partly) in it."""
    version: int
    """`Position(epoch, version_lsn).version`."""
    xids: tuple[int, ...]
    """Top-level transactions that must be visible to whoever reads for this batch."""
    commit_time_s: float
    """Of the oldest transaction in it, seconds since 1970 by the server's clock."""
    transactions: int
    """Transactions that end here: 0 for a piece that is not the last."""
    spilled: int
    """Of these, too large for memory."""
    changes: int
    """Row changes, whether or not a view reads their table."""
    byte_size: int
    """About what the content takes in memory."""
    puts: dict[str, dict[str, Operation]]
    """By view and key text: documents (or their absence) straight from the log, each
    at the version of its own transaction."""
    reread: dict[str, dict[Parts, int]]
    """By view: keys to be read back, with the version of the last transaction that
    touched them. No key is both here and in `puts`."""
    images: Images
    truncated: frozenset[int]
    """Tables (by oid) that were truncated: every view of them is to be swept, at
    `version`. `puts` and `reread` hold what was written after it."""
    sweeps: frozenset[str]
    """Views to be swept, since the log does not tell which documents follow: it is of
    a time when their tables were not as they are planned for."""
    null_keys: frozenset[str]
    """Views whose all-null key is to be derived too (`ViewPlan.null_key`)."""
    messages: tuple[tuple[str, bytes, int], ...]
    """Prefix and content of logical messages, and the end of their transaction."""

    @property
    def piece(self) -> bool:
        """The transaction that it is of goes on in the next one."""
        return self.end_lsn < self.version_lsn

    @property
    def empty(self) -> bool:
        """Nothing in it concerns any view; messages may still be there."""
        return not (
            self.puts
            or self.reread
            or self.images
            or self.truncated
            or self.sweeps
            or self.null_keys
        )


class Digester:
    """Digests transactions for a set of views.

    `types` tells every type that is not built in, by oid: what a domain stands for
    (`TypeShape.oid` is the base type's), enums, arrays of those. A type that Postgres
    makes JSON of through a cast must not be in it. What is missing is read back.

    `position` is the end of the last transaction that went before. Up to `planned`
    the log may describe tables as they were before the views were planned: what
    cannot be followed there asks for a sweep, and beyond it is an error.
    """

    def __init__(
        self,
        plans: Iterable[ViewPlan],
        types: Mapping[int, TypeShape],
        *,
        epoch: int,
        position: int = 0,
        planned: int = 0,
        piece_changes_max: int = PIECE_CHANGES_MAX,
        piece_bytes_max: int = PIECE_BYTES_MAX,
    ) -> None:
        self.routes = tuple(Route(plan, types) for plan in plans)
        self.epoch = epoch
        self.position = position
        self._piece_changes_max = piece_changes_max
        self._piece_bytes_max = piece_bytes_max
        self._planned = planned
        self._past = True
        self._steps: dict[int, tuple[Relation, tuple[Step, ...]]] = {}
        """By the identity of the description, which is kept alive beside it."""

    def keep(self, relation: Relation) -> frozenset[str]:
        """Columns of a row that keys are found by.

        A transaction too large for memory may make all others ABSENT.
        """
        return frozenset[str]().union(*(r.keep(relation) for r in self.routes))

    def digest(self, transactions: Iterable[Transaction]) -> Iterator[Batch]:
        """Batches that cover the transactions, in order.

        One batch, unless there are spilled transactions among them: those come in
        pieces of bounded size, by themselves. `position` moves when a batch with a
        new `end_lsn` is given out.

        Raises RouteHalt when a row lacks an old value that a view needs, Redescribed
        when its table is not as the view was planned for: nothing of the batch in the
        making is given out then.
        """
        draft: Draft | None = None
        for transaction in transactions:
            if transaction.spilled:
                if draft is not None:
                    yield self._close(draft)
                    draft = None
                yield from self._pieces(transaction)
                continue
            if draft is None:
                draft = Draft(transaction.commit_time_s)
            self._begin(draft, transaction)
            self._take(draft, transaction.events)
            draft.transactions += 1
        if draft is not None:
            yield self._close(draft)

    def _pieces(self, transaction: Transaction) -> Iterator[Batch]:
        """A spilled transaction: keys only, all of them read back.

        A key may be removed in one piece and written in another, at one version; what
        is read once the whole transaction is visible is right in every piece.
        """
        draft = self._piece(transaction)
        events: list[Event] = []
        for event in transaction.events:
            events.append(event)
            if len(events) < 1024:
                continue
            self._take(draft, events)
            events.clear()
            if (
                draft.changes >= self._piece_changes_max
                or draft.byte_size >= self._piece_bytes_max
            ):
                yield self._close(draft, end_lsn=self.position)
                draft = self._piece(transaction)
        self._take(draft, events)
        draft.transactions = draft.spilled = 1
        yield self._close(draft)

    def _piece(self, transaction: Transaction) -> Draft:
        draft = Draft(transaction.commit_time_s)
        self._begin(draft, transaction)
        draft.read_all_back = True
        return draft

    def _begin(self, draft: Draft, transaction: Transaction) -> None:
        draft.xids.append(transaction.xid)
        draft.commit_time_s = min(draft.commit_time_s, transaction.commit_time_s)
        draft.lsn = transaction.end_lsn
        draft.version = Position(self.epoch, transaction.end_lsn).version
        draft.doubtful.clear()
        past = transaction.end_lsn <= self._planned
        if past != self._past:
            self._past = past
            self._steps.clear()

    def _take(self, draft: Draft, events: Iterable[Event]) -> None:
        """The hot loop: every event of one transaction (or of a piece of it)."""
        last: Relation | None = None
        steps: tuple[Step, ...] = ()
        changes = 0
        for event in events:
            if event.__class__ is Change:
                changes += 1
                relation = event.relation
                if relation is not last:
                    last = relation
                    steps = self._steps_of(relation)
                for step in steps:
                    step(draft, event)
            elif isinstance(event, Truncate):
                self._truncate(draft, event.relations)
            elif isinstance(event, LogicalMessage):
                draft.messages.append((event.prefix, event.content, draft.lsn))
                draft.byte_size += len(event.content)
        draft.changes += changes

    def _truncate(self, draft: Draft, relations: Iterable[Relation]) -> None:
        for relation in relations:
            for route in self.routes:
                if route.reads(relation.oid):
                    draft.truncated.add(relation.oid)
                    route.truncate(draft)

    def _steps_of(self, relation: Relation) -> tuple[Step, ...]:
        cached = self._steps.get(id(relation))
        if cached is not None:
            return cached[1]
        steps = tuple(
            step
            for route in self.routes
            if (step := route.compile(relation, past=self._past)) is not None
        )
        if len(self._steps) >= 4096:
            self._steps.clear()  # re-described over and over: a bound, not a policy
        self._steps[id(relation)] = (relation, steps)
        return steps

    def _close(self, draft: Draft, end_lsn: int | None = None) -> Batch:
        end_lsn = draft.lsn if end_lsn is None else end_lsn
        self.position = end_lsn
        return Batch(
            end_lsn=end_lsn,
            version_lsn=draft.lsn,
            version=draft.version,
            xids=tuple(draft.xids),
            commit_time_s=draft.commit_time_s,
            transactions=draft.transactions,
            spilled=draft.spilled,
            changes=draft.changes,
            byte_size=draft.byte_size,
            puts={view: puts for view, puts in draft.puts.items() if puts},
            reread={view: keys for view, keys in draft.reread.items() if keys},
            images={place: list(rows) for place, rows in draft.images.items()},
            truncated=frozenset(draft.truncated),
            sweeps=frozenset(draft.sweeps),
            null_keys=frozenset(draft.null_keys),
            messages=tuple(draft.messages),
        )
