"""Views that a rule which looked right has lost documents of: one test each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.errors import QueryRefusal
from tests.integration.planner_rows import Rows, rows

SCHEMA = """
create table a (id int primary key, x int, active bool);
create table r (id int primary key, cat text, aid int, b int, x int, y int, n numeric);
create table u (id int primary key, rid int, x int, k int, o int, code text, mid int);
create table v (id int primary key, pid int, rid int, y int, k int);
create table p (id int primary key, name text);
create table m (id int primary key, rid int);
create table t (id int primary key, code text, v int, uid int);
"""


@pytest.fixture
async def db(database: str) -> AsyncIterator[Rows]:
    async with rows(database, SCHEMA) as made:
        yield made


async def test_a_group_of_the_nullable_side_and_the_null_group(db: Rows) -> None:
    view = await db.plan(
        "select a.x, count(*) from r left join a on a.id = r.aid group by a.x"
    )
    await db.run("insert into r values (1, 'c', 7)")
    found, changed = await db.change(view, "insert into a values (7, 5, true)")
    assert changed == {("5",), (None,)} <= found


async def test_a_row_whose_partner_does_not_count_is_in_the_null_group(
    db: Rows,
) -> None:
    view = await db.plan(
        "select a.x, count(*) from r left join a on a.id = r.aid and a.active "
        "group by a.x"
    )
    await db.run("insert into a values (7, 5, false)")
    found, changed = await db.change(view, "insert into r values (1, 'c', 7)")
    assert changed == {(None,)} <= found


async def test_a_key_of_two_tables_is_refused_and_a_part_of_it_is_not(
    db: Rows,
) -> None:
    query = (
        "select r.cat, a.x, count(*) from r join a on a.id = r.aid group by r.cat, a.x"
    )
    with pytest.raises(QueryRefusal, match="several tables: cat, x") as refusal:
        await db.plan(query)
    assert 'key = ["cat"]' in refusal.value.hint
    view = await db.plan(query, key=("cat",))
    await db.run("insert into a values (7, 5, true)")
    await db.run("insert into r values (1, 'c', 7)")
    found, changed = await db.change(
        view, "update a set x = 6", "update r set cat = 'd'"
    )
    assert changed == {("c",), ("d",)} <= found


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("select r.id, r.b in (select u.rid from u) as f from r", "u"),
        (
            (
                "select r.id, (select count(*) from p left join v on v.pid = p.id "
                "and v.rid = r.id) from r"
            ),
            "p",
        ),
        (
            (
                "select r.id, t.v from r left join u on u.rid = r.id "
                "left join t on t.code = coalesce(u.code, 'd')"
            ),
            "t",
        ),
        ("select r.id from r where r.x > all (select v from t)", "t"),
        ("select r.id from r where r.x not in (select v from t)", "t"),
        (
            (
                "select r.id from r join (select max(rid) m from u group by x) q "
                "on q.m = r.id"
            ),
            "u",
        ),
        ("select r.id from r join u on u.x = 1 and r.b = 2", "u"),
        ("select r.id, (select max(v) from t) from r", "t"),
        ("select r.id from r where r.x > (select min(v) from t)", "t"),
        (
            (
                "select r.id from r where case when r.x = 1 then r.b in "
                "(select u.rid from u) end"
            ),
            "u",
        ),
        (
            "select r.id, q.n from r join (select count(*) n from u) q on q.n = r.x",
            "u",
        ),
        (
            (
                "select r.id, q.x from r join (select x, rid from u "
                "order by id limit 3) q on q.rid = r.id"
            ),
            "u",
        ),
        (
            (
                "select r.id, q.rk from r join (select rid, "
                "rank() over (order by x) rk from u) q on q.rid = r.id"
            ),
            "u",
        ),
    ],
)
async def test_what_no_way_leads_from_is_refused_by_name(
    db: Rows, query: str, table: str
) -> None:
    with pytest.raises(QueryRefusal, match=rf"a change of public\.{table} ") as refusal:
        await db.plan(query)
    at = refusal.value.at
    assert at is not None
    assert query[at:].startswith(f"{table}")


async def test_two_links_that_change_at_once(db: Rows) -> None:
    view = await db.plan(
        "select r.id, u.id as u, v.id as v from r join u on u.x = r.x "
        "join v on v.y = r.y and v.k = u.k"
    )
    await db.run("insert into r values (1, 'c', 7, 0, 2, 3)")
    await db.run("insert into u values (1, 0, 2, 9)")
    await db.run("insert into v values (1, 0, 0, 3, 9)")
    found, changed = await db.change(
        view, "update u set k = 1, x = 8", "update v set k = 2, y = 8"
    )
    assert changed == {("1",)} <= found


async def test_a_key_behind_a_limit_is_refused(db: Rows) -> None:
    with pytest.raises(QueryRefusal, match="x is not a plain column to group by"):
        await db.plan(
            "select q.x, count(*) from r join lateral (select u.x from u "
            "where u.rid = r.id order by u.o, u.id limit 1) q on true group by q.x"
        )


async def test_a_limit_beneath_a_link_is_followed(db: Rows) -> None:
    view = await db.plan(
        "select r.id, q.x from r join m on m.rid = r.id join lateral "
        "(select u.x from u where u.mid = m.id order by u.o, u.id limit 1) q on true"
    )
    await db.run("insert into r values (1), (2)")
    await db.run("insert into m values (5, 1), (6, 2)")
    await db.run("insert into u values (1, 0, 10, 0, 5, null, 5)")
    found, changed = await db.change(
        view, "insert into u values (2, 0, 11, 0, 4, null, 5)"
    )
    assert changed == {("1",)} == found


async def test_a_link_that_holds_for_nulls_leads_on_only_where_there_is_a_row(
    db: Rows,
) -> None:
    view = await db.plan(
        "select r.id, t.v from r join u on u.rid = r.id "
        "left join t on t.code = coalesce(u.code, 'd')"
    )
    await db.run("insert into r values (1)")
    await db.run("insert into u values (1, 1)")
    found, changed = await db.change(view, "insert into t values (1, 'd', 5)")
    assert changed == {("1",)} <= found


async def test_numbers_that_are_one_group_and_two_texts(db: Rows) -> None:
    with pytest.raises(QueryRefusal, match="n is numeric") as refusal:
        await db.plan("select n, count(*) from r group by n")
    assert "n::text" in refusal.value.hint
    view = await db.plan("select n::text as n, count(*) from r group by n::text")
    await db.run("insert into r (id, n) values (1, 1.0), (2, 1.00)")
    assert set(await db.documents(view)) == {("1.0",), ("1.00",)}
    found, changed = await db.change(view, "delete from r where id = 1")
    assert changed == {("1.0",)} <= found


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select id from r order by x, id limit 10", "limit"),
        ("select id, rank() over (order by x) from r", "windows"),
        ("select count(*) from r", "without a key"),
        ("select id from r union all select id from u", "several roots"),
        ("select r.id from r full join u on u.rid = r.id", "full join"),
    ],
)
async def test_what_depends_on_all_rows_is_refused(
    db: Rows, query: str, why: str
) -> None:
    with pytest.raises(QueryRefusal, match=why):
        await db.plan(query)


async def test_a_row_in_the_middle_moves_with_what_it_stands_on(db: Rows) -> None:
    """t moves to another u, and that u to another r, in one transaction."""
    view = await db.plan(
        "select r.id, (select count(*) from u join t on t.uid = u.id "
        "where u.rid = r.id) n from r"
    )
    await db.run("insert into r values (1), (2), (3)")
    await db.run("insert into u values (1, 1), (2, 2)")
    await db.run("insert into t values (1, 'x', 0, 1)")
    found, changed = await db.change(
        view, "update t set uid = 2", "update u set rid = 3 where id = 2"
    )
    assert changed == {("1",), ("3",)}
    assert found == {("1",), ("2",), ("3",)}


async def test_a_condition_beside_the_link_needs_no_old_value(db: Rows) -> None:
    view = await db.plan(
        "select r.id, u.x from r join u on u.rid = r.id and u.code = 'on'"
    )
    [use] = [t for t in view.plan.tables if t.table.name == "u"]
    assert use.identity == {"rid"}
    assert use.columns == {"rid", "x", "code"}


async def test_an_outer_join_beside_the_way_loses_no_root(db: Rows) -> None:
    view = await db.plan(
        "select r.id, u.x, t.v from r join u on u.rid = r.id "
        "left join t on t.uid = u.id"
    )
    await db.run("insert into r values (1)")
    found, changed = await db.change(view, "insert into u values (1, 1, 5)")
    assert changed == {("1",)} == found


async def test_two_references_to_one_table_are_followed_each(db: Rows) -> None:
    view = await db.plan(
        "with big as (select * from u where x > 1) "
        "select r.id, (select count(*) from big where big.rid = r.id) n, "
        "(select sum(big.x) from big where big.mid = r.id) s from r"
    )
    await db.run("insert into r values (1), (2)")
    found, changed = await db.change(
        view, "insert into u values (1, 1, 5, 0, 0, null, 2)"
    )
    assert changed == {("1",), ("2",)} == found


async def test_the_rows_of_others_are_left_alone(db: Rows) -> None:
    view = await db.plan(
        "select r.id, (select count(*) from u where u.rid = r.id) n from r"
    )
    await db.run("insert into r select g from generate_series(1, 50) g")
    found, _ = await db.change(view, "insert into u values (1, 7)")
    assert found == {("7",)}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select r.id, r.xmin::text as version from r", "versions of a row"),
        (
            "select r.id, s.n from r cross join (values ((select max(v) from t))) s(n)",
            r"a change of public\.t ",
        ),
        ("select j.a from (r join u on u.rid = r.id) as j(a)", "name of its own"),
        ("select id, x from r group by rollup (id, x)", "several groupings"),
        ("select ctid, id from r", "versions of a row"),
        ("select r.id, r.id as n, x as id from r", "two output columns are called id"),
    ],
)
async def test_what_is_not_read_is_refused(db: Rows, query: str, why: str) -> None:
    with pytest.raises(QueryRefusal, match=why):
        await db.plan(query)


async def test_a_with_that_nothing_refers_to_does_not_count(db: Rows) -> None:
    view = await db.plan(
        "with idle as (select * from u), more as (select * from idle) "
        "select r.id from r"
    )
    assert [use.table.name for use in view.plan.tables] == ["r"]
