"""The body of `_bulk`, and one outcome for each item of its answer. Pure.

    {"index":{"_id":"42","version":9007199254740993,"version_type":"external"}}
    {"id":42,"title":"A book"}
    {"delete":{"_id":"43","version":9007199254740993,"version_type":"external"}}

The one thing to know: every item ends in exactly one outcome, whatever the server
answers; and nothing is made a Python object on the way that all goes well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.sink import Halt, Operation, Rejection, Report, Transient

FILTER = "errors,items.*.status,items.*.error.type,items.*.error.reason"
"""What the answer holds: 25 bytes an item when all is well, in place of 180."""

_PUT = '{"index":{"_id":"'
_DELETE = '{"delete":{"_id":"'
_VERSION = '","version":'
_END = ',"version_type":"external"}}\n'
_UNSAFE = re.compile(r'["\\\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]')
_ALL_WELL = b'{"errors":false'
# Anchored at the end, since the key stands before it and may say anything.
_CONFLICT = re.compile(
    r"current version \[(\d+)\] is higher or equal to the one provided \[(\d+)\]\Z"
)
_FIELDS = (
    re.compile(r"failed to parse field \[([^\]]*)\] of type"),
    re.compile(r"object mapping for \[([^\]]*)\] tried to parse"),
    re.compile(r'immense term in field="([^"]*)"'),
    re.compile(r"\Afield \[([^\]]*)\]"),
)
_LIMIT = re.compile(
    r"(Number value|String value|Document nesting|Property name|Name) (length|depth)"
    r" \((\d+)\) exceeds the maximum allowed \((\d+)"
)
_PRESSURE = re.compile(
    r"(?:primary|coordinating)_operation_bytes=(\d+),"
    r" max_(?:primary|coordinating)_bytes=(\d+)"
)
_BLOCK = re.compile(r"blocked by: \[([A-Z_]+/\d+/[a-z\-]+(?: [a-z\-]+)*)")
"""index [products--g1] blocked by: [FORBIDDEN/8/index write (api)];"""
_DYNAMIC = re.compile(r"within \[([^\]]*)\] is not allowed\Z")


def encode(operations: Sequence[Operation]) -> bytes:
    """The body for these operations; the index is in the URL."""
    keys = "\n".join([operation[0] for operation in operations])
    safe = keys.count("\n") == len(operations) - 1 and not _UNSAFE.search(keys)
    quote: Callable[[str], str] = _plain if safe else _escaped
    lines: list[bytes] = []
    add = lines.append
    for key, _, version, document in operations:
        name = key if safe else quote(key)
        if document is None:
            add(f"{_DELETE}{name}{_VERSION}{version}{_END}".encode())
        else:
            add(f"{_PUT}{name}{_VERSION}{version}{_END}".encode())
            add(document)
            add(b"\n")
    return b"".join(lines)


def _plain(key: str) -> str:
    return key


def _escaped(key: str) -> str:
    return orjson.dumps(key)[1:-1].decode()


@dataclass(frozen=True, slots=True)
class Batch:
    """What the outcomes of one request are read against.

    `indexes` are the places of its operations in the call. `highest` is the highest
    version ever issued for the generation; `fields` the names that a reason may quote.
    """

    operations: Sequence[Operation]
    indexes: Sequence[int]
    highest: int
    fields: Collection[str]


def tally(answer: bytes, batch: Batch, report: Report) -> list[int]:
    """Add the outcome of each operation to `report`, but for those that are returned:
    their indexes, being more than the server ever takes in one request.

    Transient when the answer does not hold an outcome for each; Halt for an outcome
    that nobody knows.
    """
    count = len(batch.operations)
    if answer.startswith(_ALL_WELL):
        if answer.count(b'"status":') != count:
            raise Transient("the answer to a bulk request is not whole")
        report.kept += count
        return []
    try:
        items = orjson.loads(answer)["items"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Transient("the answer to a bulk request cannot be read") from None
    if len(items) != count:
        raise Transient("the answer to a bulk request is not whole")
    oversized: list[int] = []
    for place, item in enumerate(items):
        (outcome,) = item.values()
        status = outcome["status"]
        if 200 <= status < 300:
            report.kept += 1
        elif status == 429 and never_fits(outcome["error"].get("reason") or ""):
            oversized.append(batch.indexes[place])
        else:
            _failed(outcome, status, batch, place, report)
    return oversized


def never_fits(reason: str) -> bool:
    """Whether a rejected request is larger than the server's memory for requests, so
    that it would be rejected for ever."""
    found = _PRESSURE.search(reason)
    return found is not None and int(found[1]) > int(found[2])


def _failed(
    outcome: dict[str, Any], status: int, batch: Batch, place: int, report: Report
) -> None:
    """One item that was not written."""
    operation, index = batch.operations[place], batch.indexes[place]
    error = outcome.get("error")
    if error is None:
        if status == 404 and operation.document is None:
            report.kept += 1  # there was none: the delete's version is remembered
            return
        raise Halt(f"a bulk item was answered {status} without a reason")
    kind, reason = error["type"], error.get("reason") or ""
    if kind in LATER or status in (408, 429) or status >= 500:
        report.again.append(index)
        report.why = f"documents are answered {status} {kind}"
        if (block := _BLOCK.search(reason)) is not None:
            report.why += f", blocked by {block[1]}"
    elif status == 409:
        _conflict(operation, index, reason, batch, report)
    elif status in (401, 403):
        raise Halt(
            f"a document may not be written: {kind}",
            hint="the role needs write on the targets' indexes",
        )
    elif reason.startswith(MISDIRECTED):
        raise Halt(
            "the index does not take documents as they are: somebody has given it a"
            " pipeline, or its write alias to another index",
            hint="set index.default_pipeline and index.final_pipeline of it to _none,"
            " and take its alias NAME--gN.Write away from other indexes",
        )
    elif status in (400, 413):
        told = explain(kind, reason, batch.fields)
        report.rejections[index] = Rejection(operation.key, told)
    else:
        raise Halt(f"a bulk item was answered {status} {kind}")


def _conflict(
    operation: Operation, index: int, reason: str, batch: Batch, report: Report
) -> None:
    """The sink has this or a newer version already, or so it says."""
    found = _CONFLICT.search(reason)
    if found is None or int(found[2]) != operation.version:
        raise Halt("a version conflict was told in words that are not known")
    stored = int(found[1])
    assert stored >= operation.version, (stored, operation.version)
    if stored > batch.highest:
        report.foreign.append(index)
    else:
        report.superseded += 1


MISDIRECTED = ("no write index is defined for alias", "pipeline with id [")
"""How the reason begins when it is the index that is at fault."""
LATER = frozenset(
    {
        # There is no such write alias any more (and no index can have its name). The
        # audit tells it as a loss.
        "index_not_found_exception",
        "invalid_index_name_exception",
        "cluster_block_exception",
        "index_closed_exception",
        "circuit_breaking_exception",
        "es_rejected_execution_exception",
        "unavailable_shards_exception",
        "no_shard_available_action_exception",
    }
)
"""The document is not at fault: it is sent again."""


def explain(kind: str, reason: str, fields: Collection[str]) -> str:
    """Why a document was refused, without a value of it.

    The server quotes values freely; of its text only the name of a field is taken, and
    only if the mapping has it.
    """
    if kind == "strict_dynamic_mapping_exception":
        found = _DYNAMIC.search(reason)
        place = f"object [{found[1]}]" if found and found[1] in fields else "document"
        return f"{kind}: the {place} has a field that is not in the mapping"
    if found := _LIMIT.search(reason):
        what, measure, size, limit = found.groups()
        return f"{kind}: {what} {measure} {size} is above the server's limit {limit}"
    for pattern in _FIELDS:
        if (found := pattern.search(reason)) and found[1] in fields:
            return f"{kind}: field [{found[1]}]"
    return kind
