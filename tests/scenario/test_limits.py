"""What is larger, wider or deeper than a sink takes is a dead letter; the rest goes on.

`PGBRIDGE_TEST_ROW_MIB` makes the large row larger: from 100 MiB on Elasticsearch, as it
is usually configured, refuses it too. What was measured stands in `docs/limits.md`.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.harness import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

ROW_MIB = int(os.environ.get("PGBRIDGE_TEST_ROW_MIB", "4"))
TAKEN_MIB_MAX = 95
LEVELS = 1200
"""Elasticsearch reads no JSON that is deeper than 1,000."""
COLUMNS = 1600
"""As many as a table may have."""


async def letters(bridge: Bridge) -> set[tuple[str, str]]:
    """Sink and key of each dead letter."""
    command = pgbridge, bridge.daemon.config, "dead-letters", "list", "--json"
    code, shown, said = await asyncio.to_thread(*command)
    assert code == 0, said
    found = json.loads(shown)
    assert all(each["stage"] == "deliver" and each["reason"] for each in found)
    return {(each["sink"], each["key"]) for each in found}


async def test_what_a_sink_cannot_take_holds_up_nothing(bridge: Bridge) -> None:
    columns = ", ".join(f"c{n} integer not null default {n}" for n in range(2, COLUMNS))
    bridge.execute(
        "create table doc (id integer primary key, body json, text text)",
        f"create table wide (id integer primary key, c1 integer, {columns})",
    )
    views = {"doc": 'table = "doc"', "wide": 'table = "wide"'}
    bridge.configure(views)
    bridge.daemon.start()
    await bridge.ready()
    process = bridge.daemon.process
    deep = f"(repeat('[', {LEVELS}) || repeat(']', {LEVELS}))::json"
    bridge.execute(
        f"insert into doc values (1, {deep}), (2, '[]', repeat('x', {ROW_MIB << 20}))",
        "insert into doc values (3, '{}', 'the rest')",
        "insert into wide values (1, 1), (2, null)",
    )
    await eventually(lambda: bridge.document("doc", "3"))
    await eventually(lambda: bridge.document("wide", "2"))
    wanted = {("search", "1")}
    if ROW_MIB > TAKEN_MIB_MAX:
        wanted.add(("search", "2"))

    async def told() -> bool:
        return await letters(bridge) == wanted

    await eventually(told, every_s=1.0)
    await eventually(lambda: bridge.value("doc", "2"))
    assert len(bridge.value("doc", "2")["text"]) == ROW_MIB << 20
    assert bridge.value("doc", "1") is not None
    found = await bridge.document("wide", "1")
    assert found is not None and len(found.source) == COLUMNS
    assert bridge.daemon.process is process, "it went on"
    print(bridge.daemon.resident_bytes_max() >> 20, "MiB resident at most")
    # A later version that the sink takes clears it.
    bridge.execute("update doc set body = '{}', text = '' where id < 3")
    wanted.clear()
    await eventually(told, every_s=1.0)
    await bridge.settled()
    await bridge.ends_exact()
