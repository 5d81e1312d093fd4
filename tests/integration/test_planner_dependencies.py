"""What documents depend on besides rows: functions, time, and what may change.

Asked of Postgres 18 and of 15.
"""

from __future__ import annotations

import pytest

from bridge.catalog import compare, read_traces
from bridge.errors import QueryRefusal
from tests.integration.planner_rows import rows

FOLLOWED = (
    "'no ' || id",
    "id || tags[1]",
    "at::date",
    "at + interval '1 day'",
    "date_trunc('day', at)",
    "extract(epoch from at)",
    "at at time zone 'Europe/Berlin'",
    "to_char(at, 'YYYY')",
    "at > d",
    "format('%s-%s', id, d)",
    "to_tsvector('english', body)",
    "regexp_replace(body, 'a', 'b')",
    "array_to_string(tags, ',')",
    "jsonb_path_query_first(j, '$.a')",
    "greatest(id, 1)",
    "age(at, at)",
    "row_to_json(r)",
    "(select string_agg(x, ',' order by x) from unnest(tags) x)",
    "md5(body)",
    "coalesce(j ->> 'a', 'b')",
    "case when at is null then 1 end",
    "width_bucket(id, 1, 9, 3)",
    "body collate \"C\" < 'x'",
)
NOT_FOLLOWED = (
    "now()",
    "localtimestamp",
    "age(at)",
    "clock_timestamp()",
    "gen_random_uuid()",
    "to_tsvector(body)",
    "pg_typeof(id)",
    "txid_current()",
    "current_setting('timezone')",
    "version()",
    "pg_relation_size('r')",
    "has_table_privilege('r', 'select')",
    "query_to_xml('select 1', true, true, '')",
    "nextval('s')",
    "reads()",
    "inet_client_addr()",
    "session_user",
    "id::regclass",
    "(select lastval())",
)


async def test_functions_are_judged_by_what_they_depend_on(any_database: str) -> None:
    schema = """
    create sequence s;
    create table r (id int primary key, at timestamptz, d date, tags text[],
                    body text, j jsonb);
    create function reads() returns bigint language sql stable
        as 'select count(*) from r';
    """
    async with rows(any_database, schema) as db:
        for expression in FOLLOWED:
            await db.plan(f"select id, {expression} as value from r")
        for expression in NOT_FOLLOWED:
            with pytest.raises(QueryRefusal):
                await db.plan(f"select id, {expression} as value from r")
        await db.plan("select id, reads() n from r", functions=("public.reads",))


async def test_a_constant_of_today_is_refused(database: str) -> None:
    async with rows(database, "create table r (id int primary key, d date)") as db:
        for word in ("today", "Now ", "yesterday"):
            query = f"select id from r where d > '{word}'"
            with pytest.raises(QueryRefusal, match="is read once"):
                await db.plan(query)
        await db.plan("select id, 'today'::text as word from r")


async def test_a_plan_is_the_same_each_time_until_something_changes(
    database: str,
) -> None:
    schema = """
    create type mood as enum ('sad');
    create table r (id int primary key, x int, y int, m mood);
    create view w as select id, x from r;
    """
    async with rows(database, schema) as db:
        query = "select r.id, w.x, r.m from r join w on w.id = r.id"
        first = (await db.plan(query)).plan
        assert (await db.plan(query)).plan == first
        for statement, changes in (
            ("create index on r (x)", False),
            ("alter table r add column z int", False),
            ("analyze r", False),
            ("alter table r alter y type bigint", False),
            ("alter type mood add value 'glad'", True),
            ("create or replace view w as select id, x + 1 as x from r", True),
            ("drop view w", None),
            ("alter table r alter x type bigint", None),
            ("create view w as select id, x + 1 as x from r", True),
        ):
            await db.run(statement)
            if changes is None:
                continue
            plan = (await db.plan(query)).plan
            assert (plan.fingerprint != first.fingerprint) is changes, statement
            first = plan


async def test_what_has_changed_is_seen_by_its_aspect(any_database: str) -> None:
    schema = """
    create type mood as enum ('sad');
    create table r (id int primary key, x int, m mood);
    create table p (id int primary key, x int) partition by range (id);
    create table p1 partition of p for values from (1) to (9);
    create function g() returns int language sql immutable as 'select 1';
    create function f(int) returns int language sql immutable as 'select $1 + g()';
    create view w as select id, f(x) as x from r;
    """
    async with rows(any_database, schema) as db:
        query = "select r.id, w.x, r.m, p.x y from r join w on w.id = r.id "
        query += "join p on p.id = r.x"
        plan = (await db.plan(query, functions=("public.f",))).plan
        inner = "create or replace function g() returns int language sql immutable as "
        await db.run(f"{inner} 'select 0'")
        changed = (await db.plan(query, functions=("public.f",))).plan
        assert changed.fingerprint != plan.fingerprint
        before = await read_traces(db.connection, plan.depends_on)
        for statement, aspects in (
            ("create index on r (x)", set()),
            ("grant select on r to public", set()),
            ("analyze r", set()),
            ("alter table r add z int", {"columns"}),
            ("truncate r", {"storage"}),
            ("alter table p1 replica identity full", {"identity"}),
            (
                "create table p2 partition of p for values from (9) to (12)",
                {"leaves", "storage", "identity"},
            ),
            ("alter type mood add value 'glad'", {"definition"}),
            (
                (
                    "create or replace function g() returns int language sql immutable"
                    " as 'select 2'"
                ),
                {"body"},
            ),
            (
                "create function h() returns int language sql immutable as 'select 2'",
                set(),
            ),
            (
                (
                    "create or replace function f(int) returns int language sql "
                    "immutable as 'select $1 + 1'"
                ),
                {"body"},
            ),
            (
                "create or replace view w as select id, f(x) * 2 as x from r",
                {"definition"},
            ),
            ("alter table r rename to s", {"name"}),
        ):
            await db.run(statement)
            now = await read_traces(db.connection, plan.depends_on)
            assert {t.aspect for t in compare(before, now)} == aspects, statement
            before = now
