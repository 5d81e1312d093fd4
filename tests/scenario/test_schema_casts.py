"""A type is altered, and values in the log, or keys in a sink, are none of its any
more: such a key has no row, and what such a value led to is derived again."""

from __future__ import annotations

import httpx
import pytest

from bridge.position import Position
from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA
from tests.scenario.test_life import pgbridge
from tests.scenario.test_schema import log
from tests.scenario.test_verify import verify, wrong
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

MOODS = (
    *SCHEMA.split(";"),
    "create type mood as enum ('glad', 'sad', 'wild')",
    "alter table item add column mood mood not null default 'glad'",
    "update item set mood = 'sad' where id % 5 = 0",
    "alter table item replica identity full",
)
RENAMED = "alter type mood rename value 'sad' to 'blue'"
DROPPED = (
    "create type mood_2 as enum ('glad', 'wild')",
    "alter table item alter column mood drop default",
    "alter table item alter column mood type mood_2 using mood::text::mood_2",
    "alter table place alter column mood type mood_2 using mood::text::mood_2",
    "drop type mood",
    "alter type mood_2 rename to mood",
)
"""A label is dropped: the usual way, which goes only where no row has it."""
GROUPED = 'query = "select mood, count(*) as n from item group by mood"'
COUNTED = '''query = """
    select p.id, (select count(*) from item i where i.mood = p.mood) as n
    from place p"""'''
PLACES = (
    "create table place (id bigint primary key, mood mood not null)",
    "insert into place values (1, 'glad'), (2, 'wild')",
    "alter table place replica identity full",
)


async def gone(bridge: Bridge, view: str, key: str, instead: str) -> None:
    """Wait until the sink has the one key in place of the other."""

    async def look() -> bool:
        bridge.daemon.must_run()
        values = [bridge.value(view, name) for name in (key, instead)]
        return values[0] is None and values[1] is not None

    await eventually(look)


async def letters(bridge: Bridge) -> int:
    status = await bridge.daemon.status()
    return sum(target["dead_letters"] for target in status["targets"])


async def test_the_key_of_a_renamed_label_is_removed(bridge: Bridge) -> None:
    """In place, as the daemon sees it happen; and what it has missed is in the log."""
    bridge.execute(*MOODS)
    bridge.configure({"felt": GROUPED}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(RENAMED)
    await gone(bridge, "felt", "sad", "blue")
    await bridge.settled()
    await bridge.daemon.kill()
    bridge.execute(
        "update item set mood = 'wild' where mood = 'blue'",
        "alter type mood rename value 'blue' to 'dull'",
        "update item set mood = 'dull' where id = 1",
    )
    bridge.daemon.start()
    await gone(bridge, "felt", "blue", "dull")
    await bridge.settled()
    assert await letters(bridge) == 0
    await bridge.ends_exact()


async def test_an_old_link_of_a_renamed_label_sweeps_its_view(bridge: Bridge) -> None:
    """Which documents it led to, nobody can tell any more; the view goes on."""
    bridge.execute(*MOODS, *PLACES)
    bridge.configure({"place": COUNTED}, sinks=["cache"])
    bridge.daemon.start()
    await bridge.ready()
    bridge.transaction(
        "update item set mood = 'wild' where mood = 'sad'",
        "insert into place values (3, 'glad')",
        RENAMED,
    )
    await eventually(lambda: bridge.value("place", "3") is not None)
    await bridge.settled()
    assert "halted" not in log(bridge)
    await bridge.ends_exact()


@pytest.mark.slow
@pytest.mark.parametrize("away", [False, True])
async def test_a_label_is_dropped(bridge: Bridge, *, away: bool) -> None:
    """The usual way, as the daemon runs or is away: links, groups and keys follow."""
    bridge.execute(
        *MOODS,
        *PLACES,
        "create table code (code text primary key, n int)",
        "insert into code values ('x', 1), ('007', 2), ('9', 3)",
    )
    bridge.configure({"place": COUNTED, "felt": GROUPED, "code": 'table = "code"'})
    bridge.daemon.start()
    await bridge.ready()
    if away:
        await bridge.daemon.kill()
    bridge.transaction(
        "update item set mood = 'wild' where mood = 'sad'",
        "insert into place values (3, 'glad')",
        *DROPPED,
    )
    bridge.execute(
        "update code set code = '8' where code = 'x'",
        "alter table code alter column code type int using code::int",
        "update item set mood = 'wild' where id = 1",
        "update code set n = 4",
    )
    if away:
        bridge.daemon.start()
    await gone(bridge, "code", "007", "7")
    await bridge.ready()
    await bridge.settled()
    assert await letters(bridge) == 0
    assert "halted" not in log(bridge)
    await bridge.ends_exact()


async def test_what_was_a_key_once_is_extra_and_somebody_elses_is_not(
    bridge: Bridge,
) -> None:
    """Told apart by their versions: the bridge has given out the one, not the other."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure({"item": 'query = "select id, name from item"'}, sinks=["search"])
    bridge.daemon.start()
    await bridge.ready()
    ours = {"version_type": "external", "version": str(Position(1, 1).version)}
    with httpx.Client(base_url=bridge.es, trust_env=False) as search:
        for name, versions in (("former", ours), ("foreign", {}), ("older", ours)):
            where = f"/{bridge.prefix}item--g1/_doc/{name}"
            document = {"id": 1, "name": name}
            search.put(where, params=versions, json=document).raise_for_status()
    found = (await verify(bridge, "item"))[1]["search"]
    assert wrong(found)["extra"] == ["foreign", "former", "older"]
    code, told = await pgbridge(bridge, "backfill", "item", "--keys", "foreign")
    assert (code, "cannot be a key" in told) == (1, True), told
    code, told = await pgbridge(bridge, "backfill", "item", "--keys", "older")
    assert code == 0, told
    code, repaired = await verify(bridge, "item", "--repair")
    assert repaired["search"]["repaired"] == 1
    found = (await verify(bridge, "item"))[1]["search"]
    assert wrong(found)["extra"] == ["foreign"]
    code, told = await pgbridge(bridge, "backfill", "item")
    assert code == 0, told
    assert await bridge.document("item", "foreign") is not None
    assert await letters(bridge) == 0
    assert await bridge.daemon.stop() == 0
