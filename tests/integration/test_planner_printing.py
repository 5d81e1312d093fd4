"""What Postgres prints of a query does not always say which operators it has: then
another text would be read, and the query is refused rather than followed otherwise.

    using, is distinct from, in (…)     name no operator at all
    (a, b) in (select …), (a, b) < …    name one for all columns
"""

from __future__ import annotations

import pytest

from bridge.errors import QueryRefusal
from tests.integration.planner_rows import rows

SCHEMA = """
create schema ext;
create extension citext schema ext;
set search_path = public, ext;
create table r (id int primary key, c ext.citext, n text);
create table u (id int primary key, c ext.citext, n text);
create view by_using as select r.id from r join u using (c);
create view by_rows as select r.id from r where (r.n, r.c) in (select n, c from u);
create view apart as select r.id from r join u on r.c is not distinct from u.c;
create view written as select r.id from r join u on r.c = u.c;
set search_path = public;
"""
_VIEW = "select r.id, (select count(*) from {} v where v.id = r.id) n from r"


async def test_views_whose_print_is_read_otherwise_are_refused(
    any_database: str,
) -> None:
    """Made where an extension's schema was looked into, read where it is not."""
    async with rows(any_database, SCHEMA) as db:
        await db.run("insert into r values (1, 'A', 'x')")
        for name in ("by_using", "by_rows", "apart"):
            with pytest.raises(QueryRefusal, match=f"view public.{name} is read other"):
                await db.plan(_VIEW.format(name))
            # The way out: the schema is looked into.
            await db.plan(_VIEW.format(name), search_path=("public", "ext"))
        view = await db.plan(_VIEW.format("written"))
        found, changed = await db.change(view, "insert into u values (1, 'a', 'x')")
        assert changed == {("1",)} == found


async def test_one_operator_that_is_printed_for_all_columns(any_database: str) -> None:
    async with rows(any_database, SCHEMA) as db:
        query = "select id from r where ({0}) in (select {0} from u)"
        for columns in ("c, n", "c, id"):
            with pytest.raises(QueryRefusal, match="the query is read otherwise"):
                await db.plan(query.format(columns), search_path=("public", "ext"))
        await db.plan(query.format("n, c"), search_path=("public", "ext"))
        await db.run("insert into r values (1, 'A', 'x')")
        each = "select id from r where exists (select from u where u.c = r.c and {})"
        view = await db.plan(each.format("u.n = r.n"), search_path=("public", "ext"))
        found, changed = await db.change(view, "insert into u values (1, 'a', 'x')")
        assert changed == {("1",)} == found
