"""The digester of the capture thread, which the loop may replace while it runs.

The one thing to know: a transaction too large for memory is digested lazily, in the
loop, while the thread goes on with what follows it; it has a digester of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from bridge.changes import Relation, Transaction
from bridge.derive.digest import Batch, Digester
from bridge.derive.view import ViewPlan
from bridge.shape import TypeShape


class LiveDigest:
    """What `CaptureThread` calls with whole transactions."""

    def __init__(
        self,
        plans: Iterable[ViewPlan],
        types: Mapping[int, TypeShape],
        epoch: int,
        planned: int = 0,
    ) -> None:
        """`planned` is where the log ended before the views were planned."""
        self._plans = tuple(plans)
        self._types = types
        self._epoch = epoch
        self._planned = planned
        self._by_leaf: dict[int, set[str]] = defaultdict(set)
        for plan in self._plans:
            for use in plan.tables:
                if use.by_leaf:
                    self._by_leaf[use.table.oid] |= use.identity
        self._digester = self._made(0)

    def start(self, position: int) -> None:
        """The stream begins (again) at `position`; nothing is being digested."""
        self._digester = self._made(position)

    def keep(self, relation: Relation) -> frozenset[str]:
        """Columns that must be kept of a transaction too large for memory."""
        return self._digester.keep(relation)

    def describe(self, relation: Relation) -> Relation:
        """The relation with the identity that its rows are written with.

        Of a partitioned table the stream tells the root's. What the views need, each
        leaf was seen to have; a leaf that has not ends this life or halts the view.
        """
        carried = self._by_leaf.get(relation.oid)
        if carried is None:
            return relation
        columns = (replace(c, in_identity=c.name in carried) for c in relation.columns)
        return replace(relation, columns=tuple(columns))

    def __call__(self, transactions: list[Transaction]) -> Iterable[Batch]:
        """The batches of some transactions."""
        if not any(transaction.spilled for transaction in transactions):
            return list(self._digester.digest(transactions))
        own = self._made(self._digester.position)
        self._digester.position = transactions[-1].end_lsn
        return own.digest(transactions)

    def _made(self, position: int) -> Digester:
        return Digester(
            self._plans,
            self._types,
            epoch=self._epoch,
            position=position,
            planned=self._planned,
        )
