"""Changes of tables that leave hardly a trace: nothing is silently stale."""

from __future__ import annotations

import pytest

from tests.scenario.harness import SCHEMA
from tests.scenario.test_schema import PARTED, found
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario


async def test_a_partition_is_away_for_a_moment(bridge: Bridge) -> None:
    """Detached, written to without an event, and attached: nothing of it is stale."""
    bridge.execute(*PARTED.split(";"))
    bridge.configure({"sale": 'table = "sale"'})
    bridge.daemon.start()
    await bridge.ready()
    away = (
        "alter table sale detach partition sale_1",
        "update sale_1 set note = 'meanwhile' where id <= 50",
        "delete from sale_1 where id > 150",
        "alter table sale attach partition sale_1 for values from (1) to (2)",
    )
    bridge.transaction(*away)
    await found(bridge, "sale", "200:1", there=False)
    await bridge.settled()
    await bridge.daemon.kill()
    bridge.transaction(
        away[0], "update sale_1 set note = 'again' where id <= 50", away[3]
    )
    bridge.daemon.start()
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.parametrize(
    "statement",
    [
        "alter publication {} drop table item",
        "alter publication {} set (publish = 'insert')",
        "alter publication {} set table item where (id < 100)",
        "alter publication {} set table item (id, name)",
        "alter publication {} set (publish_via_partition_root = false)",
        "drop publication {}",
    ],
)
async def test_a_publication_that_was_tampered_with(
    bridge: Bridge, statement: str
) -> None:
    """Put right, and what it may have swallowed is derived again."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"item": 'table = "item"'})
    bridge.daemon.start()
    await bridge.ready()
    bridge.transaction(
        statement.format(bridge.slot),
        "update item set name = 'swallowed', n = -1 where id between 50 and 150",
        "delete from item where id > 400",
    )
    await found(bridge, "item", "450", there=False)
    await bridge.settled()
    await bridge.ends_exact()
