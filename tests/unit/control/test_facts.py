"""What a difference of the catalog asks for: nothing, another plan, deriving again."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from bridge.control.facts import Difference, Facts, difference

TABLE, ROOT = "16400", "16500"
PLAIN: dict[str, Any] = {
    "table": ["public", "item", "p", False, False, False, True],
    "columns": [["id", 1, 20, -1, True, "", 0], ["name", 2, 25, -1, False, "", 100]],
    "altered": "d1",
    "partitioned": False,
    "published": [16600, "740", 16601],
    "branches": None,
    "leaves": {TABLE: [16400, "p", "d", "1"]},
}
PARTITIONED: dict[str, Any] = {
    **PLAIN,
    "partitioned": True,
    "branches": [16500],
    "joined": {"16501": "/750", "16502": "/750"},
    "identified": {"16501": ["760", ""], "16502": ["760", ""]},
    "leaves": {"16501": [16501, "p", "d", "1"], "16502": [16502, "p", "d", "1"]},
}
BEFORE: Facts = {TABLE: PLAIN, ROOT: PARTITIONED}


def changed(change: Callable[[Any], None]) -> Facts:
    now = deepcopy(BEFORE)
    change(now)
    return now


def put(table: str, *path: Any) -> Callable[[Any], None]:
    """Put the last of `path` where the others lead."""

    def change(facts: Any) -> None:
        place = facts[table]
        for step in path[:-2]:
            place = place[step]
        place[path[-2]] = path[-1]

    return change


def test_nothing_follows_from_what_is_as_it_was() -> None:
    assert difference(BEFORE, deepcopy(BEFORE)) == Difference()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(put(TABLE, "table", 1, "other"), id="renamed"),
        pytest.param(put(TABLE, "table", 0, "elsewhere"), id="another schema"),
        pytest.param(put(TABLE, "table", 3, True), id="row-level security"),
        pytest.param(put(TABLE, "table", 5, True), id="inherited from"),
        pytest.param(put(TABLE, "table", 6, False), id="no right to read"),
        pytest.param(put(TABLE, "columns", 1, 0, "title"), id="column renamed"),
        pytest.param(put(TABLE, "columns", 1, 2, 20), id="column type"),
        pytest.param(lambda f: f[TABLE]["columns"].pop(), id="column dropped"),
        pytest.param(put(TABLE, "leaves", TABLE, 2, "n"), id="identity"),
        pytest.param(put(TABLE, "leaves", TABLE, 3, None), id="identity index"),
        pytest.param(lambda f: f.pop(TABLE), id="dropped"),
    ],
)
def test_what_another_plan_may_follow_from(change: Callable[[Any], None]) -> None:
    found = difference(BEFORE, changed(change))
    assert found.plan
    assert not found.derive


@pytest.mark.parametrize(
    "published",
    [[16600, "740", 16999], [16600, "741", 16601], [16999, "740", 16601], None],
    ids=["added again", "altered", "made again", "gone"],
)
def test_a_publication_that_was_changed_may_have_lost_events(published: Any) -> None:
    found = difference(BEFORE, changed(put(TABLE, "published", published)))
    assert found.publication == found.derive == {TABLE}


def test_a_file_written_anew_is_a_rewrite_only_with_an_altered_column() -> None:
    """VACUUM FULL and CLUSTER leave every row as it was, and TRUNCATE is in the log."""
    refiled = changed(put(TABLE, "leaves", TABLE, 0, 17000))
    assert difference(BEFORE, refiled) == Difference()
    refiled[TABLE]["altered"] = "d2"
    assert difference(BEFORE, refiled).rows == {TABLE}


def test_an_altered_column_alone_moves_no_row() -> None:
    """SET STATISTICS, a column's GRANT."""
    assert difference(BEFORE, changed(put(TABLE, "altered", "d2"))) == Difference()


def test_a_partition_written_anew_may_have_been_truncated() -> None:
    """Under its root's name, that is not in the log."""
    refiled = changed(put(ROOT, "leaves", "16501", 0, 17000))
    assert difference(BEFORE, refiled).rows == {ROOT}


def test_a_partition_that_came_empty_is_nothing() -> None:
    came = changed(put(ROOT, "leaves", "16503", [16503, "p", "d", "1"]))
    assert difference(BEFORE, came, {"16503"}) == Difference()
    assert difference(BEFORE, came).rows == {ROOT}


def test_a_partition_without_the_identity_of_the_others_is_planned_for() -> None:
    came = changed(put(ROOT, "leaves", "16503", [16503, "p", "d", "1 2"]))
    found = difference(BEFORE, came, {"16503"})
    assert (found.plan, found.derive) == ({ROOT}, frozenset())


@pytest.mark.parametrize("change", [(2, "f"), (3, "1 2")], ids=["full", "an index"])
def test_a_partition_with_another_identity_is_derived_again(change: Any) -> None:
    """The log does not say with which of them an earlier row was written."""
    found = difference(BEFORE, changed(put(ROOT, "leaves", "16501", *change)))
    assert (found.plan, found.rows) == ({ROOT}, {ROOT})


def test_an_identity_that_was_another_meanwhile_is_derived_again() -> None:
    given = changed(put(ROOT, "identified", "16501", ["761", ""]))
    assert difference(BEFORE, given) == Difference(rows=frozenset({ROOT}))
    granted = changed(put(ROOT, "identified", "16501", ["761", "{reader=r/owner}"]))
    assert difference(BEFORE, granted) == Difference()


def test_a_partition_that_was_away_may_have_been_written_to() -> None:
    """Detached and attached between two looks."""
    again = changed(put(ROOT, "joined", "16501", "/751"))
    assert difference(BEFORE, again).rows == {ROOT}


def test_facts_of_an_earlier_release_tell_less() -> None:
    before = deepcopy(BEFORE)
    del before[ROOT]["joined"], before[ROOT]["identified"]
    assert difference(before, BEFORE) == Difference()


def test_a_partition_that_went_took_its_rows() -> None:
    def detach(facts: Any) -> None:
        del facts[ROOT]["leaves"]["16502"]

    assert difference(BEFORE, changed(detach)).rows == {ROOT}


def test_a_table_that_was_not_known_asks_for_nothing() -> None:
    """What reads it is built from it."""
    assert difference({}, BEFORE) == Difference()


def test_facts_of_another_form_ask_for_a_plan_and_break_nothing() -> None:
    assert difference({TABLE: {"leaves": {}}}, BEFORE).plan == {TABLE}
