"""The source's tables change under running views: nothing is silently stale."""

from __future__ import annotations

import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

AGAIN = "rows came or went without an event"
PARTED = """
create table sale (id bigint, day integer, note text, primary key (id, day))
    partition by range (day);
create table sale_1 partition of sale for values from (1) to (2);
insert into sale select g, 1, 'first' from generate_series(1, 200) g
"""


async def state(bridge: Bridge, view: str) -> set[str]:
    status = await bridge.daemon.status()
    targets = status.get("targets") or []
    return {t["state"] for t in targets if t["view"] == view}


def log(bridge: Bridge) -> str:
    return bridge.daemon.log.read_text()


async def found(bridge: Bridge, view: str, key: str, *, there: bool = True) -> None:
    """Wait until the key has a document, or has none."""

    async def look() -> bool:
        bridge.daemon.must_run()
        return (await bridge.document(view, key) is not None) is there

    await eventually(look, deadline_s=30.0)


async def test_partitions_come_and_go_with_their_rows(bridge: Bridge) -> None:
    """Attached and detached rows follow; nightly partitions are no work."""
    bridge.execute(*PARTED.split(";"))
    bridge.configure({"sale": 'table = "sale"'})
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "create table sale_2 partition of sale for values from (2) to (3)",
        "insert into sale select g, 2, 'second' from generate_series(1, 50) g",
        "grant select on sale to public",
    )
    await found(bridge, "sale", "50:2")
    marker = bridge.one("select pg_current_wal_insert_lsn()")
    await eventually(lambda: acknowledged(bridge, marker), deadline_s=20.0)
    assert AGAIN not in log(bridge)
    bridge.execute(
        "create table sale_3 (like sale including all)",
        "insert into sale_3 select g, 3, 'attached' from generate_series(1, 50) g",
        "alter table sale attach partition sale_3 for values from (3) to (4)",
    )
    await found(bridge, "sale", "50:3")
    assert AGAIN in log(bridge)
    bridge.execute("alter table sale detach partition sale_1")
    await found(bridge, "sale", "1:1", there=False)
    await bridge.settled()
    await bridge.daemon.kill()
    bridge.execute(
        "alter table sale attach partition sale_1 for values from (1) to (2)"
    )
    bridge.daemon.start()
    await found(bridge, "sale", "1:1")
    await bridge.settled()
    await bridge.ends_exact()


def acknowledged(bridge: Bridge, lsn: str) -> bool:
    """Whether the slot has moved there; the log is pushed on meanwhile."""
    bridge.execute("select pg_logical_emit_message(true, 'test', '')")
    return bool(
        bridge.one(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
            " where slot_name = %s",
            lsn,
            bridge.slot,
        )
    )


async def test_a_rewritten_column_is_derived_again(bridge: Bridge, seed: int) -> None:
    """ALTER TYPE … USING and a column with a default, under load."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(
        {"item": 'table = "item"', "small": 'query = "select id, name from item"'}
    )
    bridge.daemon.start()
    await bridge.ready()
    traffic = Traffic(bridge.dsn, seed)
    bridge.execute("alter table item add column kind text not null default 'plain'")
    await eventually(lambda: "kind" in shape(bridge), deadline_s=60.0)
    bridge.execute(
        "alter table item alter column at type text using 'day ' || at::date"
    )
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


def shape(bridge: Bridge) -> dict[str, object]:
    bridge.daemon.must_run()
    return bridge.value("item", "500") or {}


async def test_a_view_that_cannot_be_kept_halts_alone(bridge: Bridge) -> None:
    """A dropped column: its view says so, the other goes on; later it is built."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(
        {
            "item": 'query = "select id, name from item"',
            "noted": 'query = "select id, note from item"',
        }
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute("alter table item drop column note", "update item set n = 0")
    await eventually(lambda: is_state(bridge, "noted", "halted"), deadline_s=30.0)
    bridge.execute("insert into item (id, name, n) values (9001, 'later', 1)")
    await found(bridge, "item", "9001")
    assert await state(bridge, "item") == {"live"}
    bridge.execute("alter table item add column note text default 'new'")
    await bridge.ready()
    await found(bridge, "noted", "9001")
    await bridge.settled()
    await bridge.ends_exact()


async def is_state(bridge: Bridge, view: str, wanted: str) -> bool:
    bridge.daemon.must_run()
    return await state(bridge, view) == {wanted}


async def test_a_lost_identity_halts_its_view_alone(bridge: Bridge) -> None:
    """Updates that the log does not tell of: noticed in order, built anew after."""
    bridge.execute(
        *SCHEMA.split(";"),
        "create table tag (id bigint primary key, item bigint not null, label text)",
        "insert into tag select g, g, 'tag' from generate_series(1, 500) g",
        "create unique index tag_bridge on tag (id, item)",
        "alter table tag replica identity using index tag_bridge",
    )
    tags = "(select json_agg(t.label order by t.id) from tag t where t.item = i.id)"
    bridge.configure(
        {
            "item": 'query = "select id, name from item"',
            "tagged": f'query = "select i.id, {tags} as tags from item i"',
        }
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "alter table tag replica identity default",
        "update tag set item = item + 1 where id < 100",
        "insert into item (id, name, n) values (9001, 'later', 1)",
    )
    await found(bridge, "item", "9001")
    await eventually(lambda: is_state(bridge, "tagged", "halted"), deadline_s=30.0)
    assert await state(bridge, "item") == {"live"}
    bridge.execute("alter table tag replica identity using index tag_bridge")
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.parametrize(
    "statement",
    [
        "alter publication {} drop table item",
        "alter publication {} set (publish = 'insert')",
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
        "update item set name = 'swallowed' where id <= 100",
        "delete from item where id > 400",
    )
    await found(bridge, "item", "450", there=False)
    await bridge.settled()
    await bridge.ends_exact()
