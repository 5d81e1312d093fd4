"""Edits of where and how a view is kept, while applications read and write it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import pairwise
from typing import NamedTuple

import pytest
import redis

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.readers import KEY, reading, reading_keys
from tests.scenario.test_edits import ITEM, rows
from tests.scenario.test_life import NEW, OLD, QUIET, STILL, pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

AS_TEXT = 'mappings = { n = { type = "long" } }'
AS_KEYWORD = 'mappings = { n = { type = "keyword" } }'
MORE = 'mappings = { n = { type = "keyword", fields = { at = { type = "long" } } } }'


class Edit(NamedTuple):
    """The file after an edit, and the generation that each target then has."""

    query: str
    mappings: str
    template: str
    search: int
    cache: int


EDITS = (
    Edit(OLD, AS_TEXT, "a:{id}", 1, 1),
    Edit(OLD, AS_TEXT, "b:{id}", 1, 2),
    Edit(OLD, AS_KEYWORD, "b:{id}", 2, 2),
    Edit(OLD, AS_KEYWORD, "a:{id}", 2, 3),
    Edit(OLD, MORE, "c:{generation}:{id}", 2, 4),
    Edit(NEW, MORE, "c:{generation}:{id}", 3, 5),
    Edit(NEW, AS_TEXT, "b:{id}", 4, 6),
    Edit(OLD, AS_TEXT, "b:{id}", 5, 7),
)
"""A prefix to and fro, a mapping beside and in place, a query beside and in place."""
RENAMED = EDITS[-1]._replace(search=6, cache=8)


def configure(bridge: Bridge, edit: Edit) -> None:
    options = {"item/search": edit.mappings, "item/cache": f'key = "{edit.template}"'}
    bridge.configure({"item": edit.query}, options=options)


async def taken_up(bridge: Bridge, edit: Edit, view: str = "item") -> None:
    """Wait until readers see what the file says."""

    async def live() -> bool:
        bridge.daemon.must_run()
        targets = (await bridge.daemon.status()).get("targets") or []
        found = {
            (t["view"], t["sink"]): (t["generation"], t["building"]) for t in targets
        }
        wanted = {
            (view, "search"): (edit.search, None),
            (view, "cache"): (edit.cache, None),
        }
        return found == wanted

    await eventually(live, what=str(edit))


def written(bridge: Bridge) -> int:
    """What the readers' row says now."""
    return int(bridge.one("select n from item where id = %s", KEY))


@pytest.mark.slow
async def test_no_edit_shows_a_reader_less_than_before(
    bridge: Bridge, seed: int
) -> None:
    """Who reads by the alias, by the key of before, or by the next one, is never shown
    nothing, half of it, or the past. The key of before is current until it is dropped,
    and what an edit does not name is left alone."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    first = EDITS[0]
    configure(bridge, first)
    bridge.daemon.start()
    await taken_up(bridge, first)
    traffic = Traffic(bridge.dsn, seed, writers=4)
    async with reading(bridge, "item", STILL), AsyncExitStack() as stack:
        keys = reading_keys(bridge, "item", first.template)
        by_key = await stack.enter_async_context(keys)
        for before, edit in pairwise(EDITS):
            readers = [by_key]
            if edit.template != before.template:
                if "{generation}" in before.template:
                    readers.remove(by_key)  # whose number is of another template then
                    by_key.stopping.set()
                keys = reading_keys(bridge, "item", edit.template)
                readers.append(await stack.enter_async_context(keys))
            configure(bridge, edit)
            await taken_up(bridge, edit)
            now = written(bridge)
            for each in readers:
                await eventually(lambda r=each, n=now: r.last("cache") >= n)  # type: ignore[misc]
            if by_key is not readers[-1]:
                by_key.stopping.set()  # the next edit drops what it reads
                by_key = readers[-1]
        # Its view gets another name, and the target keeps its own.
        file = bridge.daemon.config
        file.write_text(file.read_text().replace("views.item", "views.thing"))
        await taken_up(bridge, RENAMED, "thing")
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_what_was_rolled_back_from_is_built_again_in_its_place(
    bridge: Bridge,
) -> None:
    """Readers of both keys see no gap, though one generation takes another's keys."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    first, second = EDITS[:2]
    configure(bridge, first)
    bridge.daemon.start()
    await taken_up(bridge, first)
    configure(bridge, second)
    await taken_up(bridge, second)
    async with (
        reading(bridge, "item", STILL),
        reading_keys(bridge, "item", first.template) as one,
        reading_keys(bridge, "item", second.template) as two,
    ):
        for words, live in ((["rollback"], 1), (["backfill", "--rebuild"], 3)):
            command = [words[0], "item", *words[1:], "--target", "cache"]
            code, told = await pgbridge(bridge, *command)
            assert code == 0, told
            await taken_up(bridge, second._replace(cache=live))
            now = written(bridge)
            for each in (one, two):
                await eventually(lambda r=each, n=now: r.last("cache") >= n)  # type: ignore[misc]
    await bridge.settled()
    await bridge.ends_exact()


async def test_the_keys_of_another_target_are_not_taken(bridge: Bridge) -> None:
    """A view gets another name and keeps its keys: it says so and waits, and nothing of
    the old one goes before it is dropped."""
    rows(bridge)
    key = 'key = "p:{id}"'
    bridge.configure({"item": ITEM, "other": ITEM}, options={"item/cache": key})
    bridge.daemon.start()
    await bridge.ready()
    bridge.configure({"thing": ITEM, "other": ITEM}, options={"thing/cache": key})

    async def waits() -> bool:
        bridge.daemon.must_run()
        targets = (await bridge.daemon.status()).get("targets") or []
        said = f"the keys p:{{}} are those of target {bridge.prefix}item"
        return any(
            t["view"] == "thing" and t["sink"] == "cache" and said in t["reason"]
            for t in targets
        )

    await eventually(waits)
    bridge.execute("update item set n = 700 where id = 7")
    await eventually(lambda: (bridge.value("other", "7") or {}).get("n") == 700)
    assert {s["state"] for s in (await bridge.daemon.status())["sinks"]} == {"ok"}
    with redis.Redis.from_url(bridge.redis) as client:
        assert len(list(client.scan_iter("p:*", count=1000))) == 60
        code, told = await pgbridge(bridge, "apply", "--prune")
        assert code == 0, told
        assert list(client.scan_iter("p:*", count=1000)) == []
        assert (await pgbridge(bridge, "resume", "cache"))[0] == 0
        await bridge.ready()
        assert len(list(client.scan_iter("p:*", count=1000))) == 60
    await bridge.ends_exact()


async def test_a_sink_that_is_renamed_is_another_one(bridge: Bridge) -> None:
    """What was built under the old name is in the way of the new one until it is
    dropped: what to do is told, and does it."""
    bridge.execute(*SCHEMA.split(";"), QUIET)
    bridge.configure({"item": OLD})
    bridge.daemon.start()
    await bridge.ready()
    file = bridge.daemon.config
    fresh = file.with_suffix(".new")
    text = file.read_text()
    for old, new in (("cache", "fast"), ("search", "find")):
        text = text.replace(f"sinks.{old}]", f"sinks.{new}]")
        text = text.replace(f'"{old}"', f'"{new}"')
    fresh.write_text(text)
    fresh.replace(file)

    async def halted() -> bool:
        targets = (await bridge.daemon.status()).get("targets") or []
        reasons = [t["reason"] for t in targets if t["sink"] == "fast"]
        return any("`pgbridge apply --prune`" in reason for reason in reasons)

    await eventually(halted)
    for command in ("apply --prune", "resume fast"):
        code, told = await pgbridge(bridge, *command.split())
        assert code == 0, told
    await bridge.ready()
    await bridge.settled()
    await bridge.ends_exact()
    code, told = await pgbridge(bridge, "drop", "--targets", "--yes")
    assert code == 0, told
    with redis.Redis.from_url(bridge.redis) as client:
        assert client.keys("*") == []


SECOND = """
[[views.item.targets]]
sink = "search"
name = "{0}second"
{1}

[[views.item.targets]]
sink = "cache"
name = "{0}second"
key = "second:{{id}}"
encoding = "hash"
"""


@pytest.mark.slow
async def test_two_targets_of_a_view_in_one_sink(bridge: Bridge, seed: int) -> None:
    """Each has a life of its own: what is done with one leaves the other alone."""
    bridge.execute(*SCHEMA.split(";"), QUIET)

    def write(mappings: str = "") -> None:
        bridge.configure({"item": OLD})
        file = bridge.daemon.config
        text = file.read_text() + SECOND.format(bridge.prefix, mappings)
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").replace(file)

    async def live(**numbers: int) -> None:
        async def as_said() -> bool:
            bridge.daemon.must_run()
            targets = (await bridge.daemon.status()).get("targets") or []
            found = {
                f"{t['sink']}_{t['name'].removeprefix(bridge.prefix)}": t["generation"]
                for t in targets
                if t["building"] is None
            }
            return found == numbers

        await eventually(as_said, what=str(numbers))

    write()
    bridge.daemon.start()
    await live(search_item=1, cache_item=1, search_second=1, cache_second=1)
    traffic = Traffic(bridge.dsn, seed)
    async with reading(bridge, "item", STILL, template=f"{bridge.prefix}item:{{id}}"):
        name = f"search/{bridge.prefix}second"
        for command in ("backfill item --rebuild", "rollback item", "backfill item"):
            words = [*command.split(), "--target", name]
            code, told = await pgbridge(bridge, *words)
            assert code == 0, told
        await live(search_item=1, cache_item=1, search_second=1, cache_second=1)
        write(AS_KEYWORD)
        await live(search_item=1, cache_item=1, search_second=3, cache_second=1)
        code, told = await pgbridge(bridge, "backfill", "item", "--target", "cache")
        assert code == 0, told
        await bridge.daemon.kill()
        bridge.configure({"item": OLD})
        bridge.daemon.start()
        await live(search_item=1, cache_item=1)
        code, told = await pgbridge(bridge, "apply", "--prune")
        assert code == 0, told
    await traffic.stop()
    with redis.Redis.from_url(bridge.redis) as client:
        assert list(client.scan_iter("second:*", count=1000)) == []
    await bridge.settled()
    await bridge.ends_exact()
