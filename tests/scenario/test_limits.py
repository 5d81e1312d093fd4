"""What is large is taken in, or refused with its reason, and the rest goes on: wide
tables, deep JSON, huge rows, many views, many tables.

The one thing to know: small forms by default. `PGBRIDGE_TEST_ROW_BYTES`,
`PGBRIDGE_TEST_VIEWS` and `PGBRIDGE_TEST_TABLES` make them large.
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

ROW_BYTES = int(os.environ.get("PGBRIDGE_TEST_ROW_BYTES", str(8 << 20)))
VIEWS = int(os.environ.get("PGBRIDGE_TEST_VIEWS", "40"))
TABLES = int(os.environ.get("PGBRIDGE_TEST_TABLES", "400"))
COLUMNS, LEVELS = 1600, 10_000
RESIDENT_BYTES_MAX = 400 << 20


@pytest.mark.slow
async def test_wide_and_deep_rows_are_taken_or_are_dead_letters(bridge: Bridge) -> None:
    """As many columns as a table may have; JSON deeper than Elasticsearch takes."""
    wide = ", ".join(f"c{n} integer" for n in range(1, COLUMNS))
    values = ", ".join(["id"] + [f"id * {n}" for n in range(1, COLUMNS)])
    deep = f"(repeat('[', {LEVELS}) || repeat(']', {LEVELS}))::jsonb"
    bridge.execute(
        f"create table wide (id integer primary key, {wide})",
        f"insert into wide select {values} from generate_series(1, 20) id",
        "create table deep (id integer primary key, doc jsonb)",
        f"insert into deep values (1, {deep}), (2, '[[2]]')",
    )
    definitions = {
        "wide": 'table = "wide"',
        "fields": 'table = "wide"',
        "deep": 'table = "deep"',
    }
    bridge.configure(
        definitions,
        only={"fields": ("cache",)},
        options={"fields/cache": 'encoding = "hash"'},
    )
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        f"insert into wide select {values} from generate_series(21, 30) id",
        f"update wide set c{COLUMNS - 1} = -1 where id = 3",
        "delete from wide where id = 4",
        f"insert into deep values (3, {deep}), (4, '[[4]]')",
    )

    async def told() -> bool:
        return [key for key, _ in await letters(bridge)] == ["1", "3"]

    await eventually(told)
    reasons = [reason for _, reason in await letters(bridge)]
    assert all("depth" in reason for reason in reasons), reasons
    bridge.execute("update deep set doc = '1' where id in (1, 3)")
    await bridge.settled()
    assert await letters(bridge) == []
    await bridge.ends_exact()


async def test_a_huge_row_is_taken(bridge: Bridge) -> None:
    """From the log and read back, with a small one behind it."""
    body = f"repeat('a row of the test ', {ROW_BYTES // 18})"
    bridge.execute(
        "create table huge (id integer primary key, body text)",
        f"insert into huge values (1, {body})",
    )
    even = 'query = "select id, body, id % 2 as odd from huge"'
    bridge.configure({"huge": 'table = "huge"', "read": even}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(f"insert into huge values (2, {body}), (3, 'small')")
    await bridge.settled()
    print(bridge.daemon.resident_bytes_max() >> 20, "MiB resident at most")
    if ROW_BYTES <= 8 << 20:
        assert bridge.daemon.resident_bytes_max() < RESIDENT_BYTES_MAX
    await bridge.ends_exact()


OTHERS = """
do $$
begin
  for n in 1 .. {last} loop
    execute format('create table t%s (id integer primary key, n integer)', n);
    execute format('alter table t%s owner to pgbridge_owner', n);
    if n % 500 = 0 then commit; end if;  -- each holds a lock until then
  end loop;
end $$
"""


async def test_many_views_in_a_database_of_many_tables(bridge: Bridge) -> None:
    """Each view is of one of the tables; most tables are in none."""
    bridge.execute(
        "create table t0 (id integer primary key, n integer)",
        OTHERS.format(last=TABLES - 1),
        "insert into t0 values (1, 1)",
    )
    views = {
        f"v{n}": f'query = "select id, n + {n} as n from t0 where n <> {n + 9}"'
        for n in range(VIEWS)
    }
    bridge.configure(views, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute("insert into t0 values (2, 2)", "update t0 set n = 9 where id = 1")
    last = f"v{VIEWS - 1}"
    await eventually(lambda: bridge.value(last, "2"))
    await eventually(lambda: bridge.value("v0", "1") is None)
    assert bridge.value(last, "2")["n"] == VIEWS + 1
    assert bridge.daemon.resident_bytes_max() < RESIDENT_BYTES_MAX
    print(bridge.daemon.resident_bytes_max() >> 20, "MiB resident at most")
    assert await bridge.daemon.stop() == 0


async def letters(bridge: Bridge) -> list[tuple[str, str]]:
    """Key and reason of each dead letter."""
    listing = pgbridge, bridge.daemon.config, "dead-letters", "list", "--json"
    code, out, said = await asyncio.to_thread(*listing)
    assert code == 0, said
    return sorted((each["key"], each["reason"]) for each in json.loads(out))
