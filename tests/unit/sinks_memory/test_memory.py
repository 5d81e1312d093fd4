"""What the conformance suite does not ask of the memory and null sinks."""

from __future__ import annotations

import pytest

from bridge.sink import Loss, Refusal, Transient
from sinks import memory, null
from sinks.memory import store
from tests.fixtures.redis_sinks import OWNER, delete, generation, put

ONE = generation()


async def test_a_cleared_store_is_a_loss_until_it_is_built_again() -> None:
    sink = memory.MemorySink("cleared")
    await sink.claim(OWNER, 1)
    await sink.prepare(ONE, OWNER)
    await sink.write(ONE, [put("k", 1)])
    assert await sink.audit([ONE]) == []
    store("cleared").clear()
    assert await sink.audit([ONE]) == [Loss(ONE, None, "the store was cleared")]
    with pytest.raises(Transient):
        await sink.write(ONE, [put("k", 2)])
    await sink.prepare(ONE, OWNER)
    assert await sink.audit([ONE]) == []


async def test_null_counts_what_it_forgets() -> None:
    sink = null.NullSink()
    await sink.prepare(ONE, OWNER)
    report = await sink.write(ONE, [put("k", 1), delete("l", 1)])
    assert report.kept == 2
    assert (sink.puts, sink.deletes) == (1, 1)
    assert sink.document_bytes == len(put("k", 1).document or b"")
    assert await sink.exists(ONE)
    await sink.publish(ONE)
    assert await sink.published(ONE.target) == 1
    await sink.drop(ONE)
    assert not await sink.exists(ONE)
    assert await sink.published(ONE.target) is None


@pytest.mark.parametrize("plugin", [memory.Plugin, null.Plugin])
def test_options_are_refused(plugin: type[memory.Plugin | null.Plugin]) -> None:
    plugin.validate({"type": plugin.type})
    for validate in (plugin.validate, plugin.validate_target):
        with pytest.raises(Refusal):
            validate({"url": "x"})
