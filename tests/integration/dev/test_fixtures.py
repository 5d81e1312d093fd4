"""What the fixtures promise the other tests."""

from __future__ import annotations

import asyncio

import httpx
import psycopg
import pytest
import redis

from bridge.dev import ElasticsearchServer, PostgresServer, ValkeyServer
from bridge.dev.postgres import create_database, drop_database
from tests.fixtures.private import MakePostgres, MakeValkey
from tests.fixtures.servers import PostgresAddress
from tests.fixtures.waiting import eventually


def test_a_dropped_database_takes_its_slots_and_guests_along(
    postgres: PostgresAddress,
) -> None:
    dsn = create_database(postgres.dsn, "t_dropped")
    slots = "select count(*) from pg_replication_slots where database = 't_dropped'"
    with psycopg.connect(dsn, autocommit=True) as guest:
        guest.execute("select pg_create_logical_replication_slot('t_s', 'pgoutput')")
        drop_database(postgres.dsn, "t_dropped")
        with pytest.raises(psycopg.OperationalError):
            guest.execute("select 1")
    with psycopg.connect(postgres.dsn) as connection:
        assert connection.execute(slots).fetchone() == (0,)
        gone = "select count(*) from pg_database where datname = %s"
        assert connection.execute(gone, ("t_dropped",)).fetchone() == (0,)


@pytest.mark.parametrize("asked", ["a b", "Ü%?#/@"])
def test_any_name_of_a_database_can_be_addressed(
    postgres: PostgresAddress, asked: str
) -> None:
    dsn = create_database(postgres.dsn, asked)
    try:
        with psycopg.connect(dsn) as connection:
            assert connection.info.dbname == asked
    finally:
        drop_database(postgres.dsn, asked)


def test_any_database_is_the_version_it_says(
    any_database: str, request: pytest.FixtureRequest
) -> None:
    with psycopg.connect(any_database) as connection:
        major = connection.info.server_version // 10_000
        shown = connection.execute("show server_encoding").fetchone()
    assert f"postgres{major}" in request.node.name
    assert shown == ("UTF8",)


async def test_private_postgres_survives_kill_with_what_was_committed(
    private_postgres: PostgresServer,
) -> None:
    private_postgres.execute("create table t as select 1 as id")
    await asyncio.to_thread(private_postgres.kill)
    assert not private_postgres.running
    await asyncio.to_thread(private_postgres.start)
    assert private_postgres.execute("select id from t") == [(1,)]


async def test_a_standby_follows_and_is_promoted(make_postgres: MakePostgres) -> None:
    primary = make_postgres()
    standby = make_postgres(standby_of=primary)
    primary.execute("create table t as select 1 as id")
    await eventually(
        lambda: standby.execute("select to_regclass('t') is not null") == [(True,)]
    )
    primary.kill()
    standby.promote()
    standby.execute("insert into t values (2)")
    assert standby.execute("select count(*) from t") == [(2,)]


async def test_private_valkey_restarts_empty_and_a_persistent_one_does_not(
    private_valkey: ValkeyServer, make_valkey: MakeValkey
) -> None:
    kept = make_valkey("--appendonly", "yes", "--appendfsync", "always")
    for server, expected in ((private_valkey, None), (kept, b"1")):
        with redis.Redis.from_url(server.url) as client:
            client.set("k", 1)
            server.kill()
            server.start()
            assert client.get("k") == expected


@pytest.mark.slow  # two starts of a node; scenarios that kill one rely on it too
def test_private_elasticsearch_keeps_what_was_acknowledged_over_a_kill(
    private_elasticsearch: ElasticsearchServer,
) -> None:
    node = private_elasticsearch
    with httpx.Client(base_url=node.url, timeout=30, trust_env=False) as client:
        client.put("/a/_doc/1", json={"f": 1}).raise_for_status()
        node.kill()
        node.start()
        assert client.get("/a/_doc/1").json()["found"] is True


def test_private_elasticsearch_is_given_out_running_and_empty(
    private_elasticsearch: ElasticsearchServer,
) -> None:
    url = f"{private_elasticsearch.url}/_cat/indices?format=json"
    assert httpx.get(url, trust_env=False).json() == []


def test_what_lies_below_the_prefix_is_this_tests_own(
    es_url: str, es_prefix: str, redis_url: str
) -> None:
    answer = httpx.put(f"{es_url}/{es_prefix}a", trust_env=False)
    assert answer.status_code == 200
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
