"""Indexes that are gone, restored, or made again in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from bridge.sink import Generation, Halt, Operation, Position, Transient
from sinks.elasticsearch import meta
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.meta import Index
from sinks.elasticsearch.plan import write_alias
from tests.fixtures.elasticsearch import (
    EPOCH,
    OWNER,
    OpenSink,
    delete,
    generation,
    put,
)


@pytest.mark.parametrize("operation", [put("2", 20), delete("2", 20)])
async def test_a_deleted_index_is_not_made_again_and_told_as_a_loss(
    operation: Operation, sink: Any, one: Generation, es: httpx.Client
) -> None:
    await sink.write(one, [put("1", 10)])
    assert await sink.audit([one]) == []
    es.delete(f"/{one.target.name}--g1").raise_for_status()
    assert (await sink.write(one, [operation])).again == [0]
    assert es.get(f"/{one.target.name}*").json() == {}
    for _ in range(2):
        (loss,) = await sink.audit([one])
        assert loss.generation == one
        assert loss.keys is None
    with pytest.raises(Transient):
        await sink.record(one, Position(EPOCH, 20))
    assert await sink.recorded(one) is None
    assert not await sink.exists(one)
    # prepared again it is empty: a loss until all is written again
    await sink.prepare(one, OWNER)
    (loss,) = await sink.audit([one])
    assert (await sink.write(one, [put("1", 30)])).kept == 1
    await sink.repaired(loss)
    assert await sink.audit([one]) == []


async def test_a_position_recorded_while_it_is_audited_is_no_loss(
    sink: Any, one: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is older than what was recorded by the time it is looked at."""
    await sink.record(one, Position(EPOCH, 20))

    async def find(client: Client, names: Sequence[str]) -> dict[str, Index]:
        found = await meta.find(client, names)
        await sink.record(one, Position(EPOCH, 30))
        return found

    monkeypatch.setattr("sinks.elasticsearch.generations.find", find)
    assert await sink.audit([one]) == []


async def test_an_index_made_by_hand_in_its_place_is_not_written(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    name = f"{one.target.name}--g1"
    await sink.write(one, [put("1", 10)])
    es.delete(f"/{name}").raise_for_status()
    es.put(f"/{name}/_doc/9", json={"id": 9}).raise_for_status()
    assert (await sink.write(one, [put("2", 20)])).again == [0]
    (loss,) = await sink.audit([one])
    assert loss.keys is None
    assert not await sink.exists(one)
    with pytest.raises(Halt):
        await sink.prepare(one, OWNER)


async def test_a_loss_is_seen_by_a_daemon_that_starts_after_it(
    sink: Any, one: Generation, es: httpx.Client, open_sink: OpenSink
) -> None:
    es.delete(f"/{one.target.name}--g1").raise_for_status()
    later = await open_sink()
    await later.claim(OWNER, EPOCH)
    (loss,) = await later.audit([one])
    assert loss.keys is None


async def test_a_position_older_than_recorded_is_a_loss(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    """As after a restore into the closed index, which keeps its uuid."""
    await sink.record(one, Position(EPOCH, 10))
    index = f"/{one.target.name}--g1"
    old = es.get(f"{index}/_mapping").json()[index[1:]]["mappings"]["_meta"]
    await sink.record(one, Position(EPOCH, 20))
    es.put(f"{index}/_mapping", json={"_meta": old}).raise_for_status()
    with pytest.raises(Transient):
        await sink.record(one, Position(EPOCH, 30))
    (loss,) = await sink.audit([one])
    assert loss.keys is None
    assert await sink.recorded(one) == Position(EPOCH, 10)
    await sink.repaired(loss)
    assert await sink.audit([one]) == []


@pytest.mark.parametrize("starts", [False, True], ids=["running", "starting"])
async def test_an_index_made_again_in_the_place_of_a_build_is_taken_over(
    starts: bool, sink: Any, one: Generation, es: httpx.Client, open_sink: OpenSink
) -> None:
    """As one from a snapshot: its identity is that of another index, and the alias that
    it is written through is not there."""
    index, alias = f"/{one.target.name}--g1", write_alias(one)
    meta = es.get(f"{index}/_mapping").json()[index[1:]]["mappings"]["_meta"]
    meta["pgbridge"]["uuid"] = "another"
    es.put(f"{index}/_mapping", json={"_meta": meta}).raise_for_status()
    es.delete(f"{index}/_alias/{alias}").raise_for_status()
    builds = await open_sink() if starts else sink
    await builds.claim(OWNER, EPOCH)
    assert not await builds.exists(one)
    (loss,) = await builds.audit([one])
    await builds.prepare(one, OWNER)
    await builds.repaired(loss)
    assert await builds.exists(one)
    assert await builds.audit([one]) == []
    assert (await builds.write(one, [put("1", 10)])).kept == 1
    await builds.record(one, Position(EPOCH, 10))
    held = es.get(f"{index}/_alias").json()[index[1:]]["aliases"][alias]
    assert held == {"is_hidden": True, "is_write_index": True}


async def test_many_generations_are_audited_at_once(sink: Any, name: str) -> None:
    generations = [generation(f"{name}{n:050d}") for n in range(45)]
    losses = await sink.audit(generations)
    assert [loss.generation for loss in losses] == generations
