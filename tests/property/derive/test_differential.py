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

from bridge.derive.levels import ALL, Rule
from tests.property.derive import families
from tests.property.derive.families import FAMILIES as ALL_FAMILIES
from tests.property.derive.grammar import Grammar
from tests.property.derive.traffic import History, drawn, shrunk
from tests.property.derive.world import Kept, World, follow, world

BUDGET_S = float(os.environ.get("PGBRIDGE_TEST_DERIVE_S", "5"))
QUERIES, ROUNDS = 40, 20


def queries(seed: int, family: str | None) -> list[str]:
    """The queries of one seed; `family` is one of the focused generators."""
    made = Grammar(Random(seed), ALL_FAMILIES)
    if family is None:
        return [made.query() for _ in range(QUERIES)]
    return [getattr(families, family)(made) for _ in range(QUERIES)]


async def described(
    made: World, seed: int, history: History, lost: list[tuple[Kept, BaseException]]
) -> str:
    """What was lost, and the least that loses the first of it."""
    told = [f"seed {seed}", *(f"{type(e).__name__}: {e}" for _, e in lost)]
    if lost:
        told.append(str(await least(made, lost[0][0], history)))
    return "\n\n".join(told)


async def least(made: World, view: Kept, history: History) -> History:
    """The part of a history that is enough for the view to lose a document."""

    async def loses(less: History) -> bool:
        return bool(await follow(made, [view], less))

    return await shrunk(history, loses)


async def ranges_give_the_whole(made: World, views: list[Kept]) -> None:
    for view in views:
        assert await made.scanned(view) == await made.truth(view), view.definition.query


async def test_no_change_is_missed(any_database: str, seed: int) -> None:
    deadline = time.monotonic() + BUDGET_S
    asked = followed = 0
    reasons: Counter[str] = Counter()
    async with world(any_database) as made:
        first = seed
        while seed == first or time.monotonic() < deadline:
            views = await made.plan(queries(seed, None))
            history = drawn(Random(seed), ROUNDS)
            lost = await follow(made, views, history)
            assert not lost, await described(made, seed, history, lost)
            await ranges_give_the_whole(made, views)
            asked += QUERIES
            followed += len(views)
            seed += 1
        reasons.update(message.split(" (as ")[0] for _, message in made.refused)
    print(f"seeds {first} to {seed - 1}: {asked} views, {followed} of them accepted")
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")
    assert followed > asked / 4, "nearly everything was refused: nothing was tested"


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
            asked = queries(seed, FAMILIES[rule])
            views = await made.plan(asked, ALL - {rule})
            if await follow(made, views, drawn(Random(seed), ROUNDS)):
                return
            seed += 1
    pytest.fail(f"documents are followed as well without {rule.name}")


FIRST = {
    Rule.ALIKE: 3,
    Rule.ONE_TREE: 6,
    Rule.KEY_BARRIERS: 2,
    Rule.POSITIVE: 8,
    Rule.BRANCHES: 3,
    Rule.ALWAYS: 8,
    Rule.TEXTS: 15,
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
            asked = queries(seed, FAMILIES[Rule.ALIKE])
            views = await made.plan(asked, ALL - {Rule.ALIKE})
            history = drawn(Random(seed), ROUNDS)
            lost = await follow(made, views, history)
            seed += 1
        found = await least(made, lost[0][0], history)
        assert await follow(made, [lost[0][0]], found)
        for less in found.fewer():
            assert not await follow(made, [lost[0][0]], less), str(less)
        assert len(str(found).splitlines()) < len(str(history).splitlines()) / 3


async def test_old_rows_are_needed(database: str) -> None:
    """The check itself: without old images a row that moves leaves its document."""
    async with world(database) as made:
        [view] = await made.plan(
            ["select r.id k, (select count(*) from u where u.a = r.id) n from r"]
        )
        await made.run("truncate r, u")
        await made.run("insert into r values (1), (2)")
        await made.run("insert into u values (1, 1)")
        view.copy = await made.truth(view)
        await made.images()
        await made.run("update u set a = 2")
        images = await made.images()
        [(oid, (old, new))] = images.items()
        assert await made.keys(view, {oid: [old, new]}) == {("1",), ("2",)}
        await made.apply(view, {oid: [new]})
        assert await made.truth(view) != view.copy
        await made.apply(view, {oid: [old]})
        assert await made.truth(view) == view.copy
