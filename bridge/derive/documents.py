"""Deriving documents: what a view gives for some keys, as operations.

The one thing to know: a key without a row is a delete. Nobody decides that but the
query itself, in a snapshot that may be read for the version that is written; and a key
that is no value of its type any more has no row, whatever the query is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bridge.derive.view import ViewPlan
from bridge.keys import Parts, key_text
from bridge.operations import Operation, Rejection
from bridge.source import SnapshotReader, StatementRefused

NOT_UNIQUE = "key not unique: the query gives more than one row for it"


class Derived(NamedTuple):
    """Documents of some keys, and those that cannot be made."""

    operations: list[Operation]
    rejections: list[tuple[Parts, Rejection]]


async def derive(
    reader: SnapshotReader,
    plan: ViewPlan,
    keys: Sequence[Parts],
    version: int,
    *,
    careful: bool = False,
) -> Derived:
    """The operations that make these keys be what the snapshot shows.

    A key without a row is a delete; one with two rows, or for which the query fails
    (only with `careful`, else QueryFailed), is rejected. Of a key that is written
    otherwise by now ('07', of a text that became an integer) the other is derived too.
    """
    asked = keys
    try:
        if careful and (unfit := await reader.unfit(plan.cast_sql, keys)):
            asked = [parts for parts in keys if parts not in unfit]
        rows, failures = await reader.documents(plan, asked, careful=careful)
        found = {row.parts: row.document for row in rows}
        twice = len(rows) > len(found)
        if twice and len(found) < len(asked):
            # A key that was asked for by two texts has given its row twice, too.
            rows, _ = await reader.documents(plan, list(found), careful=careful)
    except StatementRefused as refused:
        raise refused.of(plan.name) from refused
    rejected = {failure.parts: failure.reason for failure in failures}
    if twice:
        counts = Counter(row.parts for row in rows)
        rejected |= {parts: NOT_UNIQUE for parts, n in counts.items() if n > 1}
    operations = [
        Operation(key_text(parts), parts, version, document)
        for parts, document in found.items()
        if parts not in rejected
    ]
    operations += [
        Operation(key_text(parts), parts, version, None)
        for parts in keys
        if parts not in found and parts not in rejected
    ]
    return Derived(
        operations,
        [(parts, Rejection(key_text(parts), why)) for parts, why in rejected.items()],
    )
