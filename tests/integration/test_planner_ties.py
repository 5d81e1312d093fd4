"""Values that are equal and written differently: what may show them, and what not.

Everything here is asked of Postgres 18 and of 15.
"""

from __future__ import annotations

import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import FeatureNotSupported

from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.errors import QueryRefusal

TABLES = """
create extension citext;
create extension ltree;
create type pair as (n numeric, t text);
create type exact_pair as (n int, t text);
create table r (id int primary key);
create table u (
    id int primary key, rid int not null, other int, n numeric, p numeric(10, 2),
    i int, t text, ts timestamptz, f float8, c citext, v interval, b bpchar,
    fixed char(4), l ltree, j jsonb, blind text, ns numeric[],
    nr numrange, ir int4range, tt text[], pair pair, exact exact_pair,
    own citext not null unique, nm nummultirange);
"""
BLIND = """
create collation blind
  (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
alter table u alter blind type text collate blind
"""
"""Not every build of Postgres has ICU."""
SEVERAL = ("n", "f", "c", "v", "b", "j", "blind", "ns", "nr", "pair", "nm")
ONE = ("id", "p", "i", "t", "ts", "fixed", "l", "ir", "tt", "exact", "own")
_OF = "(select {} from u where u.rid = r.id)"

REFUSED = (
    *(f"array_agg(u.{c} order by u.{c})" for c in SEVERAL),
    *(f"json_agg(u.{c} order by u.{c})" for c in SEVERAL),
    *(f"array_agg(distinct u.{c})" for c in SEVERAL),
    "string_agg(u.c::text, ',' order by u.c)",
    "json_agg(json_build_object('n', u.n) order by u.n)",
    "array_agg(u.n * 2 order by u.n * 2)",
    "sum(distinct u.n)",
    "array_agg(u.n order by u.n, u.i)",
    "min(u.c)",
    "max(u.v)",
    "min(u.blind)",
    "mode() within group (order by u.c)",
)
ACCEPTED = (
    *(f"array_agg(u.{c} order by u.{c})" for c in ONE),
    *(f"array_agg(distinct u.{c})" for c in ONE),
    *(
        f"array_agg(u.{c} order by u.{c}, u.{c}::text)"
        for c in SEVERAL
        if c not in ("b", "blind")
    ),
    'array_agg(u.blind order by u.blind, u.blind collate "C")',
    "array_agg(u.n order by u.n, u.id)",
    "json_agg(json_build_object('t', u.t, 'n', u.n) order by u.n)",
    "array_agg(u.t order by u.i)",
    "array_agg(distinct u.n::text)",
    "array_agg(distinct u.c::text)",
    "count(distinct u.n)",
    "sum(u.n)",
    "sum(distinct u.p)",
    "max(u.n)",
    "min(u.f)",
    "max(u.c::text)",
)
_FROM = "select r.id, (select {} from ({}) q where q.rid = r.id) a from r"
_LIST = "array_agg(q.x order by q.x)"
ROOTS_REFUSED = (
    _FROM.format(
        _LIST, "select u.c x, u.rid from u union all select u.own, u.other from u"
    ),
    _FROM.format(_LIST, "select u.n * 2 as x, u.rid from u"),
    _FROM.format(
        _LIST, "select u.i x, u.rid from u union all select u.n, u.other from u"
    ),
    _FROM.format(
        _LIST, "select u.i x, u.rid from u union all select u.p, u.other from u"
    ),
    # Each has one text alone, and both together several.
    _FROM.format(
        "string_agg(q.x::text, ',' order by q.x::text)",
        "select u.i x, u.rid from u union select u.p, u.other from u",
    ),
    (
        "select r.id, (select json_agg(q.c::text order by q.c::text) from "
        "(select u.c from u where u.rid = r.id group by u.c) q) a from r"
    ),
    (
        "select r.id, (select json_agg(q.v::text order by q.v::text) from "
        "(select distinct u.v from u where u.rid = r.id) q) a from r"
    ),
    "select r.id, (select u.c from u where u.rid = r.id order by u.c limit 1) a from r",
)
ROOTS_ACCEPTED = (
    _FROM.format(
        _LIST, "select u.i x, u.rid from u union all select u.id, u.other from u"
    ),
    _FROM.format(
        _LIST, "select u.p x, u.rid from u union all select u.p, u.other from u"
    ),
    _FROM.format(_LIST, "select u.i * 2 as x, u.rid from u"),
    _FROM.format(
        "json_agg(q.x order by q.x)",
        "select u.i x, u.rid from u union select u.i, u.other from u",
    ),
    (
        "select u.id, u.n, u.c, count(*) from u join r on r.id = u.rid "
        "group by u.id, u.n, u.c"
    ),
    (
        "select r.id from r where exists (select u.c from u where u.rid = r.id "
        "group by u.c)"
    ),
    (
        "select r.id, (select json_agg(q.c order by q.c) from (select u.c::text as c "
        "from u where u.rid = r.id group by u.c::text) q) a from r"
    ),
    (
        "select r.id, (select count(*) from (select lower(u.t) from u "
        "where u.rid = r.id group by lower(u.t)) q) a from r"
    ),
    (
        "select r.id, (select u.c from u where u.rid = r.id "
        "order by u.c, u.id limit 1) a from r"
    ),
)


async def test_what_shows_one_of_equal_values_by_chance_is_refused(
    any_database: str,
) -> None:
    refused = [f"select r.id, {_OF.format(a)} a from r" for a in REFUSED]
    accepted = [f"select r.id, {_OF.format(a)} a from r" for a in ACCEPTED]
    refused += ROOTS_REFUSED
    accepted += ROOTS_ACCEPTED
    views = [
        ViewDefinition(f"v{i}", query=q) for i, q in enumerate([*refused, *accepted])
    ]
    connection = await AsyncConnection.connect(
        any_database, autocommit=True, cursor_factory=AsyncRawCursor
    )
    async with connection:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                await connection.execute(statement.encode())
        try:
            for statement in BLIND.split(";\n"):
                await connection.execute(statement.encode())
        except FeatureNotSupported:
            views = [v for v in views if "blind" not in str(v.query)]
        catalog = await read_definitions(connection, views, ["public"])
    wrong = []
    for view in views:
        query = view.query
        assert query is not None
        try:
            plan_view(view, catalog)
        except QueryRefusal as refusal:
            if query in accepted:
                wrong.append(f"{query}: refused: {refusal.message}")
            elif refusal.at is None or not refusal.hint:
                wrong.append(f"{query}: no place or way out: {refusal.message}")
        else:
            if query in refused:
                wrong.append(f"{query}: accepted")
    if wrong:
        pytest.fail("\n".join(wrong))
