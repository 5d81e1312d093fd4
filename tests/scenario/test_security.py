"""Hostile names and values arrive as they are, under the least role; and neither values
nor secrets are ever told: in logs, pages, answers, dead letters, tables, argv.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

from bridge.dev.postgres import PostgresServer, create_database
from bridge.dev.valkey import ValkeyServer
from tests.fixtures.private import MakePostgres, MakeValkey
from tests.fixtures.waiting import eventually
from tests.scenario.conftest import MakeBridge
from tests.scenario.harness import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

PASSWORD, REDIS_PASSWORD, API_KEY = "pw-7hx2k", "rp-9zq4m", "YXBpLWtleS1oaWRkZW4tM2Y="
CANARY = "zebrafish"
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
)


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
    dsn = create_database(source.dsn, "shop")
    table = sql.SQL("{}.{}").format(sql.Identifier(SCHEMA), sql.Identifier(TABLE))
    columns = sql.SQL(", ").join(
        sql.SQL("{} text").format(sql.Identifier(name)) for name in COLUMNS[1:]
    )
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(f"create role bridge login replication password '{PASSWORD}'")
        owner.execute("grant create on database shop to bridge")
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
        for name in (table, sql.SQL("plain")):
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
    address = f"127.0.0.1:{source.port}/shop"
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
[views.failing]
query = "select id, note::integer as n from plain"
[[views.failing.targets]]
sink = "cache"
"""
    )


async def test_values_and_secrets_are_never_told(
    source: PostgresServer, cache: ValkeyServer, make_bridge: MakeBridge
) -> None:
    bridge = make_bridge(prepared(source), redis=cache.url)
    configured(bridge, source, cache)
    client = redis.Redis(port=cache.port, password=REDIS_PASSWORD)
    client.set("sentinel", "there")
    config, told = bridge.daemon.config, {}
    told["plan"] = pgbridge(config, "plan")
    told["check"] = pgbridge(config, "check")
    told["apply"] = pgbridge(config, "apply")
    bridge.daemon.start()
    await bridge.ready()
    argv = Path(f"/proc/{bridge.daemon.process.pid}/cmdline").read_text()  # type: ignore[union-attr]
    await eventually(lambda: letters(bridge) == 10)
    with psycopg.connect(bridge.dsn, autocommit=True) as owner:
        rows(owner, "second")
        client.flushall()
        await asyncio.to_thread(source.restart, "immediate")
    client.set("sentinel", "there")
    await eventually(lambda: len(client.keys("we ird:*")) == len(HOSTILE))
    await eventually(lambda: letters(bridge) == 10)
    for words in (
        ("status", "--json"),
        ("status",),
        ("wait", "--timeout", "1m"),
        ("verify", "hostile"),
        ("verify", "plain", "--json"),
        ("dead-letters", "list", "--json"),
        ("dead-letters", "show", "plain", "1"),
        ("dead-letters", "show", "failing", "1"),
        ("dead-letters", "retry", "plain", "--all"),
        ("backfill", "plain", "--where", f"note = '{CANARY}' and 1/0 = 1"),
    ):
        told[" ".join(words[:3])] = pgbridge(config, *words)
    assert told["verify hostile"][0] == 0, told["verify hostile"]
    for page in ("status", "metrics", "ready", "live"):
        answer = await bridge.daemon.page(page)
        assert answer is not None
        told[page] = answer.text
    told["tables"] = tables(bridge.dsn)
    assert await bridge.daemon.stop() == 0
    told["log"] = bridge.daemon.log.read_text()
    hidden = (CANARY, "48151623", "2042-08-15", "04:08:15", b"zebra".hex())
    hidden += (PASSWORD, REDIS_PASSWORD, API_KEY)
    found = {
        (place, word)
        for place, text in told.items()
        for word in hidden
        if word in str(text) and (place, word) != ("tables", CANARY)
    }
    assert not found, {place: str(told[place])[:3000] for place, _ in found}
    assert not [word for word in hidden if word in argv]
    assert client.get("sentinel") == b"there"


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
