"""One document, however it is read: the same bytes under other settings of the role and
the database, by other plans, from rows in another order, by parallel workers.

Each reading is of every view, by its keys and by ranges, on a session as the bridge
opens it. PGBRIDGE_TEST_READINGS is how many there are (default 12).
"""

from __future__ import annotations

import os
from hashlib import sha256
from random import Random

import psycopg
from psycopg import AsyncConnection, sql

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.derive.view import ViewPlan
from bridge.source.postgres import connect

READINGS = int(os.environ.get("PGBRIDGE_TEST_READINGS", "12"))
SCHEMA = """
create extension citext;
create table category (id int primary key, name citext not null, weird "char");
create table product (id int primary key, category_id int not null, title text,
    price numeric not null, weight float8, size float4, made timestamptz, day date,
    lasts interval, picture bytea, tags text[], cost money, more jsonb, at time,
    span tstzrange, blank char(6), odd "char");
create table review (id int primary key, product_id int not null, rating int,
    body text, written timestamp);
create index on product (category_id);
create index on review (product_id);
create index on review (rating);
insert into category select g, 'Kind ' || g, 'x' from generate_series(1, 9) g;
insert into product select g, g % 9 + 1, 'a title' || g, g * 1.10, 1.0 / g, 0.1 * g,
    '2024-01-01Z'::timestamptz + g * interval '17 hours', '2024-02-03'::date + g,
    g * interval '25 hours', decode(lpad(to_hex(g), 4, '0'), 'hex'),
    array['b', null, 'NULL'], g::money, jsonb_build_object('g', g), '10:11:12'::time,
    tstzrange('2024-01-01Z', '2024-01-02Z'), 'ab', 'y'
  from generate_series(1, 200) g;
insert into review select g, g % 200 + 1, g % 5, 'body ' || g,
    '2024-01-01'::timestamp + g * interval '1 hour' from generate_series(1, 3000) g;
analyze;
"""
VIEWS = {
    "plain": "select * from product",
    "texts": "select id, made::text, lasts::text, weight::text, picture::text, "
    "format('%I %s', title, day) q, quote_ident('x' || id) i, cost::text, span::text, "
    "to_char(made, 'TMMonth Day HH24:MI TZ') m, to_char(price, '9D99L') n, "
    "date_trunc('day', made) d, extract(hour from made) h, "
    "title = null as never, '{null}'::text[] as one, blank || '|' as b from product",
    "nested": "select p.id, p.title, c.name, (select json_agg(json_build_object("
    "'rating', r.rating, 'body', r.body, 'at', r.written) order by r.id) from review r "
    "where r.product_id = p.id) reviews from product p "
    "join category c on c.id = p.category_id",
    "grouped": "select c.id, count(*) n, sum(p.price) s, avg(p.price) a, "
    "max(p.made) m, sum(p.weight order by p.id) w, jsonb_object_agg(p.id, p.title) t, "
    "array_agg(distinct p.day) days from category c "
    "join product p on p.category_id = c.id group by c.id",
    "chosen": "select p.id, l.body, array(select r.body from review r where "
    "r.product_id = p.id order by r.rating, r.id) bodies from product p left join "
    "lateral (select r.body from review r where r.product_id = p.id "
    "order by r.rating desc, r.id limit 1) l on true",
    "window": "select p.id, (select json_agg(q.n order by q.id) from (select id, "
    "product_id, row_number() over (partition by product_id order by rating, id) n "
    "from review) q where q.product_id = p.id) l from product p",
}
SETTINGS = {
    "TimeZone": ("Asia/Kathmandu", "America/St_Johns"),
    "DateStyle": ("German, DMY", "SQL, DMY", "Postgres, YMD"),
    "IntervalStyle": ("sql_standard", "postgres_verbose"),
    "extra_float_digits": ("-10", "3"),
    "bytea_output": ("escape",),
    "xmlbinary": ("hex",),
    "xmloption": ("document",),
    "quote_all_identifiers": ("on",),
    "transform_null_equals": ("on",),
    "array_nulls": ("off",),
    "timezone_abbreviations": ("Australia",),
    "client_encoding": ("LATIN1",),
    "search_path": ("nowhere", '"$user", pg_temp'),
    "default_text_search_config": ("pg_catalog.german",),
    "standard_conforming_strings": ("off",),
}
PLANS = {
    **{
        f"enable_{way}": ("off",)
        for way in "hashjoin mergejoin nestloop hashagg indexscan indexonlyscan "
        "bitmapscan sort seqscan material memoize incremental_sort".split()
    },
    "work_mem": ("64kB",),
    "jit": ("on",),
    "join_collapse_limit": ("1",),
    "from_collapse_limit": ("1",),
    "random_page_cost": ("0.01", "1000"),
}
PARALLEL = {
    "max_parallel_workers_per_gather": "4",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "min_parallel_index_scan_size": "0",
}
ORDERS = (
    "cluster review using review_rating_idx",
    "cluster review using review_pkey",
    "vacuum full product",
    "cluster product using product_category_id_idx",
    "update review set body = body where id % 3 = 0",
    "vacuum full review",
)


async def test_one_document_has_one_hash(any_database: str) -> None:
    with psycopg.connect(any_database, autocommit=True) as own:
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                own.execute(statement.encode())
        planned: dict[str, ViewPlan] = {}
        hashes: set[str] = set()
        dice = Random(7)
        for reading in range(READINGS):
            described = _unsettle(own, dice, reading)
            session = await connect(any_database, search_path=("public",))
            async with session:
                if reading % 5 in (0, 1):
                    planned = await _planned(session)
                for name, value in described.items():
                    if name in PLANS or name in PARALLEL:
                        await session.execute(
                            "select set_config($1, $2, false)", [name, value]
                        )
                hashes.add(await _hash(session, planned))
            assert len(hashes) == 1, f"reading {reading}, {described}"


def _unsettle(own: psycopg.Connection, dice: Random, reading: int) -> dict[str, str]:
    """Other settings and plans, now and then another order; what was chosen."""
    if reading % 4 == 3:
        own.execute(ORDERS[reading // 4 % len(ORDERS)].encode())
    chosen: dict[str, str] = {}
    if reading:
        for name, values in (SETTINGS | PLANS).items():
            if dice.random() < 0.5:
                chosen[name] = dice.choice(values)
        chosen |= PARALLEL if dice.random() < 0.5 else {}
    database = sql.Identifier(own.info.dbname)
    own.execute(sql.SQL("alter database {} reset all").format(database))
    for name, value in chosen.items():
        if name in SETTINGS:
            own.execute(
                sql.SQL("alter database {} set {} = {}").format(
                    database, sql.Identifier(name), sql.Literal(value)
                )
                if name != "search_path"
                else sql.SQL("alter database {} set search_path = ").format(database)
                + sql.SQL(value)  # type: ignore[arg-type]
            )
    return chosen


async def _planned(session: AsyncConnection) -> dict[str, ViewPlan]:
    definitions = [ViewDefinition(name, query=query) for name, query in VIEWS.items()]
    catalog = await read_definitions(session, definitions, ["public"])
    return {view.name: plan_view(view, catalog) for view in definitions}


async def _hash(session: AsyncConnection, plans: dict[str, ViewPlan]) -> str:
    """Of all documents by ranges; those of some keys must be among them."""
    digest = sha256()
    for name, plan in plans.items():
        cursor = await session.execute(plan.scan_sql.encode(), [None, None])
        scanned = [tuple(row) for row in await cursor.fetchall()]
        keys = [[row[0] for row in scanned[::7]]]
        cursor = await session.execute(plan.documents_sql.encode(), keys)
        by_key = sorted(tuple(row) for row in await cursor.fetchall())
        assert by_key == sorted(scanned[::7]), name
        for key, document in scanned:
            digest.update(f"{name} {key} {document}\n".encode())
    return digest.hexdigest()
