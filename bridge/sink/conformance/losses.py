"""Promises of noticing what the server lost, to a process that has not written it, too.

The one thing to know: a sink that keeps no count of what it answered says 0; what that
count promises is then not asked of it.
"""
# ruff: noqa: D102, FBT001 - tests: the name is the sentence, booleans are examples

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sink import Generation, Sink
from bridge.sink.conformance.hooks import Hooks
from bridge.sink.conformance.material import EPOCH, OWNER, put


class LossPromises(Hooks):
    """What `audit` tells, and what it needs for that."""

    @pytest.mark.asyncio
    async def test_audit_is_quiet_when_nothing_is_lost(
        self, sink: Sink, one: Generation
    ) -> None:
        assert await sink.audit([]) == []
        for lsn in range(10, 13):
            await sink.write(one, [put("k", lsn)])
            assert await sink.audit([one]) == []

    @pytest.mark.asyncio
    async def test_what_is_answered_is_counted(
        self, sink: Sink, one: Generation
    ) -> None:
        """On from where the process before ended; or never, and then it is 0."""
        counts = [sink.answered]
        for lsn in range(10, 13):
            await sink.write(one, [put("k", lsn)])
            counts.append(sink.answered)
        await sink.close()
        async with self.again(sink) as later:
            later.expect(counts[-1])
            await later.claim(OWNER, EPOCH)
            await later.prepare(one, OWNER)
            assert await later.audit([one]) == []
            await later.write(one, [put("k", 13)])
            counts.append(later.answered)
            assert await later.audit([one]) == []
        risen = [after > before for before, after in pairwise(counts)]
        assert all(risen) or set(counts) == {0}

    @pytest.mark.asyncio
    @pytest.mark.parametrize("written", [False, True])
    async def test_fewer_answers_than_expected_are_a_loss(
        self, sink: Sink, one: Generation, written: bool
    ) -> None:
        """Also when the first look comes after a write; told until it is repaired."""
        await sink.write(one, [put("k", 10)])
        if not (answered := sink.answered):
            pytest.skip("it keeps no count of what it answered")
        await sink.close()
        async with self.again(sink) as later:
            later.expect(answered + 1)
            await later.claim(OWNER, EPOCH)
            await later.prepare(one, OWNER)
            if written:
                await later.write(one, [put("other", 11)])
            for _ in range(2):
                losses = await later.audit([one])
                assert [loss.generation for loss in losses] == [one]
            for loss in losses:
                await later.repaired(loss)
            assert await later.audit([one]) == []
