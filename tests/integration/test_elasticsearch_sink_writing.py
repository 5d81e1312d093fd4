"""Each way in which Elasticsearch says no to a write, on both of its lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bridge.sink import (
    Generation,
    Halt,
    Level,
    Operation,
    Transient,
)
from tests.fixtures.elasticsearch import (
    EPOCH,
    OWNER,
    OpenSink,
    delete,
    put,
    version,
)
from tests.fixtures.proxy import MakeProxy, Way

MARK = "do-not-show-4711"


@asynccontextmanager
async def answering(status: int, body: object) -> AsyncIterator[str]:
    """The address of a server that gives every request the same answer."""
    text = json.dumps(body).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                lengths = [x for x in lines if x.startswith("content-length:")]
                if lengths:
                    await reader.readexactly(int(lengths[0].split(":")[1]))
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (status, len(text), text)
                )
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


# A bulk request, refused.


@pytest.mark.parametrize("at", [0, 17, 49])
async def test_a_bulk_refused_as_a_whole_is_bisected(
    at: int, sink: Any, one: Generation
) -> None:
    batch = [put(str(key), 10) for key in range(50)]
    batch[at] = put("k" * 600, 10)  # no server takes such an _id
    report = await sink.write(one, batch)
    assert set(report.rejections) == {at}
    assert report.kept == 49
    assert await sink.count(one) == 49


async def test_a_document_alone_in_its_bulk_is_found_at_fault_too(
    sink: Any, one: Generation
) -> None:
    for batch in ([put("k" * 600, 10)], [put("k" * 600, 10), put("x" * 600, 10)]):
        report = await sink.write(one, batch)
        assert set(report.rejections) == set(range(len(batch)))
    assert await sink.count(one) == 0


async def test_when_every_bulk_is_refused_it_is_not_the_documents(
    open_sink: OpenSink, sink: Any, one: Generation, proxy: MakeProxy, es: httpx.Client
) -> None:
    await sink.write(one, [put("0", 10)])
    error = {"error": {"type": "illegal_argument_exception", "reason": MARK}}
    async with answering(400, error) as url:
        other = await open_sink(url=url)
        other._places.remember(one, (await sink._places.open(one)).meta)
        with pytest.raises(Halt) as halted:
            await other.write(one, [put(str(key), 0) for key in range(8)])
    assert MARK not in halted.value.message


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (401, "security_exception", Halt),
        (403, "security_exception", Halt),
        (403, "cluster_block_exception", Transient),
        (429, "es_rejected_execution_exception", Transient),
        (429, "circuit_breaking_exception", Transient),
        (503, "master_not_discovered_exception", Transient),
        (502, "", Transient),
        (405, "", Halt),
        (200, "", Transient),
    ],
)
async def test_what_a_refusal_of_the_whole_means(
    status: int,
    kind: str,
    raised: type[Exception],
    open_sink: OpenSink,
    sink: Any,
    one: Generation,
) -> None:
    body = {"error": {"type": kind, "reason": MARK}, "status": status}
    await sink.write(one, [put("0", 10)])
    meta = (await sink._places.open(one)).meta
    async with answering(status, body) as url:
        other = await open_sink(url=url, api_key="hush-hush")
        other._places.remember(one, meta)
        with pytest.raises(raised) as failed:
            await other.write(one, [put("1", 0, title=MARK)])
    told = str(failed.value) + getattr(failed.value, "hint", "")
    assert MARK not in told
    assert "hush-hush" not in told


async def test_refused_documents_are_told_without_their_values(
    sink: Any, one: Generation
) -> None:
    batch = [
        put("a", 10, price={"x": MARK}),
        put("b", 10, **{MARK: 1}),
        Operation(MARK, (MARK,), version(10), b'{"id":"%b"}' % MARK.encode()),
        Operation("d", ("d",), version(10), b'{"title":"%b"' % MARK.encode()),
        put("e", 10, title={"x": MARK}),
        put("fine", 10),
    ]
    report = await sink.write(one, batch)
    assert set(report.rejections) == {0, 1, 2, 3, 4}
    assert report.kept == 1
    for rejection in report.rejections.values():
        assert MARK not in rejection.reason
    assert "[id]" in report.rejections[2].reason
    assert "[title]" in report.rejections[4].reason


# Not now.


@pytest.mark.parametrize(
    "block", ["index.blocks.write", "index.blocks.read_only_allow_delete"]
)
async def test_a_block_is_waited_out(
    block: str, sink: Any, one: Generation, es: httpx.Client
) -> None:
    settings = f"/{one.target.name}--g1/_settings"
    assert es.put(settings, json={block: True}).is_success
    batch = [put("1", 10), put("2", 10)]
    report = await sink.write(one, batch)
    assert report.again == [0, 1]
    assert report.rejections == {}
    findings = await sink.examine(one.target, OWNER)
    (blocked,) = [f for f in findings if one.target.name in f.what]
    assert blocked.level is Level.ERROR
    assert block in blocked.fix
    # the fix is what it says: lift the block
    assert es.put(settings, json={block: None}).is_success
    assert (await sink.write(one, batch)).kept == 2


async def test_a_closed_index_is_waited_for(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    es.post(f"/{one.target.name}--g1/_close").raise_for_status()
    assert (await sink.write(one, [put("1", 10)])).again == [0]
    assert await sink.audit([one]) == []
    es.post(f"/{one.target.name}--g1/_open").raise_for_status()
    assert (await sink.write(one, [put("1", 10)])).kept == 1


async def test_an_answer_that_was_lost(
    open_sink: OpenSink, one: Generation, proxy: MakeProxy, any_es_url: str, sink: Any
) -> None:
    between = await proxy(any_es_url)
    other = await open_sink(url=between.url)
    await other.claim(OWNER, EPOCH)
    await other.write(one, [put("0", 1)])
    batch = [put("1", 10), delete("0", 10)]
    await between.truncate(1, Way.DOWN)
    with pytest.raises(Transient):
        await other.write(one, batch)
    await between.heal()
    report = await other.write(one, batch)
    assert report.kept + report.superseded == 2
    assert (await other.read(one, [("1",)]))["1"].version == version(10)
    assert "0" not in await other.read(one, [("0",)])


async def test_a_cancelled_write_harms_nothing(
    sink: Any, one: Generation, open_sink: OpenSink, proxy: MakeProxy, any_es_url: str
) -> None:
    between = await proxy(any_es_url)
    other = await open_sink(url=between.url)
    await other.write(one, [put("0", 1)])
    await between.stall(Way.DOWN)
    task = asyncio.create_task(other.write(one, [put("1", 10)]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.3)
    await between.heal()
    late = await other.write(one, [put("1", 11)])
    assert late.kept == 1


# Deletes, and what comes late.


async def test_deletes_are_remembered_for_an_hour(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    settings = es.get(f"/{one.target.name}--g1/_settings?flat_settings=true").json()
    held = settings[f"{one.target.name}--g1"]["settings"]
    assert held["index.gc_deletes"] == "1h"
    await sink.write(one, [put("1", 10)])
    await sink.write(one, [delete("1", 20), delete("never", 20)])
    late = [put("1", 15), put("never", 15)]
    assert (await sink.write(one, late)).superseded == 2
    assert await sink.count(one) == 0
