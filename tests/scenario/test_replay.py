"""The same log once more: the same documents, byte for byte.

The one thing to know: changes of one key in one batch are one write, and where batches
end is chance. So the version of the last write may differ, while what it writes, and
what is written twice at one version, may not.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.fixtures.http_faults import HttpFaults, MakeHttpFaults, Request
from tests.scenario.conftest import MakeBridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

SCHEMA = """
create table maker (id int primary key, name text not null);
create table item (id int primary key, maker_id int not null references maker,
    name text, price numeric, tags text[], made timestamptz default now());
create table mark (id int primary key, item_id int not null references item
    on delete cascade, stars int);
create index on item (maker_id);
create index on mark (item_id);
insert into maker select g, 'maker ' || g from generate_series(1, 5) g;
insert into item select g, g % 5 + 1, 'item ' || g, g * 1.10, array['a', null]
    from generate_series(1, 60) g;
insert into mark select g, g % 60 + 1, g % 6 from generate_series(1, 200) g;
alter table mark replica identity full;
alter table item replica identity full
"""
VIEWS = {
    "flat": 'table = "item"',
    "nested": """query = '''
select i.id, i.name, m.name as maker, (select json_agg(k.stars order by k.id)
    from mark k where k.item_id = i.id) as marks
from item i join maker m on m.id = i.maker_id'''""",
}
STATEMENTS = (
    "update item set name = name || 'x', price = price * 2 where id = {a}",
    (
        "update item set id = id + 1000 where id = {a} and not exists"
        " (select from mark where item_id = {a})"
    ),
    "update item set maker_id = {c} where id between {a} and {a} + 3",
    "update maker set name = 'named {a}' where id = {c}",
    "delete from item where id = {a}",
    (
        "insert into item (id, maker_id, name) values ({b}, {c}, 'again')"
        " on conflict (id) do update set tags = array['{a}']"
    ),
    "update mark set item_id = (select min(id) from item), stars = {c} where id = {b}",
    "delete from mark where id = {b}",
)

Sent: TypeAlias = "dict[str, list[bytes]]"
"""What was sent for each document, in order: the action and the document."""


def written(requests: list[Request]) -> Sent:
    found: Sent = defaultdict(list)
    for request in requests:
        lines = request.body.splitlines()
        at = 0
        while at < len(lines):
            action = lines[at]
            more = 1 if action.startswith(b'{"delete"') else 2
            named = re.search(rb'"_id":"([^"]*)"', action)
            assert named, action
            found[f"{request.path} {named[1].decode()}"].append(
                b"\n".join(lines[at : at + more])
            )
            at += more
    return found


async def replayed(bridge: Bridge, search: HttpFaults, hold: Path) -> Sent:
    """One reading of the log from where the slot stands, which it does not move."""
    requests: list[Request] = []

    def record(request: Request) -> None:
        if "/_bulk" in request.path:
            requests.append(request)

    search.judge = record
    (hold / "armed").write_text("ledger.acknowledge")
    (hold / "reached").unlink(missing_ok=True)
    bridge.daemon.start(hold=hold)
    await bridge.ready()
    wait = "select bridge.wait_for(pg_current_wal_flush_lsn(), '{}', '60 s')"
    for view in VIEWS:
        assert await asyncio.to_thread(bridge.one, wait.format(view))
    await bridge.daemon.kill()
    return written(requests)


async def test_what_is_replayed_is_byte_for_byte_what_was_sent(
    database: str,
    make_bridge: MakeBridge,
    es_url: str,
    http_faults: MakeHttpFaults,
    tmp_path: Path,
    seed: int,
) -> None:
    search = await http_faults(es_url)
    bridge = make_bridge(database, es=search.url)
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, sinks=["search"])
    bridge.daemon.start()
    await bridge.ready()
    assert await bridge.daemon.stop() == 0
    dice = random.Random(seed)
    for _ in range(150):
        names = {"a": dice.randint(1, 60), "b": dice.randint(1, 90)}
        some = [dice.choice(STATEMENTS) for _ in range(dice.randint(1, 4))]
        bridge.transaction(*(s.format(**names, c=dice.randint(1, 5)) for s in some))
    hold = tmp_path / "hold"
    hold.mkdir()
    confirmed = (
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = %s"
    )
    stood = bridge.one(confirmed, bridge.slot)
    first = await replayed(bridge, search, hold)
    assert len(first) > 80
    assert any(f"{bridge.prefix}flat--" in key for key in first)
    again = await replayed(bridge, search, hold)
    assert bridge.one(confirmed, bridge.slot) == stood
    assert first.keys() == again.keys()
    for key, sent in first.items():
        assert _unversioned(sent[-1]) == _unversioned(again[key][-1])
        both = set(_versions(sent)) & set(_versions(again[key]))
        assert all(_versions(sent)[v] == _versions(again[key])[v] for v in both)
    bridge.daemon.start()
    await bridge.ready()
    await bridge.ends_exact()


def _unversioned(sent: bytes) -> bytes:
    return re.sub(rb'"version":\d+', b"", sent)


def _versions(sent: list[bytes]) -> dict[bytes, bytes]:
    found = {}
    for each in sent:
        named = re.search(rb'"version":(\d+)', each)
        assert named, each
        found[named[1]] = each
    return found
