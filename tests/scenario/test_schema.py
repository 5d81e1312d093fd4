"""The source's tables change under running views: nothing is silently stale."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

AGAIN = "rows came, went or changed without an event"
REPLANNED = "everything is planned again"
PARTED = """
create table sale (id bigint, day integer, note text, primary key (id, day))
    partition by range (day);
create table sale_1 partition of sale for values from (1) to (2);
insert into sale select g, 1, 'first' from generate_series(1, 200) g
"""

FILLED = (
    "create table sale_4 (id bigint not null, day integer not null, note text)",
    """do $$ begin
    create table sale_5 (like sale) partition by range (day);
    create table sale_5a partition of sale_5 for values from (5) to (6);
    insert into sale_5 values (1, 5, 'below');
    insert into sale_4 values (1, 4, 'filled');
    alter table sale attach partition sale_4 for values from (4) to (5);
    alter table sale attach partition sale_5 for values from (5) to (7); end $$""",
)
"""Made, filled and attached by one transaction: not empty, as new partitions are."""


async def alter(bridge: Bridge, *statements: str) -> None:
    """Beside writers of the same loop, who may hold what these statements wait for."""
    await asyncio.to_thread(bridge.execute, *statements)


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

    await eventually(look)


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
    await eventually(lambda: acknowledged(bridge, marker))
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
    bridge.execute("truncate sale_2")
    await found(bridge, "sale", "50:2", there=False)
    bridge.execute("drop table sale_3")
    await found(bridge, "sale", "50:3", there=False)
    bridge.execute(*FILLED)
    await found(bridge, "sale", "1:4")
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
    await alter(
        bridge, "alter table item add column kind text not null default 'plain'"
    )
    await eventually(lambda: "kind" in shape(bridge))
    await alter(
        bridge, "alter table item alter column at type text using 'day ' || at::date"
    )
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


def shape(bridge: Bridge) -> dict[str, object]:
    bridge.daemon.must_run()
    return bridge.value("item", "500") or {}


async def test_a_view_that_cannot_be_kept_halts_alone(bridge: Bridge) -> None:
    """A dropped column: its view says so, the other goes on, and has nothing to derive
    again at the next start; later it is built."""
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
    await eventually(lambda: is_state(bridge, "noted", "halted"))
    for target in (await bridge.daemon.status())["targets"]:
        if target["view"] == "noted":  # as `bridge.status()` tells it
            assert (target["position"], target["lag_bytes"]) == (None, None)
            assert target["lag_seconds"] > 0
    bridge.execute("insert into item (id, name, n) values (9001, 'later', 1)")
    await found(bridge, "item", "9001")
    assert await state(bridge, "item") == {"live"}
    await still(bridge)  # the slot is past all that the halted one has
    await bridge.daemon.kill()
    bridge.daemon.start()
    await eventually(lambda: is_state(bridge, "noted", "halted"))
    bridge.execute("alter table item add column note text default 'new'")
    await bridge.ready()
    await found(bridge, "noted", "9001")
    assert "moved past" not in log(bridge)
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
    await eventually(lambda: is_state(bridge, "tagged", "halted"))
    assert await state(bridge, "item") == {"live"}
    bridge.execute("alter table tag replica identity using index tag_bridge")
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()


async def still(bridge: Bridge) -> None:
    """Wait until the slot is past all that was done, and a look has seen it."""
    marker = bridge.one("select pg_current_wal_insert_lsn()")
    await eventually(lambda: acknowledged(bridge, marker))


async def test_what_changes_no_document_is_no_work(bridge: Bridge) -> None:
    """Rights, indexes, storage, statistics, a column that no view reads."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"item": 'query = "select id, name from item"'})
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "grant select on item to public",
        "grant update (name) on item to public",
        "alter table item alter column name set statistics 200",
        "alter table item add column unread integer",
        "alter table item drop column note",
        "alter table item rename column n to amount",
        "create index item_name on item (name)",
    )
    await still(bridge)
    bridge.execute(
        "cluster item using item_pkey",
        "vacuum (full, analyze) item",
        "comment on table item is 'items'",
        "update item set amount = 0, name = 'later' where id = 1",
    )
    await still(bridge)
    assert AGAIN not in log(bridge)
    assert REPLANNED not in log(bridge)
    bridge.execute("alter table item alter column name type text using 'new ' || name")
    await eventually(lambda: AGAIN in log(bridge))
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_renamed_column_halts_who_names_it(bridge: Bridge, seed: int) -> None:
    """Who takes the table as it is follows; both are whole when it is named back."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(
        {"item": 'table = "item"', "noted": 'query = "select id, note from item"'}
    )
    bridge.daemon.start()
    await bridge.ready()
    traffic = Traffic(bridge.dsn, seed)
    await alter(bridge, "alter table item rename column note to memo")
    await eventually(lambda: is_state(bridge, "noted", "halted"))
    await alter(bridge, "insert into item (id, name, n) values (9001, 'later', 1)")

    async def follows() -> bool:
        bridge.daemon.must_run()
        kept = await bridge.document("item", "9001")
        return kept is not None and "memo" in kept.source

    await eventually(follows)
    status = await bridge.daemon.status()
    reasons = {t["reason"] for t in status["targets"] if t["view"] == "noted"}
    assert all("note" in reason for reason in reasons), reasons
    await alter(bridge, "alter table item rename column memo to note")
    await bridge.ready()
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_key_renamed_while_the_bridge_was_away(bridge: Bridge) -> None:
    """The log of before knows it by its old name only: nothing of it is lost."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"item": 'table = "item"'})
    bridge.daemon.start()
    await bridge.ready()
    await bridge.daemon.kill()
    bridge.execute(
        "update item set name = 'before' where id <= 50",
        "delete from item where id = 100",
        "alter table item rename column id to number",
        "update item set name = 'after' where number <= 25",
    )
    bridge.daemon.start()
    await eventually(lambda: named(bridge, "number"))
    await bridge.settled()
    assert await state(bridge, "item") == {"live"}
    await bridge.ends_exact()


async def named(bridge: Bridge, column: str) -> bool:
    bridge.daemon.must_run()
    kept = await bridge.document("item", "1")
    return kept is not None and column in kept.source


async def test_tables_are_renamed_dropped_and_made_again(bridge: Bridge) -> None:
    """The view of the table halts alone, and is built anew from the new one."""
    bridge.execute(*SCHEMA.split(";"), "create table other (id bigint primary key)")
    bridge.configure({"item": 'table = "item"', "other": 'table = "other"'})
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute("alter table item rename to items", "update items set n = 1")
    await eventually(lambda: is_state(bridge, "item", "halted"))
    bridge.execute("insert into other values (1)", "alter table items rename to item")
    await found(bridge, "other", "1")
    await bridge.ready()
    bridge.execute("drop table item", "insert into other values (2)")
    await eventually(lambda: is_state(bridge, "item", "halted"))
    await found(bridge, "other", "2")
    assert await state(bridge, "other") == {"live"}
    bridge.execute(*SCHEMA.split(";"), "delete from item where id > 5")
    await bridge.ready()
    await found(bridge, "item", "6", there=False)
    bridge.transaction(
        "create table fresh (like item including all)",
        "insert into fresh (id, name, n) values (7001, 'fresh', 1)",
        "alter table item rename to old",
        "alter table fresh rename to item",
    )
    await found(bridge, "item", "7001")
    await found(bridge, "item", "1", there=False)
    await bridge.settled()
    await bridge.ends_exact()


async def test_who_writes_while_his_table_is_published_again(bridge: Bridge) -> None:
    """What he wrote before is in no stream, and in no snapshot until he commits."""
    bridge.execute(
        *SCHEMA.split(";"), "create table added (id bigint primary key, n integer)"
    )
    views = {"item": 'table = "item"'}
    bridge.configure(views)
    bridge.daemon.start()
    await bridge.ready()
    async with await psycopg.AsyncConnection.connect(bridge.dsn) as writer:
        await writer.execute("insert into item (id, name, n) values (9001, 'w', 1)")
        await writer.execute("insert into added values (9001, 1)")
        bridge.execute(
            f"alter publication {bridge.slot} drop table item",
            f"alter publication {bridge.slot} add table item",
        )
        waiting = "waiting for transactions that were open"
        await eventually(lambda: waiting in log(bridge))
        bridge.configure(views | {"added": 'table = "added"'})
        await eventually(lambda: "public.added" in log(bridge))
        await writer.commit()
    await found(bridge, "item", "9001")
    await found(bridge, "added", "9001")
    await bridge.settled()
    await bridge.ends_exact()


async def test_what_a_query_calls_is_replaced(bridge: Bridge) -> None:
    """A view of the database, a function, an enum's label: documents follow."""
    bridge.execute(
        *SCHEMA.split(";"),
        "create type mood as enum ('glad', 'sad')",
        "alter table item add column mood mood default 'sad'",
        "create view shown as select id, name from item",
        "create function label(text) returns text language sql immutable"
        " return 'old ' || $1",
    )
    bridge.configure(
        {
            "shown": 'query = "select id, name from shown"',
            "called": 'query = "select id, label(name) as l from item"\n'
            'functions = ["public.label"]',
            "felt": 'query = "select id, mood from item"',
        }
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "create or replace view shown as select id, 'v2 ' || name as name from item",
        "create or replace function label(text) returns text language sql immutable"
        " return 'new ' || $1",
        "alter type mood rename value 'sad' to 'blue'",
    )

    async def followed() -> bool:
        bridge.daemon.must_run()
        shown, called, felt = [
            await bridge.document(view, "1") for view in ("shown", "called", "felt")
        ]
        return (
            shown is not None
            and called is not None
            and felt is not None
            and (shown.source["name"], called.source["l"], felt.source["mood"])
            == ("v2 item 1", "new item 1", "blue")
        )

    await eventually(followed)
    bridge.execute("drop view shown")
    await eventually(lambda: is_state(bridge, "shown", "halted"))
    bridge.execute("create view shown as select id, 'v3' as name from item")
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_partition_without_the_identity_halts_its_view(bridge: Bridge) -> None:
    """And one that brings it is no work."""
    parts = PARTED.replace("(id, day))", "(id, day), store bigint not null)", 1)
    bridge.execute(
        *parts.replace("select g, 1, 'first'", "select g, 1, 'first', 1").split(";"),
        "create unique index sale_bridge on sale (id, day, store)",
        "alter table sale_1 replica identity using index sale_1_id_day_store_idx",
        "create table store (id bigint primary key)",
        "insert into store select generate_series(1, 3)",
    )
    sums = "(select count(*) from sale where sale.store = s.id)"
    bridge.configure(
        {
            "store": f'query = "select s.id, {sums} as sales from store s"',
            "plain": 'table = "store"',
        }
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.transaction(
        "create table sale_2 partition of sale for values from (2) to (3)",
        "alter table sale_2 replica identity using index sale_2_id_day_store_idx",
        "insert into sale values (1, 2, 'second', 2)",
        # Their root has no such identity, and the log describes it.
        "update sale set store = 3 where id = 1",
        "delete from sale where id = 2",
        "update sale set id = 1000 where id = 3",
    )
    await still(bridge)
    await bridge.settled()
    assert AGAIN not in log(bridge)
    assert REPLANNED not in log(bridge)
    # As before in the end; what was written meanwhile has no old values in the log.
    bridge.transaction(
        "alter table sale_1 replica identity default",
        "update sale set store = 2 where id = 5",
        "alter table sale_1 replica identity using index sale_1_id_day_store_idx",
    )
    left = bridge.one("select count(*) from sale where store = 1")

    async def counted() -> bool:
        found = await bridge.document("store", "1")
        return found is not None and bool(found.source["sales"] == left)

    await eventually(counted)
    bridge.execute(
        "create table sale_3 partition of sale for values from (3) to (4)",
        "insert into sale values (1, 3, 'third', 3)",
        "update sale set store = 2 where day = 3",
    )
    await eventually(lambda: is_state(bridge, "store", "halted"))
    bridge.execute("insert into store values (4)")
    await found(bridge, "plain", "4")
    assert await state(bridge, "plain") == {"live"}
    bridge.execute(
        "alter table sale_3 replica identity using index sale_3_id_day_store_idx"
    )
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_table_emptied_and_altered_at_once(bridge: Bridge) -> None:
    """The sweep that follows finds no such column: its view halts, and no other."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(
        {
            "item": 'query = "select id, name from item"',
            "noted": 'query = "select id, note from item"',
        }
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.transaction(
        "truncate item",
        "alter table item rename column note to memo",
        "insert into item (id, name, n) values (9001, 'later', 1)",
    )
    await eventually(lambda: is_state(bridge, "noted", "halted"))
    await found(bridge, "item", "9001")
    await found(bridge, "item", "1", there=False)
    assert await state(bridge, "item") == {"live"}
    bridge.execute("alter table item rename column memo to note")
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()
