"""Bodies and answers of `_bulk`: one outcome an item, no value in a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sink import Halt, Operation, Report, Transient
from sinks.elasticsearch.bulk import Batch, encode, explain, tally

FIELDS = frozenset({"id", "title", "reviews", "reviews.body"})
VERSION = 3 << 53 | 1000


def operation(key: str = "1", *, put: bool = True, version: int = VERSION) -> Operation:
    document = b'{"id":1,"price":1.10}' if put else None
    return Operation(key, (key,), version, document)


def answered(
    items: list[dict[str, Any]],
    operations: list[Operation] | None = None,
    highest: int = VERSION,
) -> Report:
    operations = operations or [operation(str(n)) for n in range(len(items))]
    body = json.dumps({"errors": True, "items": [{"index": item} for item in items]})
    report = Report()
    batch = Batch(operations, range(len(operations)), highest, FIELDS)
    tally(body.encode(), batch, report)
    return report


def failed(status: int, kind: str, reason: str = "") -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def conflict(stored: int, ours: int = VERSION, key: str = "0") -> dict[str, Any]:
    return failed(
        409,
        "version_conflict_engine_exception",
        f"[{key}]: version conflict, current version [{stored}] is higher or equal to"
        f" the one provided [{ours}]",
    )


def test_the_body_is_the_documents_own_bytes() -> None:
    body = encode([operation("a"), operation("b", put=False)])
    assert body == (
        b'{"index":{"_id":"a","version":%d,"version_type":"external"}}\n'
        b'{"id":1,"price":1.10}\n'
        b'{"delete":{"_id":"b","version":%d,"version_type":"external"}}\n'
        % (VERSION, VERSION)
    )


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_every_key_comes_back_from_the_body(keys: list[str]) -> None:
    keys = [key.encode("utf-8", "ignore").decode() or "x" for key in keys]
    lines = encode([operation(key) for key in keys]).split(b"\n")
    assert len(lines) == 2 * len(keys) + 1
    heads = [json.loads(line)["index"] for line in lines[:-1:2]]
    assert [head["_id"] for head in heads] == keys
    assert {head["version"] for head in heads} == {VERSION}


def test_all_well() -> None:
    report = Report()
    batch = Batch([operation(), operation("2")], range(2), VERSION, FIELDS)
    items = b'{"index":{"status":201}},{"delete":{"status":404}}'
    tally(b'{"errors":false,"items":[' + items + b"]}", batch, report)
    assert report == Report(kept=2)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"errors":false,"items":[{"index":{"status":201}}]}',
        b'{"errors":true,"items":[{"index":{"status":201}}]}',
        b'{"errors":true}',
        b'{"errors":true,"items":[{"ind',
        b"<html>",
    ],
)
def test_an_answer_that_is_not_whole_is_no_answer(answer: bytes) -> None:
    batch = Batch([operation(), operation("2")], range(2), VERSION, FIELDS)
    with pytest.raises(Transient):
        tally(answer, batch, Report())


def test_each_item_has_one_outcome() -> None:
    kinds = [
        {"status": 200},
        {"status": 201},
        conflict(VERSION),
        conflict(VERSION + 1),
        failed(429, "es_rejected_execution_exception"),
        failed(503, "unavailable_shards_exception"),
        failed(500, "illegal_state_exception"),
        failed(403, "cluster_block_exception"),
        failed(429, "cluster_block_exception"),
        failed(400, "index_closed_exception"),
        failed(404, "index_not_found_exception"),
        failed(400, "invalid_index_name_exception"),
        failed(400, "document_parsing_exception"),
    ]
    report = answered(kinds)
    assert report.kept == 2
    assert report.superseded == 1
    assert report.foreign == [3]
    assert report.again == [4, 5, 6, 7, 8, 9, 10, 11]
    assert set(report.rejections) == {12}
    assert report.rejections[12].key == "12"


@pytest.mark.parametrize(("size", "larger"), [(200, True), (100, False)])
def test_what_can_never_fit_is_not_sent_again_as_it_is(size: int, larger: bool) -> None:
    reason = (
        "rejected execution of primary operation [coordinating_and_primary_bytes=90,"
        f" replica_bytes=0, all_bytes=90, primary_operation_bytes={size},"
        " max_primary_bytes=150]"
    )
    items = [{"status": 201}, failed(429, "es_rejected_execution_exception", reason)]
    body = json.dumps({"errors": True, "items": [{"index": item} for item in items]})
    report = Report()
    batch = Batch([operation(), operation("2")], [4, 7], VERSION, FIELDS)
    assert tally(body.encode(), batch, report) == ([7] if larger else [])
    assert report.again == ([] if larger else [7])


def test_a_delete_of_what_is_not_there_is_kept() -> None:
    gone = operation("0", put=False)
    assert answered([{"status": 404}, {"status": 201}], [gone, operation()]).kept == 2


def test_a_conflict_below_the_highest_issued_is_ours() -> None:
    report = answered([conflict(VERSION + 5)], highest=VERSION + 5)
    assert report.superseded == 1
    report = answered([conflict(VERSION + 6)], highest=VERSION + 5)
    assert report.foreign == [0]


def test_a_key_cannot_speak_for_the_server() -> None:
    key = f"current version [1] is higher or equal to the one provided [{VERSION}]"
    report = answered([conflict(VERSION + 1, key=key)])
    assert report.foreign == [0]


@pytest.mark.parametrize(
    "item",
    [
        conflict(VERSION, ours=VERSION - 1),
        failed(409, "version_conflict_engine_exception", "in other words"),
        failed(401, "security_exception"),
        failed(403, "security_exception"),
        failed(418, "teapot"),
        failed(
            400, "illegal_argument_exception", "pipeline with id [p] does not exist"
        ),
        failed(
            400,
            "illegal_argument_exception",
            "no write index is defined for alias [x--g1.Write]. The write index may…",
        ),
        {"status": 404},
    ],
)
def test_what_nobody_knows_stops(item: dict[str, Any]) -> None:
    with pytest.raises(Halt) as halted:
        answered([item], [operation("0")])
    assert "1.10" not in halted.value.message


MARK = "do-not-show-4711"


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        (
            "document_parsing_exception",
            (
                f"[1:6] failed to parse field [title] of type [integer] in document"
                f" with id '{MARK}'. Preview of field's value: '{MARK}'"
            ),
            "document_parsing_exception: field [title]",
        ),
        (
            "document_parsing_exception",
            f"[1:6] failed to parse field [{MARK}] of type [integer]",
            "document_parsing_exception",
        ),
        (
            "strict_dynamic_mapping_exception",
            (
                f"[1:7] mapping set to strict, dynamic introduction of [{MARK}] within"
                " [_doc] is not allowed"
            ),
            (
                "strict_dynamic_mapping_exception: the document has a field that is not"
                " in the mapping"
            ),
        ),
        (
            "strict_dynamic_mapping_exception",
            (
                f"[1:7] mapping set to strict, dynamic introduction of [{MARK}] within"
                " [reviews] is not allowed"
            ),
            (
                "strict_dynamic_mapping_exception: the object [reviews] has a field"
                " that is not in the mapping"
            ),
        ),
        (
            "illegal_argument_exception",
            (
                'Document contains at least one immense term in field="title" (whose'
                f" UTF8 encoding is longer than the max length 32766), … '[{MARK}]'"
            ),
            "illegal_argument_exception: field [title]",
        ),
        ("mapper_parsing_exception", MARK, "mapper_parsing_exception"),
    ],
)
def test_a_reason_names_fields_and_quotes_nothing(
    kind: str, reason: str, told: str
) -> None:
    assert explain(kind, reason, FIELDS) == told
    assert MARK not in explain(kind, reason, FIELDS)
