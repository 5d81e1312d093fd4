"""Documents cut out of answers, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sink import Halt, Stored, Transient
from sinks.elasticsearch.reading import (
    PAGE_BYTES,
    PAGE_DOCUMENTS_MAX,
    cut_hits,
    next_size,
    same,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.just("_source"), inner, max_size=3)
    ),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(st.text() | st.sampled_from(["_source", "hits"]), JSON)


def answer(documents: list[bytes | None]) -> bytes:
    hits = []
    for number, document in enumerate(documents):
        source = b"" if document is None else b',"_source":' + document
        hits.append(
            b'{"_index":"a","_id":"_source\\":{%d","_version":7,"_score":null%b,'
            b'"sort":[%d]}' % (number, source, number)
        )
    return b'{"pit_id":"x","hits":{"max_score":null,"hits":[' + b",".join(hits) + b"]}}"


@given(st.lists(DOCUMENTS, max_size=4), st.booleans())
def test_every_document_is_its_own_bytes(
    documents: list[dict[str, object]], ascii_only: bool
) -> None:
    texts = [
        json.dumps(item, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for item in documents
    ]
    found = list(cut_hits(answer(list(texts))))
    assert [document for _, document in found] == texts
    assert [hit["sort"] for hit, _ in found] == [[n] for n in range(len(texts))]


def test_numbers_keep_every_digit() -> None:
    text = b'{"a":1.10,"b":' + b"9" * 5000 + b',"c":{"d":[{"e":-0.0}]}}'
    assert [document for _, document in cut_hits(answer([text, text]))] == [text, text]


def test_hits_without_documents() -> None:
    assert [document for _, document in cut_hits(answer([None, None]))] == [None, None]
    assert list(cut_hits(answer([]))) == []


def test_an_answer_that_breaks_off() -> None:
    with pytest.raises(Transient):
        list(cut_hits(answer([b'{"a":1}'])[:-12]))
    with pytest.raises(Halt):
        list(cut_hits(b"{}"))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b'{"a":1.10}', b'{"a":1.10}', True),
        (b'{"a" : [1,\n 2]}', b'{"a":[1,2]}', True),
        (b'{"a":1.10}', b'{"a":1.1}', False),
        (b'{"a":"x y"}', b'{"a":"xy"}', False),
        (b'{"a":"\\" : "}', b'{"a":"\\":"}', False),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', False),
    ],
)
def test_same(one: bytes, other: bytes, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


@given(st.integers(1, PAGE_DOCUMENTS_MAX), st.integers(2, 5_000_000))
def test_pages_hold_what_memory_allows(size: int, document_bytes: int) -> None:
    page = [Stored("1", 1, b"x" * document_bytes)]
    wanted = next_size(size, page)
    assert 1 <= wanted <= min(4 * size, PAGE_DOCUMENTS_MAX)
    assert wanted == 1 or wanted * document_bytes <= PAGE_BYTES
    assert next_size(size, []) >= min(2 * size, PAGE_DOCUMENTS_MAX)
