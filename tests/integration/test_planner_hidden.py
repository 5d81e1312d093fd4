"""What a query does without saying so: functions behind operators, casts, aggregates
and types; orders that nobody wrote; collations. Asked of Postgres 18 and of 15.

Each refusal comes with its way out, and the way out is planned as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import zip_longest

import pytest
from psycopg.errors import FeatureNotSupported

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import QueryRefusal
from tests.integration.planner_rows import Rows, rows

SCHEMA = """
create type pt as (x int);
create table r (id int primary key, a int, b int, n numeric, f float8, rc regclass,
    s text, d date, tags text[], code text);
create table u (id int primary key, rid int, a int, t text, n numeric, f float8,
    bp bpchar, c text, unique (rid, c));
alter table u alter rid set not null, alter c set not null;
create table z (id int primary key, p pt);
create table g (id int primary key, half int,
    twice int generated always as (half * 2) stored);
create function counted(int) returns int immutable language plpgsql as
    'begin return (select count(*) from u where rid = $1); end';
create function counted(int, int) returns int immutable language plpgsql as
    'begin return (select count(*) from u where rid = $1); end';
create operator ### (leftarg = int, rightarg = int, function = counted);
create aggregate counted_all(int) (sfunc = counted, stype = int, initcond = '0');
create function pt_json(pt) returns json immutable language sql as
    'select to_json((select count(*) from u))';
create cast (pt as json) with function pt_json(pt);
"""
_OF = "select r.id, (select {} from u where u.rid = r.id) x from r"

CASES = [
    # The query, what the refusal says, and a way out (None: none but a declaration).
    ("select id, a ### b x from r", r"public\.counted\(\) may read tables", None),
    (_OF.format("counted_all(u.a order by u.id)"), r"counted_all\(\) may read", None),
    ("select id, p from z", "made by public.pt_json", None),
    ("select id, json_build_object('p', p) j from z", "made by public.pt_json", None),
    (
        "select id, rc::text x from r",
        "out of the catalog",
        "select id, rc::oid x from r",
    ),
    (
        "select id, json_build_object('c', rc) x from r",
        "out of the catalog",
        "select id, json_build_object('c', rc::oid) x from r",
    ),
    (
        "select id, format('%s', rc) x from r",
        "out of the catalog",
        "select id, format('%s', rc::oid) x from r",
    ),
    (
        "select id, tableoid::regclass::text x from r",
        "out of the catalog",
        "select id, tableoid::oid x from r",
    ),
    (
        "select id, s::date x from r",
        "'now' or 'today'",
        "select id, to_date(s, 'YYYY-MM-DD') x from r",
    ),
    (
        "select id, s::timestamptz x from r",
        "'now' or 'today'",
        "select id, to_timestamp(s, 'YYYY-MM-DD HH24:MI:SS') x from r",
    ),
    (
        "select r.id, q.x from r, lateral json_to_record(r.s::json) q(x date)",
        "'now' or 'today'",
        (
            "select r.id, to_date(q.x, 'YYYY-MM-DD') x from r, "
            "lateral json_to_record(r.s::json) q(x text)"
        ),
    ),
    (
        (
            "select r.id, q.x from r join (select u.rid, u.id, "
            "sum(u.f) over (partition by u.rid) x from u) q on q.rid = r.id"
        ),
        "the window of sum",
        (
            "select r.id, q.x from r join (select u.rid, u.id, "
            "sum(u.f::numeric) over (partition by u.rid) x from u) q on q.rid = r.id"
        ),
    ),
    (
        (
            "select r.id, q.x from r join (select u.rid, u.id, "
            "jsonb_object_agg(u.t, u.a) over (partition by u.rid) x from u) q "
            "on q.rid = r.id"
        ),
        "the window of jsonb_object_agg",
        (
            "select r.id, q.x from r join (select u.rid, u.id, "
            "jsonb_object_agg(u.t, u.a) over (partition by u.rid order by u.id) x "
            "from u) q on q.rid = r.id"
        ),
    ),
    (
        _OF.format("jsonb_object_agg(u.t, u.a)"),
        "two rows with one name",
        _OF.format("jsonb_object_agg(u.t, u.a order by u.id)"),
    ),
    (
        "select id, array(select u.a from u where u.rid = r.id) x from r",
        "order of the rows in array",
        "select id, array(select u.a from u where u.rid = r.id order by u.a) x from r",
    ),
    (
        "select id, array(select u.n from u where u.rid = r.id order by u.n) x from r",
        r"array\(select …\) is ordered by values that may be equal",
        (
            "select id, array(select u.n from u where u.rid = r.id "
            "order by u.n, u.n::text) x from r"
        ),
    ),
    (
        _OF.format("array_agg(u.bp order by u.bp, u.bp::text)"),
        "values that may be equal",
        _OF.format("array_agg(u.bp::text order by u.bp::text)"),
    ),
    (
        _OF.format("sum(distinct u.n)"),
        "keeps any one",
        _OF.format("sum(distinct u.n::numeric(12, 2))"),
    ),
    (
        _OF.format("max(u.n)::text"),
        "gives any one",
        _OF.format("max(u.n::numeric(12, 2))::text"),
    ),
    (
        _OF.format("max(u.n) / 3"),
        "gives any one",
        _OF.format("max(u.n::numeric(12, 2)) / 3"),
    ),
    (
        (
            "select r.id, q.m || 'x' x from r join "
            "(select rid, max(n) m from u group by rid) q on q.rid = r.id"
        ),
        "gives any one",
        (
            "select r.id, q.m || 'x' x from r join "
            "(select rid, max(n::numeric(12, 2)) m from u group by rid) q "
            "on q.rid = r.id"
        ),
    ),
    (
        (
            "select r.id from r where exists (select from u where u.rid = r.id "
            "group by u.rid having array_agg(u.n order by u.n)::text = '{1}')"
        ),
        "values that may be equal",
        (
            "select r.id from r where exists (select from u where u.rid = r.id "
            "group by u.rid having array_agg(u.n order by u.n, u.id)::text = '{1}')"
        ),
    ),
    *(
        (
            (
                "select r.id, (select json_agg(q.x::text order by q.x::text) from ("
                f"select bp x from u where u.rid = r.id {word} "
                "select bp from u where u.a = r.id) q) j from r"
            ),
            f"`{word}` takes for one",
            (
                "select r.id, (select json_agg(q.x order by q.x) from ("
                f"select bp::text x from u where u.rid = r.id {word} "
                "select bp::text from u where u.a = r.id) q) j from r"
            ),
        )
        for word in ("union", "except", "intersect")
    ),
    (
        "select r.id, u.a from r join u on u.id = r.tags[1]::int",
        "may fail for another row",
        "select r.id, u.a from r join u on u.id::text = r.tags[1]",
    ),
    (
        "select r.id, g.id g from r join g on g.twice = r.a",
        "generated column, which the log may leave out",
        "select r.id, g.id g from r join g on g.half = r.a",
    ),
    ("select id, row(a, b) x from r", "pseudo-type record", None),
    (
        "select id, a from r order by a limit 10",
        "`limit` over the whole view",
        "select id, a from r",
    ),
    (
        "select a, b, count(*) from r group by grouping sets ((a), (b))",
        "several groupings",
        None,
    ),
]
ACCEPTED = [
    _OF.format("jsonb_object_agg(u.c, u.a)"),  # (rid, c) is unique
    (
        "select r.id, jsonb_object_agg(u.id, u.a) filter (where u.id > 0) from r "
        "left join z on z.id = r.a left join u on u.id = z.id group by r.id"
    ),
    _OF.format("max(u.n)"),  # 1.0 and 1.00 are one number
    "select id, n::text x from r",
    "select id, array(select unnest(tags)) x from r",
    "select id, array(select upper(t) from unnest(tags) t) x from r",
    "select id, d::text x, '2024-01-01'::date y from r",
    "select id, to_tsvector('english', s)::text x from r",
    "select id, a from r where tableoid = 'r'::regclass",
]


@pytest.fixture
async def db(any_database: str) -> AsyncIterator[Rows]:
    async with rows(any_database, SCHEMA) as made:
        yield made


async def test_what_nobody_wrote_is_refused_and_the_way_out_is_one(db: Rows) -> None:
    accepted = [*ACCEPTED, *(out for *_, out in CASES if out is not None)]
    definitions = [
        ViewDefinition(f"v{i}", query=query)
        for i, query in enumerate([*(query for query, *_ in CASES), *accepted])
    ]
    catalog = await read_definitions(db.connection, definitions, ["public"])
    wrong = []
    for definition, says in zip_longest(definitions, [says for _, says, _ in CASES]):
        try:
            plan_view(definition, catalog)
        except QueryRefusal as refusal:
            if says is None or not re.search(says, refusal.message):
                wrong.append(f"{definition.query}: refused: {refusal.message}")
            elif refusal.at is None or not refusal.hint:
                wrong.append(f"{definition.query}: no place or no way out")
        else:
            if says is not None:
                wrong.append(f"{definition.query}: accepted")
    if wrong:
        pytest.fail("\n".join(wrong))


async def test_what_is_declared_is_taken_at_its_word(db: Rows) -> None:
    for query, function in (
        ("select id, a ### b x from r", "public.counted"),
        (_OF.format("counted_all(u.a order by u.id)"), "public.counted_all"),
        ("select id, p from z", "public.pt_json"),
        ("select id, s::date x from r", "pg_catalog.date_in"),
    ):
        await db.plan(query, functions=(function,))


async def test_aggregates_of_sql_json_are_aggregates(database: str) -> None:
    async with rows(database, SCHEMA) as db:
        many = "json_arrayagg(u.a order by u.id)"
        await db.plan(_OF.format(many))
        with pytest.raises(QueryRefusal, match=r"public\.r ") as refusal:
            await db.plan(
                "select z.id, q.x from z cross join r join lateral "
                f"(select {many} x from u where u.rid = r.id and u.a = z.id) q on true"
            )
        for asked in ("json_arrayagg(u.a)", "json_objectagg(u.t : u.a)"):
            with pytest.raises(QueryRefusal, match="order of the rows") as refusal:
                await db.plan(_OF.format(asked))
            assert refusal.value.at == _OF.format(asked).index(asked)
        with pytest.raises(QueryRefusal, match="without `group by`"):
            await db.plan("select json_arrayagg(id order by id) x from r")


BLIND = """
create collation blind
  (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table k (code text collate blind primary key, v int);
create table m (id int primary key, code text collate blind);
"""


async def test_links_are_compared_by_the_collation_of_either_side(
    any_database: str,
) -> None:
    try:
        async with rows(any_database, SCHEMA + BLIND) as db:
            view = await db.plan("select r.id, m.id m from r join m on m.code = r.code")
            await db.run("insert into r (id, code) values (1, 'A')")
            found, changed = await db.change(view, "insert into m values (1, 'a')")
            assert changed == {("1",)} <= found
            view = await db.plan("select code, v from k")
            await db.run("insert into k values ('A', 1)")
            found, changed = await db.change(view, "update k set code = 'a'")
            assert changed == {("A",), ("a",)} == found
            documents = await db.run(view.plan.documents_sql, ["A", "a"])
            assert documents == [("a", '{"code":"a","v":1}')]
    except FeatureNotSupported:
        pytest.skip("this build of Postgres has no ICU")
