"""A document is read by its key, however the view is written, and not out of all."""

from __future__ import annotations

from tests.integration.planner_rows import Rows, rows

SCHEMA = """
create table book (id int primary key, title text, publisher int, price numeric);
create table publisher (id int primary key, name text);
create table review (id int primary key, book int, rating int, body text);
create index on book (publisher);
create index on review (book);
create view rating as select book, count(*) as n, max(rating) as best from review
    group by book;
insert into publisher select g, 'p' || g from generate_series(1, 2000) g;
insert into book
    select g, 't' || g, g % 2000 + 1, g from generate_series(1, 20000) g;
insert into review
    select g, g % 20000 + 1, g % 5, 'b' from generate_series(1, 40000) g;
analyze;
"""
VIEWS = {
    "plain": "select id, title from book where price > 3",
    "joins": "select b.id, p.name, (select json_agg(r.body order by r.id) from review "
    "r where r.book = b.id) l from book b join publisher p on p.id = b.publisher",
    "group by": "select b.id, count(r.id) n from book b left join review r "
    "on r.book = b.id group by b.id",
    "grouped view": "select b.id, r.n, r.best from book b left join rating r "
    "on r.book = b.id",
    "lateral": "select b.id, l.body from book b left join lateral (select r.body from "
    "review r where r.book = b.id order by r.rating desc, r.id limit 1) l on true",
    "distinct on": "select distinct on (book) book, id, rating from review "
    "order by book, id desc",
    "expression": "with x as materialized (select book, count(*) n from review "
    "group by book) select b.id, x.n, (select y.n from x y where y.book = b.id) m "
    "from book b left join x on x.book = b.id",
    "window": "select b.id, (select json_agg(q.body order by q.n) from (select book, "
    "body, row_number() over (partition by book order by id) n from review) q "
    "where q.book = b.id and q.n < 3) l from book b",
    "union": "select b.id, (select count(*) from (select book k, id from review union "
    "all select id, id from book) q where q.k = b.id) n from book b",
    "group of another": "select p.id, p.name, avg(b.price) from publisher p "
    "left join book b on b.publisher = p.id group by p.id",
}


async def plan_of(db: Rows, statement: str, *parameters: object) -> str:
    await db.run("set plan_cache_mode = force_generic_plan")
    lines = await db.run(f"explain {statement}", *parameters)
    return "\n".join(line for (line,) in lines)


async def test_no_table_is_read_whole_for_some_keys(any_database: str) -> None:
    async with rows(any_database, SCHEMA) as db:
        for name, query in VIEWS.items():
            plan = (await db.plan(query)).plan
            found = await plan_of(db, plan.documents_sql, ["1", "2"])
            assert "Seq Scan" not in found, f"{name}\n{found}"
            for key_query in plan.key_queries:
                if key_query.sql is not None:
                    images = [["1", "2"]] * len(key_query.columns)
                    found = await plan_of(db, key_query.sql, *images)
                    assert "Seq Scan" not in found, f"{name}\n{found}"


async def test_a_range_of_groups_is_not_all_of_them(any_database: str) -> None:
    async with rows(any_database, SCHEMA) as db:
        for name in ("grouped view", "expression", "lateral", "joins", "group by"):
            plan = (await db.plan(VIEWS[name])).plan
            await db.run("set plan_cache_mode = force_custom_plan")
            lines = await db.run(f"explain {plan.scan_sql}", ["100"], ["160"])
            found = "\n".join(line for (line,) in lines)
            assert "Seq Scan on review" not in found, f"{name}\n{found}"
            keys = [r[0] for r in await db.run(plan.scan_sql, ["100"], ["160"])]
            assert keys == [str(key) for key in range(101, 161)]
            [bound] = await db.run(plan.boundary_sql, ["100"], 60)
            assert bound == (["160"],)
            assert await db.run(plan.boundary_sql, ["19990"], 11) == []
