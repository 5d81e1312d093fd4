"""kill -9 at every state of a generation's life, in every order with commands.

The one thing to know: whatever was asked for before and after the kill must come to
the end that it comes to without one: the same generations, seen by the same readers,
and every document equal to SQL. What is asked for, and its end, is in `deaths.py`.
"""

from __future__ import annotations

import itertools
import signal
from itertools import product
from pathlib import Path

import httpx
import pytest
import redis

from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.deaths import (
    TEMPLATE,
    Case,
    ask,
    at_rest,
    built,
    dies,
    expected,
    letters,
    outcomes,
    standing,
)
from tests.scenario.harness import SCHEMA
from tests.scenario.readers import reading, reading_keys
from tests.scenario.test_edits import ITEM, NAME_AS_TEXT, RAW, get, rows
from tests.scenario.test_life import OLD, QUIET, STILL, configure, pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

BUILDING = (
    "generation.prepared",
    "backfill.chunk",
    "backfill.kept",
    "generation.built",
    "generation.publish",
)
SHOWN = ("generation.published", "generation.recorded", "generation.dropped")
SWITCHED = ("generation.publish", "generation.published", "generation.recorded")
COMMAND = ("command.begun", "command.done")
LOOKED = ("schema.noticed", "schema.looked")
EDITED = ("rollback", "once more", "undone")
GIVEN_UP = ("cancel", "cancel sweep", "cancel where")

CACHED = """
    select array_agg(number) from bridge.generation
    where sink = 'cache' and state = %s
"""


STEADY = (
    Case("rebuild", "generation.published"),
    Case("rebuild", "generation.published", "edit"),
    Case("rebuild", "generation.built", "cancel"),
    Case("rollback", "generation.published"),
    Case("edit", "generation.recorded", "rollback"),
    Case("forced", "command.begun"),
    Case("attached", "schema.looked"),
)


def cases() -> list[object]:
    """Each act with each of its states, alone and with each command after it."""
    found = [
        *product(
            ["rebuild"],
            BUILDING + SHOWN + COMMAND,
            ["", "cancel", "rollback", "edit", "pause"],
        ),
        *product(["rebuild"], BUILDING[3:] + SHOWN[:2], ["", "cancel"], [1]),
        *product(["edit"], BUILDING + SHOWN[:2], ["", *EDITED]),
        *product(["rollback"], SWITCHED + COMMAND, ["", "rebuild", "edit"]),
        *product(["forced"], SWITCHED + COMMAND, ["", "rollback", "edit"]),
        *product(["forced"], SWITCHED, [""], [1]),
        *product(["cancel"], ["generation.abandoned", "generation.dropped"]),
        *product(GIVEN_UP, COMMAND, [""], [1]),
        *product(GIVEN_UP, COMMAND[1:]),
        *product(["pause", "resume"], COMMAND),
        *product(["sweep"], BUILDING[1:3] + COMMAND),
        *product(["where"], COMMAND),
        *product(["repair"], COMMAND, ["", "rebuild", "pause"]),
        *product(["repair"], COMMAND, [""], [1]),
        *product(["retry"], COMMAND, ["", "pause"]),
        *product(["altered"], LOOKED[:1]),
        *product(["attached"], (*LOOKED, "schema.derived"), ["", "rebuild"]),
    ]
    return [
        pytest.param(
            case, id=str(case), marks=() if case in STEADY else pytest.mark.slow
        )
        for case in itertools.starmap(Case, found)
    ]


@pytest.mark.parametrize("case", cases())
async def test_killed_in_the_life_of_a_generation(bridge: Bridge, case: Case) -> None:
    """It ends as without the kill, and no reader was ever shown less than before."""
    await built(bridge, case.act)
    async with reading(bridge, "item", STILL, template=TEMPLATE):
        asking = await dies(bridge, case)
        stood = await standing(bridge)
        ask(bridge, case.then) if case.then else None
        bridge.daemon.start()
        if case.then == "pause":
            await paused(bridge)
            ask(bridge, "resume")
        if asking is not None:
            await asking
        await at_rest(bridge)
        if case.act == "pause":
            await paused(bridge)
            ask(bridge, "resume")
            await at_rest(bridge)
    ended = await standing(bridge)
    for sink, found in ended.items():
        assert found[:2] == expected(case, stood[sink]), (sink, stood[sink])
        assert found.shown == found.live
    must_have_ended(bridge, case)
    former = (case.act, case.then) in {("edit", "rollback"), ("forced", "rollback")}
    await bridge.settled(former=former)
    await bridge.ends_exact(former=former)


def must_have_ended(bridge: Bridge, case: Case) -> None:
    """The commands have the outcomes that they have without a kill."""
    found = outcomes(bridge, "backfill")
    if case.act in GIVEN_UP:
        assert found == {"cancelled"}
    assert found <= ({"done", "cancelled"} if case.cancels else {"done"})
    assert outcomes(bridge, "pause", "resume", "retry", "cancel") <= (
        {"done", "failed"} if case.then == "cancel" else {"done"}
    )
    if case.act == "forced" and case.then != "edit":
        assert outcomes(bridge, "promote") == {"done"}
    if case.act == "retry":
        assert outcomes(bridge, "retry") == {"done"}
        assert letters(bridge) == ["-900"]
        bridge.execute("update item set name = 'short' where id = -900")


DROP = ("drop", "--targets", "--yes")
PRUNE = ("apply", "--prune")
NOT_OF_A_ROLLBACK = [
    ("rollback", "generation.built"),
    ("rollback", "generation.dropped"),
]
"""Nothing is built by it, and what it takes readers from is kept."""
STEADY_GONE = [("rebuild", "generation.published", DROP)]


@pytest.mark.parametrize(
    ("act", "probe", "command"),
    [
        pytest.param(*each, marks=() if each in STEADY_GONE else pytest.mark.slow)
        for each in product(
            ["rollback", "rebuild"], (*BUILDING[3:], *SHOWN, *COMMAND), [PRUNE, DROP]
        )
        if each[:2] not in NOT_OF_A_ROLLBACK
    ],
)
async def test_what_is_dropped_while_it_is_switched(
    bridge: Bridge, act: str, probe: str, command: tuple[str, ...]
) -> None:
    """A target is taken out, and dropped with all that it had, before the daemon is
    back, or everything is: nothing of it is left, and what stays is switched; also
    where that command is killed on its way, and given once more."""
    await built(bridge, act)
    bridge.daemon.start(kill_at=probe)
    ask(bridge, act)
    assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
    if command == PRUNE:
        bridge.configure({"item": OLD}, only={"item": ["search"]})
    assert harness.killed(bridge.daemon.config, "generation.dropped", *command) == -9
    code, told = await pgbridge(bridge, *command)
    assert code == 0, told
    with redis.Redis.from_url(bridge.redis, decode_responses=True) as client:
        kept = {"pgbridge:owner", "pgbridge:cache:mark"} if command == PRUNE else set()
        assert set(client.keys("*")) <= kept
    if command == DROP:
        await nothing_is_left(bridge)
    bridge.daemon.start()
    await bridge.ready()
    await at_rest(bridge)
    live, previous = {"rollback": (1, 2), "rebuild": (3, 2)}[act]
    states = "select json_object_agg(number, state) from bridge.generation"
    if command == PRUNE:
        assert bridge.one(states) == {str(live): "live", str(previous): "previous"}
        assert outcomes(bridge, "rollback", "backfill") <= {"done", "failed"}
    else:
        assert bridge.one(states) == {"1": "live"}
    await bridge.settled()
    await bridge.ends_exact()


async def nothing_is_left(bridge: Bridge) -> None:
    """Of slot, publication, schema, and of every index."""
    left = bridge.one(
        "select array_agg(name) from (select slot_name as name"
        " from pg_replication_slots where slot_name = %s"
        " union all select pubname from pg_publication"
        " union all select nspname from pg_namespace where nspname = 'bridge') l",
        bridge.slot,
    )
    assert left is None
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        found = await client.get(f"/{bridge.prefix}*", params={"features": "aliases"})
        assert found.json() == {}


MOVED = (*BUILDING, *SHOWN[:2])


@pytest.mark.slow
@pytest.mark.parametrize("probe", MOVED)
@pytest.mark.parametrize("then", ["", "undone"])
async def test_killed_while_keys_move(bridge: Bridge, probe: str, then: str) -> None:
    """From one prefix to another, and back where the edit is taken back: the keys of
    before are there and current all along, and what is given up is gone."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    configure(bridge, OLD, "one:{id}")
    bridge.daemon.start()
    await bridge.ready()
    assert await bridge.daemon.stop() == 0
    async with (
        reading(bridge, "item", STILL),
        reading_keys(bridge, "item", "one:{id}") as readers,
    ):
        bridge.daemon.start(kill_at=probe)
        await bridge.ready()
        configure(bridge, OLD, "two:{id}")
        assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
        (moved,) = bridge.one(CACHED, "live")
        moved = moved == 2 or (await standing(bridge))["cache"].shown == 2
        if then:
            configure(bridge, OLD, "one:{id}")
        bridge.daemon.start()
        await at_rest(bridge)
        written = bridge.one("select n from item where id = 0")
        await eventually(lambda: readers.last("cache") >= written)
    ended = {"": ([2], [1]), "undone": ([3], [2]) if moved else ([1], None)}
    states = (bridge.one(CACHED, "live"), bridge.one(CACHED, "previous"))
    assert states == ended[then]
    assert (await standing(bridge))["search"].live == 1
    with redis.Redis.from_url(bridge.redis) as client:
        kept = {name: client.exists(f"{name}:0") for name in ("one", "two")}
    assert kept == {"one": 1, "two": int(moved or not then)}
    await bridge.settled()
    await bridge.ends_exact()


async def test_a_backfill_is_cancelled_while_its_last_range_is_kept(
    bridge: Bridge, tmp_path: Path
) -> None:
    """Then it is cancelled, whoever asks, and stays so when the daemon dies of it."""
    hold = tmp_path / "hold"
    hold.mkdir()
    await built(bridge, "sweep")
    bridge.daemon.start(hold=hold)
    await bridge.ready()
    (hold / "armed").write_text("backfill.kept")
    ask(bridge, "sweep")
    await eventually((hold / "reached").exists)
    ask(bridge, "cancel")
    command = "select state from bridge.command where kind = 'backfill'"
    # One of each sink: the other may have come to its end before it was cancelled.
    sweeps = "select array_agg(state order by id) from bridge.backfill where kind = %s"

    def given_up() -> bool:
        states = bridge.one(sweeps, "sweep")
        return "cancelled" in states and {"cancelled", "done"}.issuperset(states)

    await eventually(lambda: bridge.one(command) == "cancelled")
    await eventually(given_up)
    stood = bridge.one(sweeps, "sweep")
    await bridge.daemon.kill()
    bridge.daemon.start()
    await at_rest(bridge)
    assert (bridge.one(command), bridge.one(sweeps, "sweep")) == ("cancelled", stood)
    await bridge.settled()
    await bridge.ends_exact()


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["generation.altering", "generation.altered"])
async def test_what_is_done_in_place_is_done_after_a_kill(
    bridge: Bridge, probe: str
) -> None:
    """A field and a time to live more: in every document, and no generation more."""
    rows(bridge)
    bridge.configure({"item": ITEM}, options={"item/search": NAME_AS_TEXT})
    bridge.daemon.start(kill_at=probe)
    await bridge.ready()
    edited = {"item/search": RAW, "item/cache": 'ttl = "1h"'}
    bridge.configure({"item": ITEM}, options=edited)
    assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
    bridge.execute("update item set n = n + 1000 where id % 2 = 0")
    bridge.daemon.start()

    async def altered() -> bool:
        term = {"term": {"name.raw": "Item 7"}}
        found = await get(bridge, "item/_search", query=term)
        return [hit["_id"] for hit in found["hits"]["hits"]] == ["7"]

    await eventually(altered, deadline_s=90.0)
    with redis.Redis.from_url(bridge.redis) as client:
        names = [f"{bridge.prefix}item:{n}" for n in range(1, 61)]
        await eventually(lambda: all(client.ttl(name) > 0 for name in names))
    await at_rest(bridge)
    assert bridge.one("select array_agg(number) from bridge.generation") == [1, 1]
    await bridge.settled()
    await bridge.ends_exact()


MENDED = ("", "generation.lost", "generation.prepared", "generation.published")


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(each, marks=[pytest.mark.slow] if each else [], id=each or "alive")
        for each in MENDED
    ],
)
async def test_what_has_lost_something_stays_in_sight(
    bridge: Bridge, probe: str
) -> None:
    """Until another one stands in its stead, whenever the daemon dies of it."""
    await built(bridge, "rollback")
    async with reading(bridge, "item", STILL, template=TEMPLATE):
        bridge.daemon.start(kill_at=probe)
        await bridge.ready()
        await lose_both(bridge)
        if probe:
            assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
            bridge.daemon.start()
        await eventually(lambda: numbers(bridge) == [3, 3], deadline_s=90.0)
        await at_rest(bridge)
    for found in (await standing(bridge)).values():
        assert found.shown == found.live
    await bridge.settled()
    await bridge.ends_exact()


async def lose_both(bridge: Bridge) -> None:
    """Each sink no longer says what it said; nothing that readers see is missing."""
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        index = f"{bridge.prefix}item--g2"
        found = (await client.get(f"/{index}/_alias")).json()[index]["aliases"]
        (written,) = found.keys() - {f"{bridge.prefix}item"}
        (await client.delete(f"/{index}/_alias/{written}")).raise_for_status()
    with redis.Redis.from_url(bridge.redis) as client:
        assert client.delete("pgbridge:cache:mark")


def numbers(bridge: Bridge) -> list[int]:
    """Of the live generations."""
    query = (
        "select array_agg(number order by sink) from bridge.generation"
        " where state = 'live'"
    )
    return list(bridge.one(query) or ())


async def paused(bridge: Bridge) -> None:
    query = "select paused from bridge.sink where name = 'cache'"
    await eventually(lambda: bridge.one(query))
