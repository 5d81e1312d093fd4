"""Elasticsearch's bad days: seen, waited out or mended, without an operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from bridge.dev import ElasticsearchServer
from tests.fixtures.http_faults import Answer, MakeHttpFaults, Request
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import SCHEMA
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

VIEWS = {
    "item": 'table = "item"',
    "small": 'query = "select id, name as label, n from item where n % 2 = 0"',
}
SEARCH = ("search",)
CHANGE = "update item set name = name || ' again', n = n + 1 where id % 3 = 0"
REMOVE = "delete from item where id % 7 = 0"
ROWS = (
    "insert into item (id, name, n) select g, 'again', g from generate_series(1, 500) g"
    " on conflict do nothing"
)
"""Those that were removed, so that they can be once more."""


@pytest.fixture
def es(es_url: str) -> Iterator[httpx.Client]:
    """The shared node."""
    with httpx.Client(base_url=es_url, trust_env=False, timeout=60) as client:
        yield client


async def started(bridge: Bridge) -> Bridge:
    """With rows, streaming into Elasticsearch alone."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, sinks=SEARCH)
    bridge.daemon.start()
    await bridge.ready()
    await bridge.settled()
    return bridge


def ask(es: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    answer = es.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()


async def sink_state(bridge: Bridge) -> tuple[str, str]:
    status = await bridge.daemon.status()
    (sink,) = status["sinks"]
    return sink["state"], sink["reason"] or ""


async def in_state(bridge: Bridge, state: str, *said: str) -> None:
    """Wait until the sink is in that state, for a reason that says these words."""

    async def there() -> bool:
        found, reason = await sink_state(bridge)
        return found == state and all(each in reason for each in said)

    await eventually(there)


async def target(bridge: Bridge, view: str) -> dict[str, Any]:
    status = await bridge.daemon.status()
    return next(dict(t) for t in status["targets"] if t["view"] == view)


async def mended(bridge: Bridge) -> None:
    """Equal to SQL, with what is committed from now on too."""
    await bridge.settled()
    bridge.execute("insert into item (id, name, n) values (-9, 'after', 2)")

    async def arrived() -> bool:
        return await bridge.document("item", "-9") is not None

    await eventually(arrived)
    await bridge.settled()
    await bridge.ends_exact()


BLOCKS = ("read_only", "read_only_allow_delete", "write")


async def test_an_index_is_blocked_for_a_while(
    bridge: Bridge, es: httpx.Client
) -> None:
    """By hand, or by the server itself when its disk is full: what is committed
    meanwhile waits, none of it is a dead letter, and the state names the block."""
    await started(bridge)
    settings = f"/{bridge.prefix}item--g1/_settings"
    for block in BLOCKS:
        ask(es, "PUT", settings, {f"index.blocks.{block}": True})
        bridge.execute(CHANGE, REMOVE)
        await in_state(bridge, "down", "blocked")
        ask(es, "PUT", settings, {f"index.blocks.{block}": None})
        await in_state(bridge, "ok")
        assert (await target(bridge, "item"))["dead_letters"] == 0, block
        await bridge.settled()
        bridge.execute(ROWS)
    await mended(bridge)
    assert (await bridge.daemon.metric("pgbridge_dead_letters")) == 0


async def test_an_index_is_closed(bridge: Bridge, es: httpx.Client) -> None:
    """It is opened again; nothing is built again for it."""
    await started(bridge)
    ask(es, "POST", f"/{bridge.prefix}item--g1/_close")
    bridge.execute(CHANGE, REMOVE)
    await bridge.settled()
    assert (await target(bridge, "item"))["generation"] == 1
    await mended(bridge)


async def test_an_index_at_rest_is_closed(bridge: Bridge, es: httpx.Client) -> None:
    """Nothing is written to it, and its readers are refused: the audit sees it."""
    await started(bridge)
    ask(es, "POST", f"/{bridge.prefix}item--g1/_close")
    await bridge.settled()
    await mended(bridge)


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(True, marks=pytest.mark.slow, id="running"),
        pytest.param(False, id="stopped"),
    ],
)
async def test_an_index_comes_back_from_an_old_snapshot(
    database: str,
    make_bridge: MakeBridge,
    private_elasticsearch: ElasticsearchServer,
    running: bool,
) -> None:
    """Documents changed and removed since are old or there again: none stays so."""
    bridge = await started(make_bridge(database, es=private_elasticsearch.url))
    where = str(private_elasticsearch.settings["path.repo"])
    index, snapshot = (
        f"{bridge.prefix}item--g1",
        f"/_snapshot/kept/of-{running}".lower(),
    )
    with httpx.Client(base_url=bridge.es, trust_env=False, timeout=90) as es:
        repository = {"type": "fs", "settings": {"location": where}}
        ask(es, "PUT", "/_snapshot/kept", repository)
        whole = "?wait_for_completion=true"
        ask(es, "PUT", f"{snapshot}{whole}", {"indices": index})
        bridge.execute(CHANGE, REMOVE)
        await bridge.settled()
        if not running:
            await bridge.daemon.stop()
        ask(es, "DELETE", f"/{index}")
        restore = {"indices": index, "include_global_state": False}
        ask(es, "POST", f"{snapshot}/_restore{whole}", restore)
        if not running:
            bridge.daemon.start()
            await bridge.ready()
        await mended(bridge)


async def test_an_index_is_restored_in_place(
    database: str,
    make_bridge: MakeBridge,
    private_elasticsearch: ElasticsearchServer,
) -> None:
    """Its identity stays, its shards begin a new history."""
    bridge = await started(make_bridge(database, es=private_elasticsearch.url))
    where = str(private_elasticsearch.settings["path.repo"])
    index, snapshot = f"{bridge.prefix}item--g1", "/_snapshot/kept/in-place"
    with httpx.Client(base_url=bridge.es, trust_env=False, timeout=90) as es:
        repository = {"type": "fs", "settings": {"location": where}}
        ask(es, "PUT", "/_snapshot/kept", repository)
        whole = "?wait_for_completion=true"
        ask(es, "PUT", f"{snapshot}{whole}", {"indices": index})
        bridge.execute(CHANGE, REMOVE)
        await bridge.settled()
        ask(es, "POST", f"/{index}/_close")
        restore = {"indices": index, "include_global_state": False}
        ask(es, "POST", f"{snapshot}/_restore{whole}", restore)
        await mended(bridge)


BY_HAND = {
    "a field more": {"properties": {"by_hand": {"type": "keyword"}}},
    "not strict": {"dynamic": "true"},
    "a field otherwise": {
        "properties": {
            "name": {
                "type": "text",
                "fields": {"keyword": {"type": "keyword", "ignore_above": 3}},
            }
        }
    },
    "identity gone": {"_meta": {"note": "mine"}},
}


async def test_a_mapping_is_changed_by_hand(bridge: Bridge, es: httpx.Client) -> None:
    """The mapping is again what the configuration says."""
    await started(bridge)
    path = f"/{bridge.prefix}item/_mapping"

    def mapping() -> dict[str, Any]:
        (found,) = ask(es, "GET", path).values()
        found["mappings"].pop("_meta", None)
        return dict(found)

    before = mapping()
    for by_hand, change in BY_HAND.items():
        ask(es, "PUT", path, change)
        bridge.execute(CHANGE, REMOVE)
        await eventually(lambda: mapping() == before, what=by_hand)
        await bridge.ready()
        await bridge.settled()
        bridge.execute(ROWS)
    await mended(bridge)


async def test_the_readers_alias_is_taken_away(
    bridge: Bridge, es: httpx.Client
) -> None:
    await started(bridge)
    alias, index = f"{bridge.prefix}item", f"{bridge.prefix}item--g1"
    ask(es, "DELETE", f"/{index}/_alias/{alias}")
    bridge.execute(CHANGE)
    await eventually(lambda: aliased(es, alias) == {index})
    await mended(bridge)


def aliased(es: httpx.Client, alias: str) -> set[str]:
    answer = es.get(f"/_alias/{alias}")
    return set(answer.json()) if answer.status_code == httpx.codes.OK else set()


async def test_the_readers_alias_points_elsewhere(
    bridge: Bridge, es: httpx.Client
) -> None:
    """At an index that is not the bridge's: said, never overwritten, and put right as
    soon as it is out of the way. The other target goes on."""
    await started(bridge)
    alias, index = f"{bridge.prefix}item", f"{bridge.prefix}item--g1"
    other = f"{bridge.prefix}somebodys"
    ask(es, "PUT", f"/{other}")
    moved = [
        {"remove": {"index": index, "alias": alias}},
        {"add": {"index": other, "alias": alias}},
    ]
    ask(es, "POST", "/_aliases", {"actions": moved})

    async def said() -> bool:
        found = await target(bridge, "item")
        return found["state"] == "halted" and other in (found["reason"] or "")

    await eventually(said)
    assert aliased(es, alias) == {other}
    bridge.execute(CHANGE, REMOVE)
    await eventually(lambda: same(bridge, es, "small"))
    ask(es, "DELETE", f"/{other}")
    await eventually(lambda: aliased(es, alias) == {index})
    await bridge.ready()
    await mended(bridge)


def same(bridge: Bridge, es: httpx.Client, view: str) -> bool:
    """Whether the index has as many documents as the view."""
    alias = f"{bridge.prefix}{view}"
    es.post(f"/{alias}/_refresh").raise_for_status()
    count = int(ask(es, "GET", f"/{alias}/_count")["count"])
    return bool(
        count == bridge.one("select count(*) from item where n %% 2 = 0") and count
    )


async def test_the_readers_alias_points_at_another_generation(
    bridge: Bridge, es: httpx.Client
) -> None:
    """Somebody rolled back behind the bridge's back: the live one is shown again."""
    await started(bridge)
    bridge.execute("select bridge.backfill('item', rebuild => true)")

    async def second() -> bool:
        return (await target(bridge, "item"))["generation"] == 2

    await eventually(second)
    alias = f"{bridge.prefix}item"
    moved = [
        {"remove": {"index": f"{alias}--g2", "alias": alias}},
        {"add": {"index": f"{alias}--g1", "alias": alias}},
    ]
    ask(es, "POST", "/_aliases", {"actions": moved})
    await eventually(lambda: aliased(es, alias) == {f"{alias}--g2"})
    await mended(bridge)


STORM = Answer(
    429, {"error": {"type": "es_rejected_execution_exception", "reason": "full"}}
)


def items_rejected(request: Request) -> Answer:
    """Each item of a bulk for itself."""
    error = {"type": "es_rejected_execution_exception", "reason": "full"}
    items = []
    lines = iter(request.body.splitlines())
    for line in lines:
        (verb,) = orjson.loads(line)
        items.append({verb: {"status": 429, "error": error}})
        if verb == "index":
            next(lines)
    return Answer(200, {"errors": True, "items": items})


async def test_a_storm_of_429(
    database: str, make_bridge: MakeBridge, http_faults: MakeHttpFaults, es_url: str
) -> None:
    """Nothing is refused for good, and nothing is lost when it is over."""
    search = await http_faults(es_url)
    bridge = await started(make_bridge(database, es=search.url))
    kind, turn = "", False

    def judge(request: Request) -> Answer | None:
        nonlocal turn
        if "/_bulk" not in request.path:
            return None
        turn = not turn
        if kind == "every second" and turn:
            return None
        return items_rejected(request) if kind == "items" else STORM

    for kind, few in (("requests", 4), ("items", 4), ("every second", 0)):
        search.judge = judge
        enough = search.answered + few
        bridge.execute(CHANGE, REMOVE)
        await eventually(lambda enough=enough: search.answered > enough, what=kind)
        if kind == "requests":
            await in_state(bridge, "down", "429")
        assert (await target(bridge, "item"))["dead_letters"] == 0, kind
        search.judge = lambda _: None
        await bridge.settled()
        bridge.execute(ROWS)
    await mended(bridge)


async def test_the_index_is_deleted_while_nobody_runs(
    bridge: Bridge, es: httpx.Client
) -> None:
    await started(bridge)
    await bridge.daemon.stop()
    for view in VIEWS:
        ask(es, "DELETE", f"/{bridge.prefix}{view}--g1")
    bridge.daemon.start()
    await mended(bridge)


@pytest.mark.parametrize(
    "probe",
    [pytest.param("backfill.chunk", marks=pytest.mark.slow), "generation.built"],
)
async def test_the_index_of_a_build_is_deleted(
    bridge: Bridge, es: httpx.Client, tmp_path: Path, probe: str
) -> None:
    """While it is filled, and while it waits to be seen: it is built once more, and the
    other targets of the sink go on."""
    hold = await held(bridge, tmp_path, probe)
    index = f"/{bridge.prefix}item--g2"
    ask(es, "DELETE", index)
    bridge.execute(CHANGE, REMOVE)
    (hold / "reached").unlink()
    await eventually(lambda: same(bridge, es, "small"))
    await eventually(lambda: aliased(es, index[1:].removesuffix("--g2")) == {index[1:]})
    await bridge.ready()
    await mended(bridge)


async def held(bridge: Bridge, tmp_path: Path, probe: str) -> Path:
    """A rebuild of `item` stands at a probe; the folder of what holds it."""
    hold = tmp_path / "hold"
    hold.mkdir()
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, sinks=SEARCH)
    bridge.daemon.start(hold=hold)
    await bridge.ready()
    await bridge.settled()
    (hold / "armed").write_text(probe)
    bridge.execute("select bridge.backfill('item', rebuild => true)")
    await eventually((hold / "reached").exists)
    return hold


async def test_an_index_made_by_hand_in_the_place_of_a_build_stays(
    bridge: Bridge, es: httpx.Client, tmp_path: Path
) -> None:
    """Said, never overwritten; what readers see goes on, and so do the others. The
    build does when it is out of the way."""
    hold = await held(bridge, tmp_path, "backfill.chunk")
    index = f"/{bridge.prefix}item--g2"
    ask(es, "DELETE", index)
    ask(es, "PUT", f"{index}/_doc/9", {"id": 9})
    bridge.execute(CHANGE, REMOVE)
    (hold / "reached").unlink()
    await target_halts(bridge, "item", index[1:])
    await eventually(lambda: same(bridge, es, "small"))
    bridge.execute("update item set n = -7 where id = 1")

    async def streamed() -> bool:
        found = await bridge.document("item", "1")
        return found is not None and found.source["n"] == -7

    await eventually(streamed)
    assert ask(es, "GET", f"{index}/_doc/9")["_source"] == {"id": 9}
    ask(es, "DELETE", index)
    bridge.execute("select bridge.resume('search')")
    await eventually(lambda: aliased(es, index[1:].removesuffix("--g2")) == {index[1:]})
    await bridge.ready()
    await mended(bridge)


async def target_halts(bridge: Bridge, view: str, *said: str) -> None:
    """Wait until the target is halted, for a reason that says these words."""

    async def halted() -> bool:
        targets = (await bridge.daemon.status()).get("targets") or []
        told = [t["reason"] or "" for t in targets if t["view"] == view]
        return any(all(each in reason for each in said) for reason in told)

    await eventually(halted, what=f"halted: {said}")


TAGGED = """query = '''
select id, name, n, (select json_agg(t.label order by t.id) from tag t
                      where t.item = i.id) as tags from item i'''"""


@pytest.mark.slow
async def test_the_index_of_a_view_that_waits_has_lost_something(
    bridge: Bridge, es: httpx.Client
) -> None:
    """Its edited query cannot be kept yet, and it is fed on by the one before: so it is
    while it can be read at all. The daemon goes on, and says what is wrong."""
    await started(bridge)
    index = f"/{bridge.prefix}item--g1"
    bridge.execute("create table tag (id bigint primary key, item bigint, label text)")
    bridge.configure({**VIEWS, "item": TAGGED}, sinks=SEARCH)
    await target_halts(bridge, "item", "replica identity")
    ask(es, "PUT", f"{index}/_mapping", BY_HAND["a field more"])
    await target_halts(
        bridge, "item", "mapping was changed by hand", "replica identity"
    )
    await bridge.daemon.stop()
    bridge.daemon.start()
    await target_halts(
        bridge, "item", "mapping was changed by hand", "replica identity"
    )
    bridge.execute("update item set n = -7 where id = 1")

    async def streamed() -> bool:
        found = await bridge.document("item", "1")
        return found is not None and found.source["n"] == -7

    await eventually(streamed)
    ask(es, "DELETE", index)
    dropped = "select count(*) = 0 from bridge.generation where name like '%%item'"
    await eventually(lambda: bridge.one(dropped))
    bridge.execute(CHANGE, REMOVE)
    await eventually(lambda: same(bridge, es, "small"))
    await bridge.daemon.stop()
    bridge.execute("alter table tag replica identity full")
    bridge.daemon.start()
    await bridge.ready()
    await mended(bridge)
