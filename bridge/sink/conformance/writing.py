"""Promises of writing: repeated, late, refused and concurrent calls change nothing.

The one thing to know: each test asks the storage itself afterwards, through `read`,
`scan` and `count`.
"""
# ruff: noqa: D102, FBT001 - tests: the name is the sentence, booleans are examples

from __future__ import annotations

import asyncio
import json

import pytest

from bridge.keys import Parts, key_text
from bridge.operations import Operation, Report
from bridge.position import EPOCH_MAX, LSN_MAX
from bridge.sink import Generation, Sink
from bridge.sink.conformance.hooks import Hooks
from bridge.sink.conformance.material import (
    COMPOSITE,
    DIFFERENT_DOCUMENTS,
    NASTY_DOCUMENTS,
    NASTY_PARTS,
    delete,
    outcomes,
    put,
    scanned,
    version,
)


class WritingPromises(Hooks):
    """What `write` answers, and what is there afterwards."""

    @pytest.mark.asyncio
    async def test_a_put_can_be_read(self, sink: Sink, one: Generation) -> None:
        operation = put("k", 10)
        assert outcomes(await sink.write(one, [operation]), [operation]) == (1, 0)
        found = await sink.read(one, [("k",), ("absent",)])
        assert set(found) == {"k"}
        assert found["k"].version == operation.version
        assert operation.document and found["k"].document
        assert sink.same(one.target, operation.document, found["k"].document)

    @pytest.mark.asyncio
    async def test_nothing_to_write(self, sink: Sink, one: Generation) -> None:
        assert await sink.write(one, []) == Report()
        assert await sink.read(one, []) == {}

    @pytest.mark.asyncio
    async def test_a_call_made_twice_changes_nothing(
        self, sink: Sink, one: Generation
    ) -> None:
        operations = [put("a", 10), delete("b", 10), put("c", 11)]
        assert outcomes(await sink.write(one, operations), operations) == (3, 0)
        before = await scanned(sink, one)
        assert outcomes(await sink.write(one, operations), operations) == (0, 3)
        assert await scanned(sink, one) == before
        assert set(before) == {"a", "c"}

    @pytest.mark.asyncio
    @pytest.mark.parametrize("lsn", [9, 10])
    async def test_an_older_or_equal_put_changes_nothing(
        self, sink: Sink, one: Generation, lsn: int
    ) -> None:
        await sink.write(one, [put("k", 10, "newer")])
        late = [put("k", lsn, "older")]
        assert outcomes(await sink.write(one, late), late) == (0, 1)
        assert await self.body(sink, one, "k") == "newer"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("lsn", [9, 10])
    async def test_an_older_or_equal_delete_changes_nothing(
        self, sink: Sink, one: Generation, lsn: int
    ) -> None:
        await sink.write(one, [put("k", 10, "newer")])
        late = [delete("k", lsn)]
        assert outcomes(await sink.write(one, late), late) == (0, 1)
        assert await self.body(sink, one, "k") == "newer"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("existed", [True, False])
    @pytest.mark.parametrize("lsn", [9, 10])
    async def test_what_was_deleted_stays_deleted(
        self, sink: Sink, one: Generation, existed: bool, lsn: int
    ) -> None:
        if existed:
            await sink.write(one, [put("k", 5)])
        await sink.write(one, [delete("k", 10)])
        late = [put("k", lsn, "ghost")]
        assert outcomes(await sink.write(one, late), late) == (0, 1)
        assert await self.body(sink, one, "k") is None
        await sink.refresh(one)
        assert await sink.count(one) == 0

    @pytest.mark.asyncio
    async def test_a_newer_put_replaces_all(self, sink: Sink, one: Generation) -> None:
        await sink.write(one, [put("k", 5)])
        await sink.write(one, [delete("k", 6)])
        await sink.write(one, [put("k", 7)])
        whole = Operation("k", ("k",), version(8), b'{"a":"k","price":1}')
        await sink.write(one, [whole])
        document = (await sink.read(one, [("k",)]))["k"].document
        assert document and sink.same(one.target, b'{"a":"k","price":1}', document)
        assert not sink.same(one.target, b'{"a":"k","price":2}', document)

    @pytest.mark.asyncio
    async def test_versions_are_exact_to_the_last_bit(
        self, sink: Sink, one: Generation
    ) -> None:
        top = LSN_MAX - 1
        for epoch, lsn in ((0, 9), (0, 10), (1, 1), (EPOCH_MAX, top)):
            operation = put("k", lsn, f"{epoch}:{lsn}")
            newer = [operation._replace(version=version(lsn, epoch))]
            assert outcomes(await sink.write(one, newer), newer) == (1, 0)
            assert (await sink.read(one, [("k",)]))["k"].version == newer[0].version
        last = [put("k", 1, "last")._replace(version=version(LSN_MAX, EPOCH_MAX))]
        assert outcomes(await sink.write(one, last), last) == (1, 0)
        assert outcomes(await sink.write(one, newer), newer) == (0, 1)
        assert await self.body(sink, one, "k") == "last"

    @pytest.mark.asyncio
    async def test_a_batch_is_answered_document_by_document(
        self, sink: Sink, one: Generation
    ) -> None:
        await sink.write(one, [put("newer", 20, "stays"), put("older", 5)])
        batch = [put("new", 10), put("newer", 10), delete("older", 10)]
        if self.refused is not None:
            batch.insert(1, self.refused)
        report = await sink.write(one, batch)
        assert outcomes(report, batch) == (2, 1)
        assert set(report.rejections) == ({1} if self.refused else set())
        assert await self.body(sink, one, "new") == "new at 10"
        assert await self.body(sink, one, "newer") == "stays"
        assert await self.body(sink, one, "older") is None

    @pytest.mark.asyncio
    async def test_writes_of_different_keys_at_once(
        self, sink: Sink, one: Generation
    ) -> None:
        async def writer(number: int) -> int:
            kept = 0
            for lsn in (1, 2):
                keys = [f"{number}-{key}" for key in range(50)]
                batch = [put(key, lsn) for key in keys]
                kept += outcomes(await sink.write(one, batch), batch)[0]
            return kept

        assert sum(await asyncio.gather(*map(writer, range(8)))) == 8 * 2 * 50
        found = await scanned(sink, one)
        assert {stored.version for stored in found.values()} == {version(2)}
        assert len(found) == await sink.count(one) == 400

    @pytest.mark.asyncio
    async def test_the_largest_batch(self, sink: Sink, one: Generation) -> None:
        assert sink.concurrency >= 1
        assert sink.batch_bytes_max >= 1 << 20
        assert sink.batch_count_max >= 1
        batch = [put(f"{key:06d}", 1) for key in range(sink.batch_count_max)]
        assert outcomes(await sink.write(one, batch), batch) == (len(batch), 0)
        assert set(await scanned(sink, one, documents=False)) == {
            item.key for item in batch
        }

    @pytest.mark.asyncio
    async def test_nasty_keys(self, sink: Sink, one: Generation) -> None:
        batch = [put(part, 1, part) for part in NASTY_PARTS if part != "%00"]
        null = Operation(key_text((None,)), (None,), version(1), b'{"a":null}')
        await self.round_trip(sink, one, [*batch, null])

    @pytest.mark.asyncio
    async def test_nasty_composite_keys(self, sink: Sink) -> None:
        pairs: list[Parts] = [(part, "x") for part in NASTY_PARTS]
        pairs += [("x", part) for part in NASTY_PARTS]
        pairs += [(None, None), (None, "x"), ("x", None), ("a:", "b"), ("a", ":b")]
        generation = Generation(self.target(COMPOSITE, "conformance-pairs"), 1)
        await self.prepared(sink, generation)
        batch = [
            Operation(
                key_text(parts),
                parts,
                version(1),
                json.dumps(dict(zip("ab", parts, strict=True))).encode(),
            )
            for parts in pairs
        ]
        await self.round_trip(sink, generation, batch)

    @pytest.mark.asyncio
    async def test_nasty_documents(self, sink: Sink, one: Generation) -> None:
        batch = [
            Operation(key, (key,), version(1), document)
            for key, document in NASTY_DOCUMENTS.items()
        ]
        await self.round_trip(sink, one, batch)
        for key, document in DIFFERENT_DOCUMENTS.items():
            stored = (await sink.read(one, [(key,)]))[key].document
            assert stored and not sink.same(one.target, document, stored), key

    async def round_trip(
        self, sink: Sink, generation: Generation, batch: list[Operation]
    ) -> None:
        """Write, read and scan, delete: every key is one document of its own."""
        assert outcomes(await sink.write(generation, batch), batch) == (len(batch), 0)
        by_key = {operation.key: operation for operation in batch}
        assert len(by_key) == len(batch)
        read = await sink.read(generation, [operation.parts for operation in batch])
        for found in (read, await scanned(sink, generation)):
            assert set(found) == set(by_key)
            for key, stored in found.items():
                expected = by_key[key].document
                assert expected and stored.document, key
                assert sink.same(generation.target, expected, stored.document), key
        gone = [item._replace(version=version(2), document=None) for item in batch]
        assert outcomes(await sink.write(generation, gone), gone) == (len(gone), 0)
        assert await scanned(sink, generation, documents=False) == {}
        assert outcomes(await sink.write(generation, batch), batch) == (0, len(batch))
        again = [item._replace(version=version(3)) for item in batch]
        assert outcomes(await sink.write(generation, again), again) == (len(batch), 0)
