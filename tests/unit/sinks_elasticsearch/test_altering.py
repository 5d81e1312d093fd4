"""What an index can be given as it is, and what needs another one."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sink import Column, Kind, Shape, Target, TypeShape
from sinks.elasticsearch.altering import alteration
from sinks.elasticsearch.plan import plan

TEXT = TypeShape(Kind.SCALAR, "text", 25)
NUMBER = TypeShape(Kind.SCALAR, "int4", 23)
RAW = {"a": {"fields": {"raw": {"type": "keyword"}}}}
ALL = {"a": {"copy_to": "all"}, "all": {"type": "text"}}


def target(mappings: Any = None, settings: Any = None, *columns: Column) -> Target:
    shape = Shape((Column("a", TEXT), *columns), ("a",))
    options = {"mappings": mappings or {}, "settings": settings or {}}
    return Target("v", "search", "v", shape, options)


@pytest.mark.parametrize(
    ("before", "after", "what", "in_place", "rewrites"),
    [
        (target(), target(RAW), "field a.raw is added", True, True),
        (target(RAW), target(), "field a.raw is removed", False, False),
        (
            target(),
            target({"b": {"type": "alias", "path": "a"}}),
            "field b is added",
            True,
            False,
        ),
        (target(), target(ALL), "field a has another copy_to", False, True),
        (
            target(),
            target({"a": {"type": "date"}}),
            " to date",
            False,
            False,
        ),
        (
            target(),
            target({"a": {"ignore_above": 9}}),
            "field a has another ignore_above",
            True,
            True,
        ),
        (target(), target({}, {}, Column("n", NUMBER)), "field n is added", True, True),
        (
            target(),
            target({}, {"number_of_replicas": 2}),
            "setting number_of_replicas is 2",
            True,
            False,
        ),
        (
            target({}, {"max_result_window": 99}),
            target(),
            "setting max_result_window is unset",
            False,
            False,
        ),
        (
            target(),
            target({}, {"number_of_shards": 3}),
            "setting number_of_shards is 3",
            False,
            False,
        ),
    ],
)
def test_what_differs_and_whether_it_can_be_in_place(
    before: Target, after: Target, what: str, in_place: bool, rewrites: bool
) -> None:
    found = alteration(plan(before), plan(after))
    assert found is not None
    assert what in found.what
    assert (found.in_place, found.rewrites) == (in_place, rewrites)


def test_nothing_differs_of_what_is_the_same() -> None:
    assert alteration(plan(target(RAW)), plan(target(RAW))) is None
