"""Promises of generations: prepared, published and dropped, atomic and repeatable.

The one thing to know: a sink may say that generations of a target cannot stand side
by side; it is then asked for one generation only.
"""
# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import pytest

from bridge.position import Position
from bridge.sink import (
    PARTS_MAX,
    Build,
    Generation,
    Halt,
    Level,
    Part,
    Sink,
    Transient,
)
from bridge.sink.conformance.hooks import Hooks
from bridge.sink.conformance.material import (
    EPOCH,
    OTHER,
    OWNER,
    SINGLE,
    delete,
    outcomes,
    put,
    scanned,
    version,
)


class GenerationPromises(Hooks):
    """What is asked of a sink beside writing."""

    async def two(self, sink: Sink) -> tuple[Generation, Generation]:
        """Two generations with a document each, skipped where there cannot be."""
        target = self.target()
        if not sink.side_by_side(target):
            pytest.skip("its generations do not stand side by side")
        first, second = Generation(target, 1), Generation(target, 2)
        for generation in (first, second):
            await sink.prepare(generation, OWNER)
            lsn = 10 + generation.number
            await sink.write(generation, [put("k", lsn), put(f"only{lsn}", lsn)])
        return first, second

    # Generations.

    @pytest.mark.asyncio
    async def test_prepare_is_repeatable(self, sink: Sink) -> None:
        one = Generation(self.target(), 1)
        assert not await sink.exists(one)
        await sink.prepare(one, OWNER)
        assert await sink.exists(one)
        assert await scanned(sink, one) == {}
        await sink.write(one, [put("k", 10)])
        await sink.prepare(one, OWNER)
        assert await self.body(sink, one, "k") == "k at 10"
        assert await sink.count(one) == 1

    @pytest.mark.asyncio
    async def test_prepare_stops_at_another_owner(self, sink: Sink) -> None:
        with pytest.raises(Halt):
            await sink.prepare(Generation(self.target(), 1), OTHER)

    @pytest.mark.asyncio
    async def test_generations_do_not_touch_each_other(self, sink: Sink) -> None:
        first, second = await self.two(sink)
        assert set(await scanned(sink, first)) == {"k", "only11"}
        assert set(await scanned(sink, second)) == {"k", "only12"}
        late = [put("k", 12)]
        assert outcomes(await sink.write(first, late), late) == (1, 0)
        assert outcomes(await sink.write(second, late), late) == (0, 1)

    @pytest.mark.asyncio
    async def test_publish_switches_there_and_back(self, sink: Sink) -> None:
        first, second = await self.two(sink)
        assert await sink.published(first.target) is None
        for generation in (first, second, second, first):
            await sink.publish(generation)
            assert await sink.published(first.target) == generation.number

    @pytest.mark.asyncio
    async def test_publish_of_the_only_generation(
        self, sink: Sink, one: Generation
    ) -> None:
        assert await sink.published(one.target) is None
        await sink.write(one, [put("k", 10)])
        for _ in range(2):
            await sink.publish(one)
            assert await sink.published(one.target) == 1
        assert await self.body(sink, one, "k") == "k at 10"

    @pytest.mark.asyncio
    async def test_drop_removes_one_generation(self, sink: Sink) -> None:
        first, second = await self.two(sink)
        await sink.publish(second)
        for _ in range(2):
            await sink.drop(first)
            assert not await sink.exists(first)
            assert await sink.exists(second)
        assert await sink.published(first.target) == 2
        assert set(await scanned(sink, second)) == {"k", "only12"}
        assert await self.body(sink, second, "k") == "k at 12"

    @pytest.mark.asyncio
    async def test_drop_leaves_nothing(self, sink: Sink, one: Generation) -> None:
        await sink.write(one, [put(str(key), 10) for key in range(100)])
        await sink.write(one, [delete("0", 11)])
        await sink.record(one, Position(EPOCH, 11))
        await sink.publish(one)
        await sink.drop(one)
        assert await sink.published(one.target) is None
        assert await sink.recorded(one) is None
        await sink.drop(one)
        await sink.prepare(one, OWNER)
        assert await scanned(sink, one) == {}
        assert await sink.count(one) == 0
        assert outcomes(await sink.write(one, [put("0", 1)]), [put("0", 1)]) == (1, 0)

    @pytest.mark.asyncio
    async def test_drop_of_what_never_was(self, sink: Sink) -> None:
        await sink.drop(Generation(self.target(name="conformance-never"), 7))

    # Who writes, and how far.

    @pytest.mark.asyncio
    async def test_claim(self, sink: Sink) -> None:
        assert await sink.highest_epoch(OWNER) == EPOCH
        await sink.claim(OWNER, EPOCH)
        with pytest.raises(Halt):
            await sink.claim(OTHER, EPOCH + 1)
        await sink.claim(OWNER, EPOCH + 2)
        with pytest.raises(Halt):
            await sink.claim(OWNER, EPOCH + 1)
        assert await sink.highest_epoch(OWNER) == EPOCH + 2

    @pytest.mark.asyncio
    async def test_no_epoch_before_the_first_claim(self) -> None:
        async with self.fresh() as sink:
            assert await sink.highest_epoch(OWNER) == 0

    @pytest.mark.asyncio
    async def test_a_sink_whose_targets_were_dropped_is_anybodys(self) -> None:
        async with self.fresh() as sink:
            one = Generation(self.target(), 1)
            await sink.claim(OWNER, EPOCH)
            await sink.prepare(one, OWNER)
            await sink.release(OTHER)
            with pytest.raises(Halt):
                await sink.prepare(one, OTHER)
            await sink.drop(one)
            for _ in range(2):
                await sink.release(OWNER)
            assert await sink.highest_epoch(OWNER) == 0
            await sink.claim(OTHER, EPOCH)
            await sink.prepare(one, OTHER)
            await sink.drop(one)

    @pytest.mark.asyncio
    async def test_recorded_position(self, sink: Sink, one: Generation) -> None:
        assert await sink.recorded(one) is None
        for position in (Position(EPOCH, 10), Position(EPOCH, 1 << 52)):
            await sink.record(one, position)
            assert await sink.recorded(one) == position
        other = Generation(self.target(name="conformance-other"), 1)
        await sink.prepare(other, OWNER)
        assert await sink.recorded(other) is None

    @pytest.mark.asyncio
    async def test_a_daemon_started_again_finds_all(
        self, sink: Sink, one: Generation
    ) -> None:
        await sink.write(one, [put("k", 10), delete("gone", 10)])
        await sink.record(one, Position(EPOCH, 10))
        await sink.publish(one)
        await sink.close()
        async with self.again(sink) as later:
            assert await later.highest_epoch(OWNER) == EPOCH
            await later.claim(OWNER, EPOCH)
            await later.prepare(one, OWNER)
            assert await later.exists(one)
            assert await later.recorded(one) == Position(EPOCH, 10)
            assert await later.published(one.target) == 1
            assert await later.audit([one]) == []
            late = [put("k", 10), put("gone", 9), put("new", 9)]
            assert outcomes(await later.write(one, late), late) == (1, 2)
            assert set(await scanned(later, one)) == {"k", "new"}

    # Availability.

    @pytest.mark.asyncio
    async def test_not_available_is_transient(
        self, sink: Sink, one: Generation
    ) -> None:
        await sink.write(one, [put("before", 10)])
        batch = [put("before", 11), put("during", 11)]
        async with self.cut_off(sink):
            with pytest.raises(Transient):
                await sink.write(one, batch)
            with pytest.raises(Transient):
                await sink.read(one, [("before",)])
            with pytest.raises(Transient):
                await sink.record(one, Position(EPOCH, 11))
        assert sum(outcomes(await sink.write(one, batch), batch)) == 2
        assert await self.body(sink, one, "before") == "before at 11"
        assert await self.body(sink, one, "during") == "during at 11"

    @pytest.mark.asyncio
    async def test_alter_changes_nothing_of_what_is_as_it_is_wanted(
        self, sink: Sink, one: Generation
    ) -> None:
        assert sink.alteration(one.target, one.target) is None
        await sink.write(one, [put("k", 10)])
        for _ in range(2):
            await sink.alter(one)
        assert await sink.audit([one]) == []
        assert set(await scanned(sink, one)) == {"k"}

    # What verifying and planning need.

    @pytest.mark.asyncio
    async def test_scan_and_count(self, sink: Sink, one: Generation) -> None:
        batch = [put(f"k{key}", 10 + key) for key in range(2_500)]
        size = sink.batch_count_max
        for start in range(0, len(batch), size):
            await sink.write(one, batch[start : start + size])
        await sink.write(one, [delete(f"k{key}", 9_000) for key in range(0, 2_500, 5)])
        await sink.refresh(one)
        assert await sink.count(one) == 2_000
        found = await scanned(sink, one)
        bare = await scanned(sink, one, documents=False)
        there = {op.key: op for key, op in enumerate(batch) if key % 5}
        assert set(found) == set(bare) == set(there)
        for key, stored in found.items():
            assert stored.version == bare[key].version == there[key].version
            expected = there[key].document
            assert expected and stored.document
            assert sink.same(one.target, expected, stored.document)
        last = Part(PARTS_MAX - 1, PARTS_MAX)
        assert set(await scanned(sink, one, part=last)) < set(there)
        for of in (2, 7):
            parts = [
                set(await scanned(sink, one, documents=False, part=Part(number, of)))
                for number in range(of)
            ]
            assert set().union(*parts) == set(there)
            assert sum(map(len, parts)) < 2 * len(there)

    @pytest.mark.asyncio
    async def test_examine_finds_nothing_in_the_way(self, sink: Sink) -> None:
        one = Generation(self.target(), 1)
        for prepared in (False, True):
            if prepared:
                await sink.prepare(one, OWNER)
                await sink.write(one, [put("k", 10)])
            found = await sink.examine(one.target, OWNER)
            found += await sink.room([Build(one.target, documents=1, size_bytes=100)])
            assert not [line for line in found if line.level is Level.ERROR], found
            assert await sink.exists(one) is prepared

    @pytest.mark.asyncio
    async def test_examine_finds_another_owner(self, sink: Sink) -> None:
        found = await sink.examine(self.target(), OTHER)
        assert [line for line in found if line.level is Level.ERROR]

    @pytest.mark.asyncio
    async def test_check_changes_nothing(self, sink: Sink, one: Generation) -> None:
        await sink.write(one, [put("k", 10)])
        for finding in await sink.check():
            assert finding.what
            assert finding.fix or finding.level is not Level.ERROR
        assert await self.body(sink, one, "k") == "k at 10"
        assert (await sink.read(one, [("k",)]))["k"].version == version(10)

    @pytest.mark.asyncio
    async def test_fingerprint_is_repeatable(self, sink: Sink) -> None:
        target = self.target()
        assert sink.fingerprint(target) == sink.fingerprint(self.target(SINGLE))
        assert sink.fingerprint(target)
