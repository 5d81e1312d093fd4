"""Hostile names and values arrive as they are, under the least role; and neither values
nor secrets are ever told: in logs, pages, answers, dead letters, tables, argv.

The one thing to know: a canary is a word that stands in rows alone. Keys are told where
people ask for keys (`dead-letters`, `verify`), and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis
from psycopg import sql

from bridge.config import load
from bridge.dev.postgres import PostgresServer, create_database
from bridge.dev.valkey import ValkeyServer
from bridge.errors import BridgeError
from tests.fixtures.private import MakePostgres, MakeValkey
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

PASSWORD, REDIS_PASSWORD, API_KEY = "pw-7hx2k", "rp-9zq4m", "YXBpLWtleS1oaWRkZW4tM2Y="
CANARY, KEY_CANARY = "zebrafish", "keyfish"
DATABASE = "sh\"op'; drop database postgres; --%s"
SCHEMA, TABLE = 'we;ird"', "ta'ble; drop table plain --"
COLUMNS = ("k", 'c"d', "%s", "{k}", "é $1", "__proto__", "line\nbreak")
HOSTILE = (
    "'; drop table plain; --",
    '"}\n{"delete":{"_index":"*"}}\n',
    "\r\nFLUSHALL\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "../../_all?pretty",
    "%00%0a:{k}",
    "$(reboot) `id` ${PGPASSWORD}",
    "return redis.call('flushall')",
    "{{7*7}} <script>alert(1)</script>",
    "\u202e\U0001f480\x7f\x01",
    "*",
    "\\u0000\\x00\\0",
    "long " * 150,
)
NAMES = (*HOSTILE, "Upper", "a b", "a\n", "a/b", "a,b", "-a", "x-Y", "..", "a" * 64, "")
"""None of them is a name of anything that the bridge makes."""


@pytest.fixture
def source(make_postgres: MakePostgres) -> PostgresServer:
    return make_postgres()


@pytest.fixture
def cache(make_valkey: MakeValkey) -> ValkeyServer:
    server = make_valkey()
    redis.Redis(port=server.port).config_set("requirepass", REDIS_PASSWORD)
    return server


def prepared(source: PostgresServer) -> str:
    """A database with hostile names and values, and a role with the documented grants
    alone; the publication is made by its owner."""
    dsn = create_database(source.dsn, DATABASE)
    table = sql.SQL("{}.{}").format(sql.Identifier(SCHEMA), sql.Identifier(TABLE))
    columns = sql.SQL(", ").join(
        sql.SQL("{} text").format(sql.Identifier(name)) for name in COLUMNS[1:]
    )
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(f"create role bridge login replication password '{PASSWORD}'")
        owner.execute(
            sql.SQL("grant create on database {} to bridge").format(
                sql.Identifier(DATABASE)
            )
        )
        owner.execute(sql.SQL("create schema {}").format(sql.Identifier(SCHEMA)))
        owner.execute(
            sql.SQL("create table {} (k text primary key, {})").format(table, columns)
        )
        owner.execute(
            "create table plain (id integer primary key, note text, amount numeric,"
            " at timestamp, doc jsonb, tags text[], raw bytea)"
        )
        owner.execute(
            sql.SQL("grant usage on schema {} to bridge").format(sql.Identifier(SCHEMA))
        )
        owner.execute("create table named (k text primary key, note text)")
        owner.execute(
            f"insert into named values ('{KEY_CANARY}-1', 'x'), ('{KEY_CANARY}-2', '7')"
        )
        for name in (table, sql.SQL("plain"), sql.SQL("named")):
            owner.execute(sql.SQL("grant select on {} to bridge").format(name))
        for value in HOSTILE:
            owner.execute(
                sql.SQL("insert into {} values ({})").format(
                    table, sql.SQL(", ").join([sql.Placeholder()] * len(COLUMNS))
                ),
                [value] * len(COLUMNS),
            )
        rows(owner, "first")
    return dsn


def rows(owner: psycopg.Connection[object], word: str) -> None:
    """Canaries in every column but the key."""
    text = f"{CANARY}-{word}"
    owner.execute(
        "insert into plain select g, %(t)s || g, 48151623.42, '2042-08-15 04:08:15',"
        " jsonb_build_object('secret', %(t)s), array[%(t)s], %(t)s::bytea"
        " from generate_series(1, 5) g on conflict (id) do update set"
        " note = excluded.note, doc = excluded.doc",
        {"t": text},
    )


def configured(bridge: Bridge, source: PostgresServer, cache: ValkeyServer) -> None:
    """Secrets from files; views over hostile names; two that fail for each row."""
    folder = bridge.directory
    address = f"127.0.0.1:{source.port}/{quote(DATABASE, safe='')}"
    files = {
        "dsn": f"postgresql://bridge:{PASSWORD}@{address}",
        "admin": f"postgresql://postgres:{PASSWORD}@{address}",
        "key": API_KEY,
        "password": REDIS_PASSWORD,
    }
    for name, content in files.items():
        (folder / name).write_text(content + "\n")
    quoted = [name.replace('"', '""') for name in COLUMNS]
    query = ", ".join(f'"{name}"' for name in quoted)
    schema, table = (name.replace('"', '""') for name in (SCHEMA, TABLE))
    hostile = f'select {query} from "{schema}"."{table}"'
    bridge.daemon.config.write_text(
        f"""
[source]
dsn_file = "dsn"
admin_dsn_file = "admin"
slot = "s_canary"
publication = "p_canary"
[daemon]
http = "{bridge.daemon.http}"
[sinks.search]
type = "elasticsearch"
url = "{bridge.es}"
api_key_file = "key"
[sinks.cache]
type = "redis"
url = "redis://127.0.0.1:{cache.port}/0"
password_file = "password"
[views.hostile]
query = {json.dumps(hostile, ensure_ascii=False)}
[[views.hostile.targets]]
sink = "search"
name = "{bridge.prefix}hostile"
[[views.hostile.targets]]
sink = "cache"
key = "we ird:'%*{{k}}"
publish = "chan nel; '"
[views.plain]
table = "plain"
[[views.plain.targets]]
sink = "search"
name = "{bridge.prefix}plain"
mappings = {{ note = {{ type = "integer", ignore_malformed = false }} }}
[[views.plain.targets]]
sink = "cache"
encoding = "hash"
[views.named]
query = "select k, note::integer as n from named"
[[views.named.targets]]
sink = "search"
name = "{bridge.prefix}named"
[views.failing]
query = "select id, note::integer as n from plain"
[[views.failing.targets]]
sink = "cache"
"""
    )


@pytest.mark.slow
async def test_values_and_secrets_are_never_told(
    source: PostgresServer, cache: ValkeyServer, make_bridge: MakeBridge
) -> None:
    bridge = make_bridge(prepared(source), redis=cache.url)
    configured(bridge, source, cache)
    client = redis.Redis(port=cache.port, password=REDIS_PASSWORD)
    config, told = bridge.daemon.config, {}
    for word in ("plan", "check", "apply"):
        told[word] = pgbridge(config, word)
    assert told["apply"][0] == 0, told["apply"]
    bridge.daemon.fresh = True
    bridge.daemon.start()
    await bridge.ready()
    assert bridge.daemon.process is not None
    told["argv"] = Path(f"/proc/{bridge.daemon.process.pid}/cmdline").read_text()
    await eventually(lambda: letters(bridge) == LETTERS)
    await full(bridge, client, told)
    with psycopg.connect(bridge.dsn, autocommit=True) as owner:
        rows(owner, "second")
        client.flushall()
        await asyncio.to_thread(source.restart, "immediate")
    client.set("sentinel", "there")
    await eventually(lambda: len(client.keys("we ird:*")) == len(HOSTILE))
    await eventually(lambda: letters(bridge) == LETTERS)
    for words in ASKED:
        told[" ".join(words[:3])] = pgbridge(config, *words)
    assert told["verify hostile"][0] == 0, told["verify hostile"]
    await pages(bridge, told)
    told["tables"] = tables(bridge.dsn)
    assert await bridge.daemon.stop() == 0
    told["log"] = bridge.daemon.log.read_text()
    unanswered(bridge, told)
    found = leaks(told)
    assert not found, "\n".join(map(str, sorted(found)))
    assert client.get("sentinel") == b"there"
    left = bridge.one("select count(*) from plain")
    assert left == ROWS, "a value was taken for a statement"


ROWS = 5
LETTERS = 2 * ROWS + 1
"""Of `plain` in Elasticsearch, of `failing`, and one key of `named`."""
ASKED = (
    ("status", "--json"),
    ("status",),
    ("wait", "--timeout", "1m"),
    ("verify", "hostile"),
    ("verify", "plain", "--json"),
    ("dead-letters", "list", "--json"),
    ("dead-letters", "show", "plain", "1"),
    ("dead-letters", "show", "failing", "1"),
    ("dead-letters", "retry", "plain", "--all"),
    ("explain", "failing", "1"),
    ("backfill", "plain", "--where", f"note = '{CANARY}' and 1/0 = 1"),
)


async def full(
    bridge: Bridge, client: redis.Redis[bytes], told: dict[str, object]
) -> None:
    """The cache takes nothing more for a while, and says so with what it was given."""
    client.config_set("maxmemory", "1")
    with psycopg.connect(bridge.dsn, autocommit=True) as owner:
        rows(owner, "refused")

    async def refuses() -> bool:
        status = await bridge.daemon.status()
        return {"name": "cache", "state": "ok"}.items() <= status["sinks"][1].items()

    async def told_so() -> bool:
        return not await refuses()

    await eventually(told_so)
    await pages(bridge, told, "full ")
    client.config_set("maxmemory", "0")
    await eventually(refuses)


async def pages(bridge: Bridge, told: dict[str, object], when: str = "") -> None:
    """What is told over HTTP."""
    for page in ("status", "metrics", "ready", "live"):
        answer = await bridge.daemon.page(page)
        assert answer is not None
        told[when + page] = answer.text


def unanswered(bridge: Bridge, told: dict[str, object]) -> None:
    """Commands whose secrets are refused, or whose servers are not there."""
    config, folder = bridge.daemon.config, bridge.directory
    (folder / "password").write_text(REDIS_PASSWORD + "-wrong")
    told["check, wrong password"] = pgbridge(config, "check")
    (folder / "dsn").write_text(f"postgresql://bridge:{PASSWORD}@127.0.0.1:1/none")
    for word in ("check", "status", "plan"):
        told[f"{word}, no source"] = found = pgbridge(config, word)
        assert found[0] == 1, found
    (folder / "dsn").write_text(f"postgresql://bridge:{PASSWORD}@[::1/none?x=1")
    told["check, no address"] = found = pgbridge(config, "check")
    assert found[0] == 2, found


def leaks(told: dict[str, object]) -> set[tuple[str, str]]:
    """Where a canary or a secret stands; with keys, where nobody asked for keys."""
    hidden = (CANARY, "48151623", "2042-08-15", "04:08:15", b"zebra".hex())
    hidden += (PASSWORD, REDIS_PASSWORD, API_KEY)
    keyed = ("tables", "dead-letters list --json")
    letters = json.loads(told["dead-letters list --json"][1])  # type: ignore[index]
    reasons = [letter["reason"] for letter in letters]
    assert len(reasons) == LETTERS, reasons
    assert not any(KEY_CANARY in reason for reason in reasons), reasons
    return {
        (place, word)
        for place, text in told.items()
        for word in (*hidden, *([] if place in keyed else [KEY_CANARY]))
        # The condition of a backfill is the operator's own word.
        if word in str(text) and (place, word) != ("tables", CANARY)
    }


@pytest.mark.parametrize("place", ["view", "sink", "target", "slot", "publication"])
def test_no_hostile_name_is_taken(tmp_path: Path, place: str) -> None:
    """Nothing that could be more than a name ever reaches a server as one."""
    for name in NAMES:
        names = dict.fromkeys(("view", "sink", "target", "slot", "publication"), "x")
        written = {key: toml(each) for key, each in (names | {place: name}).items()}
        config = tmp_path / "pgbridge.toml"
        config.write_text(
            f"""
[source]
dsn = "postgresql://u:{PASSWORD}@127.0.0.1/d"
slot = {written["slot"]}
publication = {written["publication"]}
[sinks.{written["sink"]}]
type = "null"
[views.{written["view"]}]
table = "t"
[[views.{written["view"]}.targets]]
sink = {written["sink"]}
name = {written["target"]}
"""
        )
        with pytest.raises(BridgeError) as refused:
            load(config)
        assert place in str(refused.value) or f"{place}s" in str(refused.value)
        assert PASSWORD not in str(refused.value)


def toml(text: str) -> str:
    """A string of TOML."""
    escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return escaped.replace("${", "$${")


def letters(bridge: Bridge) -> int:
    """Dead letters of the plain rows, which neither sink can take in full."""
    return int(bridge.one("select count(*) from bridge.dead_letter"))


def tables(dsn: str) -> str:
    """All that the bridge's own tables hold, a row a line."""
    with psycopg.connect(dsn, autocommit=True) as own:
        names = own.execute(
            "select c.oid::regclass::text from pg_class c"
            " where relnamespace = 'bridge'::regnamespace and relkind = 'r'"
        ).fetchall()
        return "\n".join(
            str(row[0])
            for (name,) in names
            for row in own.execute(f"select row_to_json(t)::text from {name} t")
        )
