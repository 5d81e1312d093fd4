"""kill -9 at every state of a generation's life, in every order with commands.

The one thing to know: whatever was asked for before and after the kill must come to
the end that it comes to without one: the same generations, seen by the same readers,
and every document equal to SQL.
"""

from __future__ import annotations

import itertools
import signal
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
import redis

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA
from tests.scenario.readers import reading, reading_keys
from tests.scenario.test_edits import ITEM, NAME_AS_TEXT, RAW, get, rows
from tests.scenario.test_life import NEW, OLD, QUIET, STILL, configure, pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

TEMPLATE = "item:{generation}:{id}"
NEWER = 'query = "select id, lower(name) as low, n from item"'
SLOW = "backfill_rate = 20"
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
EDITED = ("rollback", "once more", "undone")

CACHED = """
    select array_agg(number) from bridge.generation
    where sink = 'cache' and state = %s
"""


class Case(NamedTuple):
    """What is asked for, where the daemon dies of it, and what is asked for then."""

    act: str
    probe: str
    then: str = ""
    after: int = 0
    """How many targets have passed the probe before."""

    def __str__(self) -> str:
        return "-".join(str(part) for part in self if part)


STEADY = (
    Case("rebuild", "generation.published"),
    Case("rebuild", "generation.published", "edit"),
    Case("rebuild", "generation.built", "cancel"),
    Case("rollback", "generation.published"),
    Case("edit", "generation.recorded", "rollback"),
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
        *product(["cancel"], ["generation.abandoned", "generation.dropped"]),
        *product(["pause", "resume"], COMMAND),
        *product(["sweep"], BUILDING[1:3] + COMMAND),
    ]
    return [
        pytest.param(
            case, id=str(case), marks=() if case in STEADY else pytest.mark.slow
        )
        for case in itertools.starmap(Case, found)
    ]


class Stood(NamedTuple):
    """How one target was when the daemon had died, and before anything else."""

    live: int
    previous: int | None
    shown: int
    """What readers see: another one than the live one where that was cut off."""
    newest: int = 0
    """The last that was begun."""


def expected(case: Case, stood: Stood) -> tuple[int, int | None]:
    """The live and the previous generation at the end, as without the kill."""
    switched = stood.shown != stood.live
    if case.act == "rebuild":
        done = 3 in (stood.shown, stood.live)
        match case.then:
            case "cancel":
                return (3, 2) if done else (2, 1)
            case "rollback" if done and not switched:
                return 2, 3
            case "rollback":  # to what is dropped by then, or before the rebuild ends
                return (3, 2) if done else (3, 1)
            case "edit":  # a rebuild not begun has nothing of its own to build then
                begun = case.probe != "command.begun"
                return (4, 3) if done else (4 if begun else 3, 2)
        return 3, 2
    if case.act == "edit" and case.then == "once more":
        return stood.newest + 1, stood.shown
    if case.act == "edit" and case.then == "undone":
        return (3, 2) if stood.shown == 2 else (1, None)
    if case.act == "edit":
        recorded = stood.live == 2
        return (1, 2) if case.then == "rollback" and recorded else (2, 1)
    if case.act == "rollback":
        return (3, 1) if case.then else (1, 2)
    return 1, None


def ask(bridge: Bridge, what: str) -> None:
    """Ask for it; nothing where there is nothing to roll back to."""
    match what:
        case "rebuild":
            bridge.execute("select bridge.backfill('item', rebuild => true)")
        case "sweep":
            bridge.execute("select bridge.backfill('item')")
        case "rollback":
            with suppress(psycopg.errors.ObjectNotInPrerequisiteState):
                bridge.execute("select bridge.rollback('item')")
        case "pause" | "resume":
            bridge.execute(f"select bridge.{what}('cache')")
        case "cancel":
            bridge.execute(
                "select bridge.cancel(id) from bridge.command"
                " where kind = 'backfill' order by id desc limit 1"
            )
        case "edit":
            configure(bridge, NEW, TEMPLATE)
        case "undone":
            configure(bridge, OLD, TEMPLATE)
        case "once more":
            configure(bridge, NEWER, TEMPLATE)
        case _:
            raise AssertionError(what)


async def standing(bridge: Bridge) -> dict[str, Stood]:
    """What is recorded of each target, and what its readers see."""
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        alias = (await client.get(f"/_alias/{bridge.prefix}item")).json()
    with redis.Redis.from_url(bridge.redis, decode_responses=True) as client:
        live = client.get(f"pgbridge:{bridge.prefix}item:live")
    shown = {"search": int(next(iter(alias)).rpartition("--g")[2]), "cache": int(live)}
    recorded = (
        "select min(number) from bridge.generation where sink = %s and state = %s"
    )
    newest = "select next_generation - 1 from bridge.target where sink = %s"
    return {
        sink: Stood(
            bridge.one(recorded, sink, "live"),
            bridge.one(recorded, sink, "previous"),
            number,
            bridge.one(newest, sink),
        )
        for sink, number in shown.items()
    }


async def at_rest(bridge: Bridge) -> None:
    """Wait until nothing is asked for any more, and nothing is built or dropped."""
    query = """
        select string_agg(what, ', ') from (
            select concat_ws(' ', kind, id, state) as what
            from bridge.command where state in ('pending', 'running')
            union all
            select concat_ws(' ', sink, number, state)
            from bridge.generation where state in ('building', 'dropped')
        ) left_over
    """

    async def still() -> bool:
        bridge.daemon.must_run()
        status = await bridge.daemon.status()
        left = bridge.one(query)
        assert left is None, left
        return bool(status.get("targets"))

    await eventually(still, deadline_s=120.0, every_s=0.1)


async def built(bridge: Bridge, act: str) -> None:
    """What is there before the act, by a daemon that nobody kills."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    configure(bridge, OLD, TEMPLATE)
    bridge.daemon.start()
    await bridge.ready()
    if act in ("rollback", "rebuild"):
        ask(bridge, "rebuild")
        await at_rest(bridge)
    if act == "resume":
        ask(bridge, "pause")
        await at_rest(bridge)
    assert await bridge.daemon.stop() == 0
    if act == "cancel":
        configure(bridge, OLD, TEMPLATE, SLOW)


async def dies(bridge: Bridge, case: Case) -> None:
    """The act, and the daemon's death of it."""
    bridge.daemon.start(kill_at=case.probe, after=case.after)
    if case.act == "cancel":
        ask(bridge, "rebuild")
        building = "select count(*) from bridge.backfill where command is not null"
        await eventually(lambda: bridge.one(building) == 2)
    elif case.act == "edit":
        await bridge.ready()
    ask(bridge, case.act)
    assert await bridge.daemon.ended(90.0) == -signal.SIGKILL


@pytest.mark.parametrize("case", cases())
async def test_killed_in_the_life_of_a_generation(bridge: Bridge, case: Case) -> None:
    """It ends as without the kill, and no reader was ever shown less than before."""
    await built(bridge, case.act)
    async with reading(bridge, "item", STILL, template=TEMPLATE):
        await dies(bridge, case)
        stood = await standing(bridge)
        ask(bridge, case.then) if case.then else None
        bridge.daemon.start()
        if case.then == "pause":
            await paused(bridge)
            ask(bridge, "resume")
        await at_rest(bridge)
        if case.act == "pause":
            await paused(bridge)
            ask(bridge, "resume")
            await at_rest(bridge)
    ended = await standing(bridge)
    for sink, found in ended.items():
        assert found[:2] == expected(case, stood[sink]), (sink, stood[sink])
        assert found.shown == found.live
    assert outcomes(bridge, "backfill") <= (
        {"done", "cancelled"} if "cancel" in case else {"done"}
    )
    assert outcomes(bridge, "pause", "resume") <= {"done"}
    former = (case.act, case.then) == ("edit", "rollback")
    await bridge.settled(former=former)
    await bridge.ends_exact(former=former)


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(each, marks=[] if each == SHOWN[0] else [pytest.mark.slow])
        for each in SWITCHED + COMMAND
    ],
)
async def test_what_is_pruned_while_it_is_rolled_back(
    bridge: Bridge, probe: str
) -> None:
    """A target is taken out, and dropped with all that it had, before the daemon is
    back: nothing of it is left, and the other one is rolled back."""
    await built(bridge, "rollback")
    bridge.daemon.start(kill_at=probe)
    ask(bridge, "rollback")
    assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
    bridge.configure({"item": OLD}, only={"item": ["search"]})
    code, told = await pgbridge(bridge, "apply", "--prune")
    assert code == 0, told
    with redis.Redis.from_url(bridge.redis, decode_responses=True) as client:
        assert set(client.keys("*")) <= {"pgbridge:owner", "pgbridge:cache:mark"}
    bridge.daemon.start()
    await at_rest(bridge)
    states = "select json_object_agg(number, state) from bridge.generation"
    assert bridge.one(states) == {"1": "live", "2": "previous"}
    assert outcomes(bridge, "rollback") <= {"done", "failed"}
    await bridge.settled()
    await bridge.ends_exact()


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
    state = "select state from bridge.{} where {} order by id desc limit 1"
    command = state.format("command", "kind = 'backfill'")
    await eventually(lambda: bridge.one(command) == "cancelled")
    backfill = state.format("backfill", "kind = 'sweep'")
    await eventually(lambda: bridge.one(backfill) == "cancelled")
    await bridge.daemon.kill()
    bridge.daemon.start()
    await at_rest(bridge)
    assert (bridge.one(command), bridge.one(backfill)) == ("cancelled", "cancelled")
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


def outcomes(bridge: Bridge, *kinds: str) -> set[str]:
    """How the commands of these kinds have ended."""
    query = "select array_agg(state) from bridge.command where kind = any(%s)"
    return set(bridge.one(query, list(kinds)) or ())
