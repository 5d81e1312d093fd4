"""A listing of all documents: what it is worth once the server has lost sight of it."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from bridge.sink import Generation, Halt, Transient
from sinks.elasticsearch.client import Answer
from tests.fixtures.elasticsearch import (
    put,
)

MARK = "hush-hush-4711"


@pytest.mark.parametrize("documents", [True, False])
async def test_a_listing_that_the_server_has_lost_is_begun_again(
    documents: bool, sink: Any, one: Generation, es: httpx.Client
) -> None:
    """As after five minutes without a page, or when a node is started again."""
    await sink.write(one, [put(str(key), 10) for key in range(150)])
    pages = sink.scan(one, documents=documents)
    await anext(pages)
    index = f"/{one.target.name}--g1"
    es.post(f"{index}/_close").raise_for_status()
    es.post(f"{index}/_open").raise_for_status()
    with pytest.raises(Transient) as lost:
        await anext(pages)
    assert "search_context_missing_exception" in lost.value.message
    found = [s.key async for page in sink.scan(one, documents=documents) for s in page]
    assert sorted(map(int, found)) == list(range(150))


async def test_a_listing_that_has_ended_holds_nothing_on_the_server(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    await sink.write(one, [put(str(key), 10) for key in range(150)])
    pages = sink.scan(one, documents=True)
    await anext(pages)
    assert contexts(es, one)
    await pages.aclose()
    assert not contexts(es, one)


def contexts(es: httpx.Client, one: Generation) -> int:
    """How many searches are open on its index."""
    stats = es.get(f"/{one.target.name}--g1/_stats/search").json()
    return int(stats["_all"]["total"]["search"]["open_contexts"])


@pytest.mark.parametrize(
    ("causes", "raised"),
    [
        (["search_context_missing_exception"], Transient),
        (["illegal_index_shard_state_exception"], Transient),
        (["parsing_exception", "search_context_missing_exception"], Transient),
        (["parsing_exception"], Halt),
    ],
)
async def test_shards_that_fail_tell_what_a_search_has_met(
    causes: list[str], raised: type[Exception], sink: Any
) -> None:
    error = {
        "type": "search_phase_execution_exception",
        "reason": MARK,
        "root_cause": [{"type": cause, "reason": MARK} for cause in causes],
    }
    answer = Answer(404, orjson.dumps({"error": error, "status": 404}))
    failure = sink._client.failure(answer, "a search", quote=False)
    assert type(failure) is raised
    assert causes[0] in failure.message
    assert MARK not in failure.message
