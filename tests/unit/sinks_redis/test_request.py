"""The bytes of requests, against a client library's packing."""

from __future__ import annotations

import json
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sink import Operation, fields
from sinks.redis.layout import layout_of
from sinks.redis.request import (
    CALL_BYTES_MAX,
    CALL_OPERATIONS_MAX,
    TOMBSTONE_S,
    Encoder,
    chunks,
    hash_fields,
)
from tests.fixtures.redis_sinks import delete, generation, put, version

PLACE = layout_of(generation()).place
VERSIONS = f"pgbridge:v:products:{PLACE}:"
HEAD = (
    "pgbridge:cache:mark",
    "pgbridge:cache:lost",
    "pgbridge:products:generations",
    f"pgbridge:products:{PLACE}:count",
    "pgbridge:products:live",
)

VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def words(request: bytes) -> list[str]:
    """What a server reads."""
    reader = hiredis.Reader()
    reader.feed(request)
    found = reader.gets()
    assert found is not False
    assert reader.gets() is False, "one request, whole"
    return [word.decode() for word in found]


@pytest.mark.parametrize(
    ("options", "documents"),
    [
        ({}, ['{"id":"7","body":"at 10"}', ""]),
        ({"ttl": "1s"}, ['{"id":"7","body":"at 10"}', ""]),
        ({"encoding": "hash"}, ["4", "id", "7", "body", "at 10", ""]),
    ],
)
def test_a_call_of_a_put_and_a_delete(
    options: dict[str, Any], documents: list[str]
) -> None:
    encoder = Encoder(layout_of(generation(**options)))
    call = encoder.call([put("7", 10), delete("ü", 11)])
    encoding, ttl = options.get("encoding", "json"), "1000" if options else "0"
    assert words(call.packed(b"FCALL", b"f", 5, 4)) == [
        "FCALL",
        "f",
        "9",
        *HEAD,
        *(VERSIONS + "7", VERSIONS + "ü"),
        *("products:7", "products:ü"),
        *("2", "5", "4", "1", encoding, ttl if encoding == "json" else "0"),
        *("", str(TOMBSTONE_S)),
        *(f"{version(10):019d}", f"{version(11):019d}"),
        *documents,
    ]


def test_a_call_that_publishes() -> None:
    encoder = Encoder(layout_of(generation(publish="c")))
    found = words(encoder.call([put("ü", 10)]).packed(b"FCALL", b"f", 5, 4))
    assert json.loads(found[-1]) == {
        "key": "ü",
        "version": str(version(10)),
        "deleted": False,
    }


def test_a_call_of_none_names_values_alone() -> None:
    encoder = Encoder(layout_of(generation(encoding="none")))
    found = words(
        encoder.call([put("7", 10), put("8", 10)]).packed(b"FCALL", b"f", 5, 4)
    )
    assert found[2] == "7"
    assert found[8:] == [
        *("products:7", "products:8"),
        *("2", "5", "4", "1", "none", "0", "", str(TOMBSTONE_S)),
    ]


def test_chunks_are_bounded_and_whole() -> None:
    small = [put(str(key), 1) for key in range(CALL_OPERATIONS_MAX * 2 + 1)]
    big = put("big", 1)._replace(document=b"x" * (CALL_BYTES_MAX + 1))
    operations = [*small, big, *small[:3], big]
    runs = list(chunks(operations))
    assert [start for start, _ in runs[1:]] == [end for _, end in runs[:-1]]
    assert (runs[0][0], runs[-1][1]) == (0, len(operations))
    for start, end in runs:
        assert 0 < end - start <= CALL_OPERATIONS_MAX
        size = sum(len(each.document or b"") for each in operations[start:end])
        assert size <= CALL_BYTES_MAX or end - start == 1
    assert list(chunks([])) == []


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUE),
    st.booleans(),
    st.booleans(),
)
def test_the_fields_of_a_hash(
    document: dict[str, Any], spaces: bool, escaped: bool
) -> None:
    separators = (", ", " : ") if spaces else (",", ":")
    text = json.dumps(document, ensure_ascii=escaped, separators=separators).encode()
    found = {name.decode(): value.decode() for name, value in hash_fields(text)}
    assert found.keys() == {key for key, value in document.items() if value is not None}
    for name, value in found.items():
        if isinstance(document[name], str):
            assert value == document[name]
        else:
            assert json.loads(value) == document[name]
    members = [(json.loads(name), json.loads(value)) for name, value in fields(text)]
    assert dict(members) == document


def test_numbers_keep_every_digit_in_a_hash() -> None:
    number = b"0.10000000000000000000000000000000000000000000000000010"
    assert list(hash_fields(b'{"n":' + number + b',"l":[1.0, 2]}')) == [
        (b"n", number),
        (b"l", b"[1.0, 2]"),
    ]


def test_an_operation_without_a_recoverable_name_carries_it() -> None:
    target = generation().target
    shape = type(target.shape)(target.shape.columns, ("id", "lang"))
    made = type(target)(
        "product", "cache", "products", shape, {"key": "{lang}:of:{id}"}
    )
    encoder = Encoder(layout_of(type(generation())(made, 1)))
    long = ("x" * 600, "de")
    operation: Operation = put(long, 10)
    found = words(encoder.call([operation]).packed(b"FCALL", b"f", 5, 4))
    assert f"{version(10):019d}=de:of:{'x' * 600}" in found
