"""What a daemon dies of in the life of a generation, and how things stand then.

    built ──▶ the act ──▶ killed at a probe ──▶ stood ──▶ what is asked then ──▶ at rest

The one thing to know: `expected` tells the end from where readers stood at the kill,
as it is without one.
"""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import psycopg
import redis

from tests.fixtures.waiting import eventually
from tests.scenario import harness
from tests.scenario.harness import SCHEMA
from tests.scenario.test_life import NEW, OLD, QUIET, configure, pgbridge
from tests.scenario.test_schema import FILLED, PARTED
from tests.scenario.world import Bridge

TEMPLATE = "item:{generation}:{id}"
NEWER = 'query = "select id, lower(name) as low, n from item"'
FAILS = 'query = "select id, 1 / (id + 150) as part, n from item"'
"""One row has no document by it: what is built is not shown, unless by force."""
SLOW = "backfill_rate = 20"
LONG = "insert into item (id, name, n) values (-900, repeat('x', 33000), 0)"
"""Longer than a term may be."""
FAULTY = (-1, -2)
"""Quiet rows whose documents are harmed behind the bridge's back."""


class Case(NamedTuple):
    """What is asked for, where the daemon dies of it, and what is asked for then."""

    act: str
    probe: str
    then: str = ""
    after: int = 0
    """How many targets have passed the probe before."""

    def __str__(self) -> str:
        return "-".join(str(part) for part in self if part).replace(" ", "-")

    @property
    def cancels(self) -> bool:
        """Whether something is to be given up."""
        return self.act.startswith("cancel") or self.then == "cancel"


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
    match case.act:
        case "rebuild":
            return _rebuilt(case, stood)
        case "edit":
            return _edited(case, stood)
        case "rollback":
            return (3, 1) if case.then else (1, 2)
        case "forced":
            match case.then:
                case "rollback" if stood.live == 2:  # else there is none to go back to
                    return 1, 2
                case "edit":  # what was not shown yet is given up for it
                    return (3, 2) if 2 in (stood.live, stood.shown) else (3, 1)
            return 2, 1
        case "altered":
            return 2, 1
    return (2, 1) if case.then == "rebuild" else (1, None)


def _rebuilt(case: Case, stood: Stood) -> tuple[int, int | None]:
    done, switched = 3 in (stood.shown, stood.live), stood.shown != stood.live
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


def _edited(case: Case, stood: Stood) -> tuple[int, int | None]:
    match case.then:
        case "once more":
            return stood.newest + 1, stood.shown
        case "undone":
            return (3, 2) if stood.shown == 2 else (1, None)
        case "rollback" if stood.live == 2:
            return 1, 2
    return 2, 1


def ask(bridge: Bridge, what: str) -> None:
    """Ask for it; nothing where there is nothing to roll back to."""
    match what:
        case "rebuild":
            bridge.execute("select bridge.backfill('item', rebuild => true)")
        case "sweep":
            bridge.execute("select bridge.backfill('item')")
        case "where":
            bridge.execute("select bridge.backfill('item', condition => 'n >= 0')")
        case "rollback":
            with suppress(psycopg.errors.ObjectNotInPrerequisiteState):
                bridge.execute("select bridge.rollback('item')")
        case "forced":
            bridge.execute("select bridge.promote('item', force => true)")
        case "retry":
            bridge.execute("select bridge.retry('item')")
        case "pause" | "resume":
            bridge.execute(f"select bridge.{what}('cache')")
        case "cancel" | "cancel sweep" | "cancel where":
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
        case "altered":
            bridge.execute("alter table item alter column n type bigint")
        case "attached":
            bridge.execute(*FILLED)
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
        "select min(number) from bridge.generation where sink = %s and name = %s"
        " and state = %s"
    )
    newest = (
        "select next_generation - 1 from bridge.target where sink = %s and name = %s"
    )
    name = f"{bridge.prefix}item"
    return {
        sink: Stood(
            bridge.one(recorded, sink, name, "live"),
            bridge.one(recorded, sink, name, "previous"),
            number,
            bridge.one(newest, sink, name),
        )
        for sink, number in shown.items()
    }


async def at_rest(bridge: Bridge, *, halted: bool = False) -> None:
    """Wait until nothing is asked for any more, and nothing is built or dropped; or
    `halted`: until every target is."""
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
        targets = (await bridge.daemon.status()).get("targets") or []
        if halted:
            return bool(targets) and {t["state"] for t in targets} == {"halted"}
        left = bridge.one(query)
        assert left is None, left
        return bool(targets)

    await eventually(still, deadline_s=120.0, every_s=0.1)


async def built(bridge: Bridge, act: str) -> None:
    """What is there before the act, by a daemon that nobody kills."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    configure(bridge, OLD, TEMPLATE)
    if act in ("altered", "attached"):
        await _told_of_alterations(bridge)
    if act == "retry":
        bridge.execute(LONG)
        _with_terms(bridge)
    bridge.daemon.start()
    await bridge.ready()
    if act in ("rollback", "rebuild"):
        ask(bridge, "rebuild")
        await at_rest(bridge)
    if act == "resume":
        ask(bridge, "pause")
        await at_rest(bridge)
    if act == "forced":
        configure(bridge, FAILS, TEMPLATE)
        await at_rest(bridge, halted=True)
    assert await bridge.daemon.stop() == 0
    if act.startswith("cancel"):
        configure(bridge, OLD, TEMPLATE, SLOW)


async def _told_of_alterations(bridge: Bridge) -> None:
    """Event triggers are there, and a partitioned table."""
    bridge.execute(*PARTED.split(";"))
    bridge.configure(
        {"item": OLD, "sale": 'table = "sale"'},
        options={"item/cache": f'key = "{TEMPLATE}"'},
        source=f'admin_dsn = "{bridge.dsn}"',
    )
    code, told = await pgbridge(bridge, "apply")
    assert code == 0, told
    assert bridge.one("select count(*) from pg_event_trigger") == 2


def _with_terms(bridge: Bridge) -> None:
    """The name is one term: one of them is too long for it."""
    options = {
        "item/cache": f'key = "{TEMPLATE}"',
        "item/search": 'mappings = { name = { type = "keyword" } }',
    }
    bridge.configure({"item": OLD}, options=options)


async def dies(bridge: Bridge, case: Case) -> asyncio.Task[None] | None:
    """The act, and the daemon's death of it; what still waits to be told of its end."""
    asking = None
    bridge.daemon.start(kill_at=case.probe, after=case.after)
    match case.act:
        case "cancel" | "cancel sweep" | "cancel where":
            ask(bridge, case.act.removeprefix("cancel ").replace("cancel", "rebuild"))
            building = "select count(*) from bridge.backfill where command is not null"
            await eventually(lambda: bridge.one(building) == 2)
        case "edit" | "altered" | "attached":
            await bridge.ready()
        case "forced":
            await at_rest(bridge, halted=True)
        case "retry":
            await eventually(lambda: letters(bridge) == ["-900"])
        case "repair":
            await bridge.ready()
            await harm(bridge)
    if case.act == "repair":
        asking = asyncio.create_task(_repaired(bridge))
    else:
        ask(bridge, case.act)
    assert await bridge.daemon.ended(90.0) == -signal.SIGKILL
    return asking


def letters(bridge: Bridge) -> list[str]:
    """The keys of all dead letters."""
    query = "select array_agg(key order by key) from bridge.dead_letter"
    return list(bridge.one(query) or ())


async def harm(bridge: Bridge) -> None:
    """Of two quiet rows, one document is gone from each sink and one is wrong."""
    gone, wrong = FAULTY
    index = f"/{bridge.prefix}item--g1/_doc"
    async with httpx.AsyncClient(base_url=bridge.es, trust_env=False) as client:
        for key in FAULTY:
            found = (await client.get(f"{index}/{key}")).json()
            at = {"version_type": "external_gte", "version": str(found["_version"])}
            if key == gone:
                answer = await client.delete(f"{index}/{key}", params=at)
            else:
                body = found["_source"] | {"name": "planted"}
                answer = await client.put(f"{index}/{key}", params=at, json=body)
            answer.raise_for_status()
    with redis.Redis.from_url(bridge.redis) as client:
        assert client.delete(f"item:1:{gone}")
        assert client.set(f"item:1:{wrong}", json.dumps({"id": wrong, "n": -1}))


async def _repaired(bridge: Bridge) -> None:
    """`verify --repair` comes to its end, whoever dies meanwhile."""
    code, out, err = await asyncio.to_thread(
        harness.pgbridge, bridge.daemon.config, "verify", "item", "--repair", "--json"
    )
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert [target["repaired"] for target in found["targets"]] == [2, 2]


def outcomes(bridge: Bridge, *kinds: str) -> set[str]:
    """How the commands of these kinds have ended."""
    query = "select array_agg(state) from bridge.command where kind = any(%s)"
    return set(bridge.one(query, list(kinds)) or ())
