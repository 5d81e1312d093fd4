"""Deriving documents: what a view gives for some keys, as operations.

The one thing to know: a key without a row is a delete. Nobody decides that but the
query itself, in a snapshot that may be read for the version that is written.
"""

from __future__ import annotations

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
    (only with `careful`, else QueryFailed), is rejected.
    """
    try:
        rows, failures = await reader.documents(plan, keys, careful=careful)
    except StatementRefused as refused:
        raise refused.of(plan.name) from refused
    found: dict[Parts, Operation] = {}
    rejected: dict[Parts, str] = {f.parts: f.reason for f in failures}
    for parts, document in rows:
        if parts in found:
            rejected[parts] = NOT_UNIQUE
        found[parts] = Operation(key_text(parts), parts, version, document)
    for parts in rejected:
        found.pop(parts, None)
    operations = list(found.values())
    if len(found) + len(rejected) < len(keys):
        operations += [
            Operation(key_text(parts), parts, version, None)
            for parts in keys
            if parts not in found and parts not in rejected
        ]
    return Derived(
        operations,
        [(parts, Rejection(key_text(parts), why)) for parts, why in rejected.items()],
    )
