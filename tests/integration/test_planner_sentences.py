"""Each sentence of the algorithm that finds keys has a test that fails without it.

What is taken out as a mutant (`Rule`, in tests/property/derive/test_differential.py):

    each reference to a CTE or view is a copy of its own              COPIES
    of a group, window, limit only some columns mean something        BARRIERS
    an aggregate without `group by` gives a row of none               ALWAYS
    key columns move along equalities of inner joins, of one type     ALIKE
    every change gives the null key where K can be null               NULL_GROUP
    an edge filters x                                                 FILTERS
    it is strict in y, or y is there                                  STRICT
    only an AND-ed positive `exists` or `in` is a link                POSITIVE
    a link into one side of a union speaks for that side              BRANCHES
    key columns come out of a group only if it is by them             KEY_BARRIERS
    one tree                                                          ONE_TREE
    old images, those of the whole batch                test_old_rows_are_needed

The examples are in test_planner_examples.py, columns that the log must have in the
corpus, indexes and casts in test_planner_cost.py. Here is what is left: what would be
refused, or read wrongly, without its sentence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.errors import QueryRefusal
from tests.integration.planner_rows import Rows, rows

SCHEMA = """
create table r (id int primary key, x int, y int, code text);
create table u (id int primary key, rid int, x int, k int, code text);
create table v (id int primary key, y int, k int, o int);
create table t (id int primary key, code text, v int);
create view big as select id, rid, x from u where x > 1;
create view bigger as select id, rid, x from big where x > 2;
insert into r select g, g, g + 2, 'c' || g from generate_series(1, 3) g;
"""


@pytest.fixture
async def db(database: str) -> AsyncIterator[Rows]:
    async with rows(database, SCHEMA) as made:
        yield made


async def test_what_the_sentences_let_through_is_followed(db: Rows) -> None:
    """Each is accepted by one sentence, and the change that it is about is found."""
    for query, *changes in (
        # Each reference to a view is a copy: two ways from one table.
        (
            (
                "select r.id, (select count(*) from big b where b.rid = r.id) n, "
                "(select count(*) from bigger b where b.x = r.x) m from r"
            ),
            "insert into u values (1, 1, 3)",
        ),
        # An outer join is inner where a strict condition above needs its rows.
        (
            (
                "select r.id, t.v from r left join u on u.rid = r.id "
                "left join t on t.code = coalesce(u.code, 'd') where u.k is not null"
            ),
            "insert into u values (2, 2, 0, 1)",
            "insert into t values (1, 'd', 5)",
        ),
        # An expression or a range will do as a link.
        (
            (
                "select r.id, (select count(*) from u where u.x between r.x and r.y) n "
                "from r"
            ),
            "insert into u values (3, 0, 4)",
        ),
        (
            "select r.id, t.v from r join t on t.code = lower(r.code) || '!'",
            "insert into t values (2, 'c2!', 5)",
        ),
        # From outside inward any plain column is a link, behind a limit too.
        (
            (
                "select r.id, l.x, v.o from r join lateral (select u.x from u "
                "where u.rid = r.id order by u.id limit 1) l on true "
                "join v on v.y = l.x"
            ),
            "insert into u values (4, 3, 77)",
            "insert into v values (1, 77)",
        ),
        # A condition above a group counts on what it groups by.
        (
            (
                "select r.id, q.n from r join (select rid, count(*) n from u "
                "group by rid) q on q.rid = r.id"
            ),
            "insert into u values (5, 1)",
        ),
        # An AND-ed `exists` filters the outer rows that it names.
        (
            (
                "select r.id from r where exists (select from u join v on v.k = u.k "
                "where u.rid = r.id and v.y = r.y)"
            ),
            "insert into u values (6, 1, 0, 8)",
            "insert into v values (2, 3, 8)",
        ),
        # Conditions of `using` and natural joins are conditions.
        (
            "select id, u.rid, v.o from r join u using (id) join v using (id)",
            "insert into v values (6, 1, 1, 1) on conflict (id) do update set o = 9",
            "insert into r values (6)",
        ),
    ):
        view = await db.plan(query)
        for change in changes:
            found, changed = await db.change(view, change)
            assert changed <= found, query
        assert changed, f"nothing changed by {changes[-1]}: {query}"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        # The key is of a root that no outer join can null.
        ("select u.id, r.x from r left join u on u.rid = r.id", "no key among"),
        # `or` between links is none.
        (
            "select r.id, u.x from r join u on true join v on u.x = r.x or v.k = u.k",
            r"a change of public\.[uv] ",
        ),
        # A group's row has no way out but by what it is grouped by.
        (
            (
                "select r.id, q.id u from r join (select distinct on (x) x, id, rid "
                "from u order by x, id) q on q.rid = r.id"
            ),
            r"a change of public\.u ",
        ),
        (
            (
                "select r.id, q.m from r join (select k, max(rid) m from u group by k) "
                "q on q.m = r.id"
            ),
            r"a change of public\.u ",
        ),
        # `in` that is an output, or under `not`, `or` and `case`, is no link.
        ("select r.id, r.x in (select u.x from u) f from r", r"public\.u "),
        ("select r.id from r where not (r.x in (select u.x from u))", r"public\.u "),
        ("select r.id from r where r.x in (select x from u) or r.y = 1", r"public\.u "),
        # A full join, a recursion and a union of roots are not read at all.
        ("select r.id from r full join u on u.rid = r.id", "full join"),
        ("select id from r union select id from u", "several roots"),
    ],
)
async def test_what_a_sentence_keeps_out_is_refused(
    db: Rows, query: str, why: str
) -> None:
    with pytest.raises(QueryRefusal, match=why) as refusal:
        await db.plan(query)
    assert refusal.value.at is not None
    assert refusal.value.hint


async def test_keys_are_looked_for_in_one_hop_less_where_the_link_is_the_key(
    db: Rows,
) -> None:
    view = await db.plan(
        "select r.id, (select count(*) from u where u.rid = r.id) n from r"
    )
    [way] = [w for w in view.ways if w.occurrence.table.name == "u"]
    assert way.query.columns == ("rid",)
    assert "join" not in (way.query.sql or "")


async def test_a_null_safe_link_is_spelled_so_that_an_index_serves(db: Rows) -> None:
    view = await db.plan(
        "select r.id, u.k from r join u on u.x is not distinct from r.x"
    )
    [way] = [w for w in view.ways if w.occurrence.table.name == "u"]
    assert "distinct from" not in (way.query.sql or "").lower()
    found, changed = await db.change(view, "insert into u values (9, 0, 2)")
    assert changed == {("2",)} <= found
    await db.run("insert into r values (8, null)")
    found, changed = await db.change(view, "insert into u values (10, 0, null)")
    assert changed == {("8",)} <= found


async def test_a_cast_may_give_something_for_a_null(db: Rows) -> None:
    """Where somebody has made one, no cast makes an outer join an inner one."""
    query = (
        "select r.id, t.v from r left join u on u.rid = r.id "
        "left join t on t.code = coalesce(u.code, 'd') where u.k::mood = 'none'"
    )
    await db.run("create type mood as enum ('none', 'some')")
    await db.run(
        "create function mood(int) returns mood immutable language sql return "
        "case when $1 is null then 'none' else 'some' end::mood"
    )
    await db.run("create cast (int as mood) with function mood(int)")
    with pytest.raises(QueryRefusal, match=r"a change of public\.t "):
        await db.plan(query, functions=("public.mood",))
    await db.run("alter function mood(int) strict")
    await db.plan(query, functions=("public.mood",))


async def test_each_side_of_a_union_is_asked_whether_it_has_one_text(db: Rows) -> None:
    """A condition that sees texts counts above a union where each side's values, if
    they are equal, have one text."""
    view = await db.plan(
        "select r.id, (select count(*) from (select code from u union "
        "select code from t) q where lower(q.code) = r.code) n from r"
    )
    for change in (
        "insert into u values (7, 0, 0, 0, 'C1')",
        "insert into t values (7, 'C2')",
    ):
        found, changed = await db.change(view, change)
        assert changed and changed <= found
