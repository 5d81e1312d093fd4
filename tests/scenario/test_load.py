"""Many small transactions, and one huge one: what is read back is never stale, and
memory stays within its bound."""

from __future__ import annotations

import asyncio
import os

import psycopg
import pytest

from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

TRANSACTIONS = int(os.environ.get("PGBRIDGE_TEST_TRANSACTIONS", "12000"))
ROWS = int(os.environ.get("PGBRIDGE_TEST_ROWS", "150000"))
WRITERS = 4
RESIDENT_BYTES_MAX = 400 << 20
WRITER = """
do $$
begin
  for i in 1 .. {count} loop
    if i % 3 = 0 then
      perform set_config('synchronous_commit', 'off', true);
    end if;
    update item set n = n + 1 where id = {first} + i;
    if i % 20 = 0 then
      update item set n = n + 1 where id = i % 7;
    end if;
    commit;
  end loop;
end $$
"""


async def test_of_many_small_transactions_none_is_read_before_it_is_visible(
    bridge: Bridge, seed: int
) -> None:
    """Each row is updated once, and leaves the view or comes into it by that: a row
    read too early stays wrong, since nothing ever reads it again. Some rows are fought
    over by all writers."""
    share = TRANSACTIONS // WRITERS
    bridge.execute(
        "create table item (id integer primary key, n integer not null)",
        f"insert into item select g, g from generate_series(0, {TRANSACTIONS + 7}) g",
    )
    even = 'query = "select id, n, id + n as sum from item where n % 2 = 0"'
    bridge.configure({"even": even}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()

    async def write(number: int) -> None:
        statement = WRITER.format(count=share, first=7 + number * share)
        async with await psycopg.AsyncConnection.connect(
            bridge.dsn, autocommit=True
        ) as own:
            await own.execute(statement.encode())

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    assert bridge.one("select count(*) from item where id > 7 and n <> id") == share * 4
    await applied(bridge)
    await bridge.ends_exact()


async def applied(bridge: Bridge) -> None:
    """Wait until everything that is committed now is in every target."""
    lsn = int(bridge.one("select pg_current_wal_flush_lsn() - '0/0'"))
    bridge.execute("select pg_logical_emit_message(true, 'test', 'over')")
    query = "select min(lsn) - '0/0' from bridge.progress"

    def reached() -> bool:
        bridge.daemon.must_run()
        return int(bridge.one(query) or 0) > lsn

    await eventually(reached, deadline_s=max(DEADLINE_S, ROWS / 2000))


async def test_a_huge_transaction_stays_within_memory(bridge: Bridge) -> None:
    """Rows of some 60 bytes, taken from the log and read back, into a fast sink and
    one that is as fast as can be."""
    bridge.execute(
        "create table item (id integer primary key, n integer not null, name text)"
    )
    bridge.configure(
        {
            "direct": 'table = "item"',
            "odd": 'query = "select id, name from item where n % 2 = 1"',
        },
        sinks=["cache", "nowhere"],
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "insert into item select g, g, 'a name of some length, number ' || g"
        f" from generate_series(1, {ROWS}) g"
    )
    await applied(bridge)
    assert bridge.daemon.resident_bytes_max() < RESIDENT_BYTES_MAX
    assert bridge.value("direct", str(ROWS))["n"] == ROWS
    status = await bridge.daemon.status()
    counted = {
        (target["view"], target["sink"]): target["documents"]
        for target in status["targets"]
    }
    print(counted, bridge.daemon.resident_bytes_max() >> 20, "MiB")
    await bridge.ends_exact()
