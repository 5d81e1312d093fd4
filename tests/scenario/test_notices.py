"""Event triggers tell in the log where something was altered; and do no harm."""

from __future__ import annotations

import psycopg
import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA
from tests.scenario.test_life import pgbridge
from tests.scenario.test_schema import AGAIN, FILLED, PARTED, REPLANNED, found, log
from tests.scenario.world import ROLE, Bridge

pytestmark = pytest.mark.scenario

TRIGGERS = "select count(*) from pg_event_trigger"
NO_NOTICE = (
    "create table other (id bigint primary key, note text)",
    "alter table other add column more text",
    "create temporary table passing (id integer); drop table passing",
    "create index on item (name)",
    "grant select on item to public",
    "analyze item",
)
NOTICES = (
    "alter table item add column unread integer",
    "create table sale_2 partition of sale for values from (2) to (3)",
    "alter table sale detach partition sale_2",
    "create view shown as select id from item",
    "create function label(text) returns text language sql return 'l ' || $1",
    "drop function label(text)",
    "drop view shown",
    "drop table sale_2",
)


def notices(bridge: Bridge, *statements: str) -> list[int]:
    """How many notices each puts into the log."""
    slot, told = f"n_{bridge.slot}", []
    count = """
        select count(*)
        from pg_logical_slot_get_binary_changes(
            %s, null, null,
            'proto_version', '1', 'publication_names', %s, 'messages', 'true'
        )
        where position('pgbridge'::bytea in data) > 0
            and position('altered'::bytea in data) > 0
    """
    bridge.one("select pg_create_logical_replication_slot(%s, 'pgoutput')", slot)
    try:
        for statement in statements:
            bridge.execute(statement)
            told.append(int(bridge.one(count, slot, bridge.slot)))
    finally:
        bridge.one("select pg_drop_replication_slot(%s)", slot)
    return told


async def test_what_is_altered_is_looked_at_where_the_log_tells_it(
    bridge: Bridge,
) -> None:
    """Rows that come without an event, and another shape, by the notice alone; what no
    view can stand on is not told, and nothing fails for it; `drop` takes it away."""
    bridge.execute(*SCHEMA.split(";"), *PARTED.split(";"))
    bridge.configure(
        {"item": 'table = "item"', "sale": 'table = "sale"'},
        source=f'admin_dsn = "{bridge.dsn}"',
    )
    code, told = await pgbridge(bridge, "apply")
    assert code == 0, told
    assert "event triggers tell in the log" in told
    assert bridge.one(TRIGGERS) == 2
    assert set(notices(bridge, *NO_NOTICE)) == {0}
    assert all(notices(bridge, *NOTICES))

    bridge.daemon.start(mutant="looks-when-told")
    await bridge.ready()
    bridge.execute(*FILLED)
    await found(bridge, "sale", "1:4")
    assert AGAIN in log(bridge)
    bridge.execute("alter table item add column kind text not null default 'plain'")
    await eventually(lambda: "kind" in (bridge.value("item", "500") or {}))
    assert REPLANNED in log(bridge)
    await bridge.settled()
    await bridge.ends_exact()

    owner = "select relowner::regrole::text from pg_class where relname = 'migration'"
    assert bridge.one(owner) == ROLE
    code, told = await pgbridge(bridge, "drop", "--yes")
    assert code == 0, told
    assert bridge.one(TRIGGERS) == 0


async def test_a_notice_that_fails_fails_nobody(bridge: Bridge) -> None:
    """Whatever is the matter with it, what was asked for is done; and what runs with
    everybody's rights is not the daemon's to replace."""
    bridge.execute(*SCHEMA.split(";"))
    admin = f'admin_dsn = "{bridge.dsn}"'
    bridge.configure({"item": 'table = "item"'}, source=admin, sinks=["cache"])
    assert (await pgbridge(bridge, "apply"))[0] == 0
    # Nor is it where the daemon's role had made one of that name before.
    drops = [f"drop event trigger pgbridge_{event}" for event in ("altered", "dropped")]
    bridge.execute(*drops, f"alter function bridge.notice_v1() owner to {ROLE}")
    assert (await pgbridge(bridge, "apply"))[0] == 0
    emits = "function pg_logical_emit_message(boolean, text, text, boolean)"
    with psycopg.connect(bridge.dsn, autocommit=True) as own:
        own.execute(f"set role {ROLE}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(
                "create or replace function bridge.notice_v1() returns event_trigger"
                " language plpgsql as 'begin end'"
            )
        own.execute("reset role")
        own.execute(f"revoke execute on {emits} from public".encode())
        own.execute("set role pgbridge_owner")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute("select pg_logical_emit_message(true, 'any', '')")
        own.execute("alter table item add column more integer")
        own.execute("alter table item drop column more")
