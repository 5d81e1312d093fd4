"""Random queries under random traffic: no document that changed is missed.

PGBRIDGE_TEST_DERIVE_S is how many seconds to look for (default 5). The seed of what
fails is printed: `pytest … --seed N` begins with it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random

import pytest

from bridge.derive.levels import ALL, Rule, Rules
from tests.property.derive import families
from tests.property.derive.drawing import drawn_schema
from tests.property.derive.families import FAMILIES as ALL_FAMILIES
from tests.property.derive.grammar import Asked, Grammar
from tests.property.derive.kinds import CITEXT, INT, PATH
from tests.property.derive.schema import FIXED, Column, Schema, Table
from tests.property.derive.shrinking import shrunk, simplest
from tests.property.derive.traffic import History, drawn
from tests.property.derive.world import Images, Kept, World, follow, world

BUDGET_S = float(os.environ.get("PGBRIDGE_TEST_DERIVE_S", "5"))
QUERIES, ROUNDS = 40, 20


def queries(dice: Random, schema: Schema, family: str | None = None) -> list[Asked]:
    """Queries over a schema; `family` is one of the focused generators."""
    made = Grammar(dice, schema, ALL_FAMILIES)
    if family is None:
        return [made.asked() for _ in range(QUERIES)]
    return [Asked(getattr(families, family)(made)) for _ in range(QUERIES)]


async def described(
    made: World, seed: int, history: History, lost: list[tuple[Kept, BaseException]]
) -> str:
    """What was lost, and the least that loses the first of it."""
    told = [f"seed {seed}", *(f"{type(e).__name__}: {e}" for _, e in lost)]
    if lost:
        tables = made.schema.statements(made.connection.info.server_version)
        views = [view.statement for view in made.schema.views]
        told += ["of these tables:", *tables, *views, "the least is:"]
        told += map(str, await least(made, *lost[0], history))
    return "\n\n".join(told)


async def least(
    made: World,
    view: Kept,
    error: BaseException,
    history: History,
    rules: Rules = ALL,
) -> tuple[str, History]:
    """The parts of a query and of a history that are enough to lose a document."""
    last = view

    async def loses(less: History) -> bool:
        lost = await follow(made, [last], less)
        return bool(lost) and type(lost[0][1]) is type(error)

    async def losing(queries: list[str]) -> str | None:
        nonlocal last
        before, key = last, view.definition.key
        for last in await made.plan([Asked(query, key) for query in queries], rules):
            if await loses(history):
                return last.definition.query
        last = before
        return None

    history = await shrunk(history, loses)
    query = await simplest(str(view.definition.query), losing)
    return query, await shrunk(history, loses)


async def ranges_give_the_whole(made: World, views: list[Kept]) -> None:
    for view in views:
        assert await made.scanned(view) == await made.truth(view), view.definition.query


class Tally:
    """How many views were asked for, and what became of them."""

    def __init__(self) -> None:
        self.asked = self.followed = 0
        self.reasons: Counter[str] = Counter()

    async def run(self, dsn: str, schema: Schema, seed: int) -> None:
        """The queries and the traffic of one seed."""
        dice = Random(seed)
        async with world(dsn, schema) as made:
            views = await made.plan(queries(dice, made.schema))
            history = drawn(dice, made.schema, ROUNDS)
            lost = await follow(made, views, history)
            assert not lost, await described(made, seed, history, lost)
            await ranges_give_the_whole(made, views)
        self.asked += QUERIES
        self.followed += len(views)
        self.reasons.update(_reason(message) for _, message in made.refused)

    def tell(self, seeds: str) -> None:
        """Print it."""
        print(f"{seeds}: {self.asked} views, {self.followed} of them accepted")
        for reason, count in self.reasons.most_common():
            print(f"{count:6} {reason}")

    def check(self) -> None:
        """Many views must have been followed."""
        assert self.followed > self.asked / 5, "nearly all was refused, not tested"


def _reason(message: str) -> str:
    return message.split(" (as ", maxsplit=1)[0]


async def test_no_change_is_missed(any_database: str, seed: int) -> None:
    """Over the same tables again and again, and over tables drawn by each seed."""
    deadline = time.monotonic() + BUDGET_S
    tally, at = Tally(), seed
    try:
        while at == seed or time.monotonic() < deadline:
            await tally.run(any_database, FIXED, at)
            await tally.run(any_database, drawn_schema(Random(at)), at)
            at += 1
    finally:
        tally.tell(f"seeds {seed} to {at - 1}")
    tally.check()


FAMILIES = {
    Rule.COPIES: "twice",
    Rule.BARRIERS: "displaced",
    Rule.FILTERS: "preserved",
    Rule.STRICT: "non_strict",
    Rule.ALIKE: "groups",
    Rule.NULL_GROUP: "groups",
    Rule.ONE_TREE: "circles",
    Rule.KEY_BARRIERS: "displaced",
    Rule.POSITIVE: "either",
    Rule.BRANCHES: "unions",
    Rule.ALWAYS: "one_row",
    Rule.TEXTS: "folded",
}
"""The generator that finds out soonest when a sentence is left out."""
MUTANT_S = 90
"""How long a mutant may live; most die within two seconds."""


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name)
async def test_without_this_sentence_documents_are_lost(
    database: str, rule: Rule
) -> None:
    deadline = time.monotonic() + MUTANT_S
    seed = FIRST.get(rule, 1)
    async with world(database) as made:
        while time.monotonic() < deadline:
            asked = queries(Random(seed), FIXED, FAMILIES[rule])
            views = await made.plan(asked, ALL - {rule})
            history = drawn(Random(seed), FIXED, ROUNDS)
            if await follow(made, views, history, enough=1):
                return
            seed += 1
    pytest.fail(f"documents are followed as well without {rule.name}")


FIRST = {
    Rule.ALIKE: 4,
    Rule.ONE_TREE: 2,
    Rule.KEY_BARRIERS: 6,
    Rule.POSITIVE: 4,
}
"""Seeds that are known to catch a mutant at once."""


async def test_what_is_lost_is_shown_with_the_least_that_loses_it(
    database: str,
) -> None:
    """Without a rule that needs three rows: few statements of sixty are left."""
    async with world(database) as made:
        seed = FIRST[Rule.ALIKE]
        lost: list[tuple[Kept, BaseException]] = []
        while not lost:
            asked = queries(Random(seed), FIXED, FAMILIES[Rule.ALIKE])
            views = await made.plan(asked, ALL - {Rule.ALIKE})
            history = drawn(Random(seed), FIXED, ROUNDS)
            lost = await follow(made, views, history, enough=1)
            seed += 1
        rules = ALL - {Rule.ALIKE}
        query, found = await least(made, *lost[0], history, rules)
        [view] = await made.plan([Asked(query)], rules)
        assert await follow(made, [view], found)
        for less in found.fewer():
            assert not await follow(made, [view], less), str(less)
        assert len(str(found).splitlines()) < len(str(history).splitlines()) / 3
        assert len(query) < len(str(lost[0][0].definition.query))


async def test_ranges_of_keys_whose_operators_are_in_several_schemas(
    database: str,
) -> None:
    """A number and an ltree, in a schema that no search path has: one row comparison
    finds the operators of one of them alone."""
    columns = (Column("n", INT), Column("way", PATH), Column("at", CITEXT))
    table = Table("t", columns, (("way", "n"), ("at", "n")))
    async with world(database, Schema((table,), extensions="ext")) as made:
        await made.fill(
            f"insert into t values ({n}, '{way}', '{at}')"
            for n in (1, 2)
            for way, at in (("a", "a"), ("a.b", "B"), ("b", "c"), ("a.a", "D"))
        )
        views = await made.plan(
            [
                Asked("select t.way, t.n from t"),
                Asked("select t.n, t.at from t", ("at", "n")),
            ]
        )
        assert len(views) == 2
        await ranges_give_the_whole(made, views)


async def test_an_output_that_is_two_columns_of_the_key_is_in_it_once(
    database: str,
) -> None:
    """Where these are equal in every row, and only one of them is given out."""
    columns = tuple(Column(name, INT, not_null=True) for name in "abc")
    table = Table("t", columns, (("a", "b", "c"),))
    async with world(database, Schema((table,))) as made:
        views = await made.plan(
            [
                Asked("select t.a as x, t.c as y from t where t.a = t.b"),
                Asked("select t.c, t.b, t.a from t where t.a = t.b"),
                Asked(
                    "select t.a, t.c, s.b from t join t s on (s.a, s.a) = (t.a, t.b)"
                ),
            ]
        )
        keys = [view.planned.plan.shape.key for view in views]
        assert keys == [("x", "y"), ("a", "b", "c"), ("a", "c")]
        assert not await follow(made, views, drawn(Random(1), made.schema, ROUNDS))
        await ranges_give_the_whole(made, views)


async def test_a_key_that_the_view_alone_has_once_is_read_once(database: str) -> None:
    """Where the query leaves out the other rows of its table with that value."""
    columns = (Column("id", INT), Column("code", INT, not_null=True), Column("n", INT))
    table = Table("t", columns, (("id",),))
    counts = "select r.n, count(*) as c from t r group by r.n"
    query = f"select t.code, q.c from t join ({counts}) q on q.n = t.n where t.id > 1"
    async with world(database, Schema((table,))) as made:
        await made.fill(f"insert into t values ({n}, {n % 2}, 1)" for n in (1, 2, 3))
        views = await made.plan([Asked(query, ("code",))])
        assert len(await made.truth(views[0])) == 2
        await ranges_give_the_whole(made, views)


async def test_old_rows_are_needed(database: str) -> None:
    """The check itself: without old images a row that moves leaves its document."""
    async with world(database) as made:
        [view] = await made.plan(
            [Asked("select r.id k, (select count(*) from u where u.a = r.id) n from r")]
        )
        await made.run("truncate r, u")
        await made.run("insert into r values (1), (2)")
        await made.run("insert into u values (1, 1)")
        view.copy = await made.truth(view)
        await made.images()
        await made.run("update u set a = 2")
        images = await made.images()
        [(oid, (old, new))] = images.rows.items()
        assert await made.keys(view, Images({oid: [old, new]})) == {("1",), ("2",)}
        await made.apply(view, Images({oid: [new]}))
        assert await made.truth(view) != view.copy
        await made.apply(view, Images({oid: [old]}))
        assert await made.truth(view) == view.copy
