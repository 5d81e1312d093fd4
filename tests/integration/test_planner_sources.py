"""What views may be made of: names, types, partitions, views, rights.

Everything here is asked of Postgres 18 and of 15.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import AsyncConnection

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import Halt, QueryRefusal
from bridge.shape import Kind
from tests.integration.planner_rows import rows

KEYS = {
    "int2": ("1", "2"),
    "int8": ("1", "9007199254740993"),
    "numeric": ("1.0", "2.50"),
    "text": ("a:b%c", "ünï \n x"),
    "varchar(10)": ("", "b"),
    "char(4)": ("ab", "c"),
    "uuid": (
        "00000000-0000-0000-0000-00000000000a",
        "00000000-0000-0000-0000-00000000000b",
    ),
    "bool": ("true", "false"),
    "date": ("2024-01-01", "infinity"),
    "timestamptz": ("2024-01-01 00:00:00+00", "2024-01-01 00:00:00.5+00"),
    "bytea": ("\\x00ff", "\\x"),
    "inet": ("10.0.0.1/32", "10.0.0.0/8"),
    "float8": ("0.1", "1e+100"),
    "citext": ("Ab", "cd"),
    "mood": ("sad", "glad"),
    "positive": ("1", "2"),
    "interval": ("P1D", "PT24H1M"),
    "int[]": ("{1,2}", "{}"),
    '"char"': ("x", "y"),
    "name": ("n1", "n2"),
}
TYPES = """
create extension citext;
create type mood as enum ('sad', 'glad');
create domain positive as int not null check (value > 0);
set timezone to 'utc'; set intervalstyle to iso_8601;
"""
PINNED = "set timezone to 'utc'; set intervalstyle to iso_8601;"


async def test_keys_of_every_type_are_read_back_by_their_text(
    any_database: str,
) -> None:
    tables = [
        f"create table t{i} (k {of} primary key, x int);"
        f"create table c{i} (id int primary key, link {of});"
        for i, of in enumerate(KEYS)
    ]
    async with rows(any_database, TYPES + "".join(tables)) as db:
        await db.run("set timezone to 'utc'")
        await db.run("set intervalstyle to iso_8601")
        for i, (of, values) in enumerate(KEYS.items()):
            view = await db.plan(
                f"select t.k, (select count(*) from c{i} c where c.link = t.k) n "
                f"from t{i} t"
            )
            for value in values:
                await db.run(f"insert into t{i} values (($1::text)::{of}, 1)", value)
            given = sorted((v,) for v in values)
            found = await db.run(view.plan.documents_sql, list(values))
            assert sorted((r[0],) for r in found) == given, of
            assert sorted(await db.documents(view)) == given, of
            query = next(q for q in view.plan.key_queries if q.table.name == f"c{i}")
            assert query.sql is not None
            keys = await db.run(query.sql, [*values, None])
            assert sorted(keys) == given, of


async def test_no_name_is_taken_for_another(any_database: str) -> None:
    schema = """
    create schema "Odd Schema";
    create table "Odd Schema"."select" (
        "v" int, "t" int, "doc" text, "key" int primary key, "k" int, "c1" int, "d" int,
        "Mixed Case" text, "quo""te" text, "öäü" int, "{condition}" int);
    create table "x" (id int primary key, "from" int, "changed" int);
    create table changed (id int primary key, link int, x int);
    """
    async with rows(any_database, schema) as db:
        view = await db.plan(table='"Odd Schema"."select"')
        await db.run(
            'insert into "Odd Schema"."select" values (1,2,$1,4,5,6,7,$1,$1,8,9)', "a"
        )
        [(key, document)] = await db.run(view.plan.documents_sql, ["4"])
        assert key == "4"
        assert list(json.loads(document)) == [
            *("v", "t", "doc", "key", "k", "c1", "d", "Mixed Case", 'quo"te'),
            *("öäü", "{condition}"),
        ]
        assert view.plan.direct is not None
        for condition in ('"{condition}" = 9', "\"öäü\" = 8 and doc <> '{condition}'"):
            assert await db.run(view.plan.matching(condition)) == [("4",)]
        view = await db.plan(
            'select s.key as v, s."Mixed Case" as "V", '
            "(select count(*) from x join changed on changed.link = x.id "
            'where x."from" = s.key) as n from "Odd Schema"."select" s'
        )
        await db.run("insert into x values (1, 4, 0)")
        found, moved = await db.change(view, "insert into changed values (1, 1, 1)")
        assert moved == {("4",)} == found


async def test_ways_through_partitions_stand_on_the_root(any_database: str) -> None:
    schema = """
    create table r (id int primary key, x int);
    create table u (id int, day date not null, rid int, primary key (id, day))
        partition by range (day);
    create table u1 partition of u for values from ('2024-01-01') to ('2024-02-01');
    create table u2 partition of u for values from ('2024-02-01') to ('2024-03-01')
        partition by list (id);
    create table u2a partition of u2 default;
    """
    async with rows(any_database, schema) as db:
        view = await db.plan(
            "select r.id, (select count(*) from u where u.rid = r.id) n from r"
        )
        assert {str(t.table) for t in view.plan.tables} == {"public.r", "public.u"}
        await db.run("insert into r values (1, 0), (2, 0)")
        found, changed = await db.change(
            view, "insert into u values (1, '2024-01-05', 1)"
        )
        assert changed == {("1",)} == found
        whole = await db.plan("select id, day, rid from u")
        assert whole.plan.shape.key == ("id", "day")
        with pytest.raises(QueryRefusal, match="published under its root's name"):
            await db.plan("select id from u1")


async def test_using_natural_joins_and_renamed_columns(any_database: str) -> None:
    schema = """
    create table r (rid int primary key, x int);
    create table u (id int primary key, rid int, x int);
    create view renamed (a, b) as select id, rid from u;
    create view twice as select n.a, n.b, r.x from renamed n join r on r.rid = n.b;
    """
    async with rows(any_database, schema) as db:
        await db.run("insert into r values (1, 7), (2, 8)")
        for query in (
            (
                "select rid, array_agg(u.id order by u.id) from r join u using (rid) "
                "group by rid"
            ),
            (
                "select r.rid, q.l from r left join lateral (select array_agg(z.i "
                "order by z.i) l from u as z(i, j, k) where z.j = r.rid) q on true"
            ),
            "select r.rid, (select count(*) from renamed where b = r.rid) from r",
            "select r.rid, (select max(t.a) from twice t where t.b = r.rid) from r",
            (
                "select rid, (select count(*) from u natural join r as s(rid, y) "
                "where rid = r.rid) from r"
            ),
        ):
            view = await db.plan(query)
            found, changed = await db.change(
                view, "insert into u values (1, 1, 7)", "update r set x = x + 1"
            )
            assert changed <= found, query
            assert ("1",) in changed
            found, changed = await db.change(view, "delete from u")
            assert ("1",) in changed <= found, query


async def test_functions_in_from_give_rows_of_their_arguments(
    any_database: str,
) -> None:
    schema = """
    create table r (id int primary key, tags text[], j jsonb, n int);
    create table tag (name text primary key, title text);
    """
    async with rows(any_database, schema) as db:
        for query in (
            "select id, array(select upper(x) from unnest(tags) x order by 1) l from r",
            (
                "select r.id, (select json_agg(e.value order by e.ordinality) from "
                "jsonb_array_elements(r.j) with ordinality e) l from r"
            ),
            (
                "select r.id, count(g) from r cross join generate_series(1, r.n) g "
                "group by r.id"
            ),
            "select r.id, v.s from r cross join lateral (values (r.n * 2)) v(s)",
        ):
            view = await db.plan(query)
            found, changed = await db.change(
                view,
                "insert into r values (1, '{}', '[]', 2) on conflict do nothing",
                "update r set n = n + 1, tags = tags || 'z'::text, j = j || '[2]'",
            )
            assert changed == {("1",)} == found, query
        with pytest.raises(QueryRefusal, match=r"a change of public\.tag "):
            await db.plan(
                "select r.id, (select count(*) from unnest(r.tags) x "
                "join tag on tag.name = x) from r"
            )


async def test_a_domain_that_takes_no_null_is_no_obstacle(any_database: str) -> None:
    schema = (
        TYPES
        + """
    create table r (id positive primary key, x int);
    create table u (id int primary key, rid positive, b bool);
    """
    )
    async with rows(any_database, schema) as db:
        view = await db.plan(
            "select r.id, (select bool_or(b) from u where u.rid = r.id) from r"
        )
        await db.run("insert into r values (1, 0)")
        found, changed = await db.change(view, "insert into u values (1, 1, true)")
        assert changed == {("1",)} <= found
        assert view.plan.shape.column("id").type.name == "int4"


async def test_links_between_types_keep_the_index(any_database: str) -> None:
    schema = """
    create table r (id numeric primary key, x int);
    create table u (id int primary key, rid int);
    """
    async with rows(any_database, schema) as db:
        view = await db.plan(
            "select r.id, (select count(*) from u where u.rid = r.id) n from r"
        )
        await db.run("insert into r select g, 1 from generate_series(1, 5000) g")
        await db.run("insert into r values (7000.00, 1)")
        await db.run("analyze r")
        [query] = [q for q in view.plan.key_queries if q.table.name == "u"]
        assert query.sql is not None
        # 7000 of an int column is the key 7000.00: the table has to be asked.
        assert await db.run(query.sql, ["7000", None]) == [("7000.00",)]
        found, changed = await db.change(view, "insert into u values (1, 7000)")
        assert changed == {("7000.00",)} == found


async def test_only_columns_that_the_view_reads_are_work(any_database: str) -> None:
    schema = """
    create table r (id int primary key, x int, unused text, big text);
    create table u (id int primary key, rid int, y int, z int);
    """
    async with rows(any_database, schema) as db:
        view = await db.plan(
            "select r.id, r.x, (select row_to_json(u) from u where u.rid = r.id "
            "order by u.id limit 1) as first from r where r.big is not null"
        )
        uses = {use.table.name: use for use in view.plan.tables}
        assert uses["r"].columns == {"id", "x", "big"}
        assert uses["u"].columns == {"id", "rid", "y", "z"}
        assert uses["u"].identity == {"rid"}


async def test_rights_are_told(database: str) -> None:
    schema = """
    create table r (id int primary key, x int);
    create table hidden (id int primary key, x int);
    alter table hidden enable row level security;
    create role planner_reader;
    grant select on hidden to planner_reader;
    """
    async with rows(database, schema) as db:
        try:
            await db.run("set role planner_reader")
            with pytest.raises(
                QueryRefusal, match=r"row-level security hides rows of public\.hidden"
            ):
                await db.plan("select id, x from hidden")
            with pytest.raises(QueryRefusal, match=r"may not read public\.r"):
                await db.plan("select id, x from r")
            await db.run("reset role")
            [(name,)] = await db.run("select current_database()")
            await db.run(f'revoke temporary on database "{name}" from public')
            await db.run("set role planner_reader")
            with pytest.raises(Halt, match="temporary"):
                await db.plan("select id, x from hidden")
        finally:
            await db.run("reset role")
            await db.run("drop owned by planner_reader")
            await db.run("drop role planner_reader")


async def test_rights_behind_a_view_are_its_owners(database: str) -> None:
    """What it reads is read as its owner may, and what he may not see is not there."""
    schema = """
    create table hidden (id int primary key, x int);
    create table secret (id int primary key, x int, y int);
    alter table hidden enable row level security;
    create role planner_owner;
    grant select on hidden to planner_owner;
    grant create, usage on schema public to planner_owner;
    create view filtered as select id, x from hidden;
    alter view filtered owner to planner_owner;
    create view denied as select id, x from secret;
    alter view denied owner to planner_owner;
    """
    async with rows(database, schema) as db:
        try:
            for view, said in (("filtered", "row-level"), ("denied", "secret")):
                with pytest.raises(QueryRefusal, match=said) as refused:
                    await db.plan(f"select id, x from {view}")
                assert refused.value.denied
                assert "its owner's rights" in refused.value.hint
        finally:
            await db.run("drop owned by planner_owner cascade")
            await db.run("drop role planner_owner")


async def test_rights_on_columns_and_functions_are_told(database: str) -> None:
    schema = """
    create table secret (id int primary key, x int, y int);
    create function twice(int) returns int language sql immutable
        as 'select $1 * 2';
    revoke all on function twice(int) from public;
    create role planner_reader2;
    create table open (id int primary key, x int);
    grant select (id, x) on secret to planner_reader2;
    grant select on open to planner_reader2;
    """
    async with rows(database, schema) as db:
        try:
            await db.run("set role planner_reader2")
            with pytest.raises(QueryRefusal, match=r"may not read public\.secret"):
                await db.plan("select id, x from secret")
            with pytest.raises(QueryRefusal, match="function twice"):
                await db.plan(
                    "select id, twice(x) as x from open", functions=("public.twice",)
                )
        finally:
            await db.run("reset role")
            await db.run("drop owned by planner_reader2")
            await db.run("drop role planner_reader2")


async def test_reading_leaves_nothing_behind(database: str) -> None:
    async with rows(database, "create table r (id int primary key)") as db:
        count = "select count(*) from pg_class"
        before = await db.run(count)
        await db.plan("select id from r")
        assert await db.run(count) == before
        assert await db.run("show search_path") == [('"$user", public',)]


async def test_the_search_path_is_the_configured_one(database: str) -> None:
    schema = """
    create schema one; create schema two;
    create table one.t (id int primary key, a int);
    create table two.t (id int primary key, b int);
    """
    async with rows(database, schema) as db:
        for path, column in ((("one", "two"), "a"), (("two", "one"), "b")):
            view = await db.plan("select * from t", search_path=path)
            assert [c.name for c in view.plan.shape.columns] == ["id", column]
            assert f"{path[0]}.t" in view.plan.query


async def test_what_is_in_json_is_told_by_its_parts(any_database: str) -> None:
    schema = """
    create table r (id int primary key, n numeric(8, 2), j jsonb);
    create table u (id int primary key, rid int, at timestamptz, name varchar(20));
    """
    async with rows(any_database, schema) as db:
        view = await db.plan(
            "select r.id, r.j, (select coalesce(json_agg(json_build_object('at', u.at, "
            "'name', upper(u.name), 'twice', u.id * 2, 'row', u) order by u.id), '[]') "
            "from u where u.rid = r.id) us, to_jsonb(r) me, "
            "jsonb_build_object('n', r.n, 'j', r.j) o, "
            "json_build_object(r.id::text, 1) open from r"
        )
        column = view.plan.shape.column
        assert column("j").type.kind is Kind.JSON
        us = column("us").type
        assert us.kind is Kind.ARRAY
        assert us.element is not None
        members = dict(us.element.members)
        assert {n: m.name for n, m in members.items()} == {
            "at": "timestamptz",
            "name": "text",
            "twice": "int4",
            "row": "json",
        }
        assert [n for n, _ in members["row"].members] == ["id", "rid", "at", "name"]
        assert [n for n, _ in column("me").type.members] == ["id", "n", "j"]
        assert dict(column("o").type.members)["j"].kind is Kind.JSON
        assert column("open").type.kind is Kind.JSON
        assert not column("id").nullable
        assert column("us").nullable


async def connection_of(dsn: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(dsn, autocommit=True)


async def test_one_bad_definition_leaves_the_others(database: str) -> None:
    async with await connection_of(database) as connection:
        await connection.execute("create table r (id int primary key)")
        definitions = [
            ViewDefinition("bad", query="select nosuch from r"),
            ViewDefinition("none", table="nosuch"),
            ViewDefinition("column", table="r", columns=("id", "nosuch")),
            ViewDefinition("good", table="r"),
        ]
        catalog = await read_definitions(connection, definitions)
        for definition in definitions[:3]:
            with pytest.raises(QueryRefusal, match=r"nosuch.* does not exist"):
                plan_view(definition, catalog)
        assert plan_view(definitions[3], catalog).direct is not None
