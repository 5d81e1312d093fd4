"""What there is to do, from what is wanted and what is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.control.reconcile import (
    Action,
    Actual,
    ActualPublication,
    ActualSlot,
    ActualTarget,
    PartKind,
    RolledBack,
    Step,
    Wanted,
    WantedTarget,
    reconcile,
)

TARGET = WantedTarget("product", "search", "products", "v1", "s1", documents=1204551)
WANTED = Wanted(3, "pub", frozenset({"public.product"}), "slot", (TARGET,))
BUILT = ActualTarget("product", "search", "products", "v1", "s1", live=3, building=None)
LEVEL = Actual(
    3,
    ActualPublication(frozenset({"public.product"})),
    ActualSlot(),
    {("search", "products"): BUILT},
)


def step(actual: Actual, kind: PartKind, wanted: Wanted = WANTED) -> Step:
    (found,) = [step for step in reconcile(wanted, actual) if step.kind is kind]
    return found


def with_target(**changes: object) -> Actual:
    found = replace(BUILT, **changes)  # type: ignore[arg-type]
    return replace(LEVEL, targets={("search", "products"): found})


def test_everything_is_made_in_order_where_nothing_is() -> None:
    steps = reconcile(WANTED, Actual())
    assert [step.kind for step in steps] == list(PartKind)
    assert {step.action for step in steps} == {Action.CREATE}
    assert "1,204,551 documents" in steps[-1].why


def test_nothing_is_done_where_everything_is_as_wanted() -> None:
    steps = reconcile(WANTED, LEVEL)
    assert not any(step.does_something for step in steps)
    assert len(steps) == 4


@pytest.mark.parametrize(
    ("wanted", "found", "action", "why"),
    [
        ({}, {}, Action.UPDATE, "field a.raw is added, in place"),
        ({"rewrites": True}, {}, Action.UPDATE, "every document is written again"),
        ({"in_place": False}, {}, Action.REBUILD, "field a.raw is added; g3 serves"),
        ({}, {"building": 4}, Action.REBUILD, "field a.raw is added"),
        ({}, {"stopped": True}, Action.REBUILD, "not fed for a while"),
        ({}, {"view_fingerprint": ""}, Action.REBUILD, "missed changes"),
        ({"view_fingerprint": "v2"}, {}, Action.REBUILD, "changed: field a.raw is add"),
        ({"sink_fingerprint": "s1"}, {}, Action.UPDATE, "in place"),
    ],
)
def test_what_can_be_done_in_place_is_no_rebuild(
    wanted: dict[str, Any], found: dict[str, Any], action: Action, why: str
) -> None:
    asked = {"sink_fingerprint": "s2", "what": "field a.raw is added", "in_place": True}
    target = replace(TARGET, **(asked | wanted))
    step_of = step(
        with_target(**found), PartKind.TARGET, replace(WANTED, targets=(target,))
    )
    assert step_of.action is action
    assert why in step_of.why


@pytest.mark.parametrize(
    ("version", "action"), [(2, Action.UPDATE), (3, Action.KEEP), (4, Action.KEEP)]
)
def test_schema_goes_forward_only(version: int, action: Action) -> None:
    found = step(replace(LEVEL, schema_version=version), PartKind.SCHEMA)
    assert found.action is action


@pytest.mark.parametrize(
    ("publication", "action", "why"),
    [
        (None, Action.CREATE, "public.product"),
        (ActualPublication(frozenset()), Action.UPDATE, "add public.product"),
        (
            ActualPublication(frozenset({"public.product", "public.old"})),
            Action.UPDATE,
            "remove public.old",
        ),
        (
            ActualPublication(frozenset({"public.product"}), complete=False),
            Action.UPDATE,
            "truncate",
        ),
        (ActualPublication(frozenset(), all_tables=True), Action.REBUILD, "all tables"),
    ],
)
def test_publication_holds_exactly_what_views_read(
    publication: ActualPublication | None, action: Action, why: str
) -> None:
    found = step(replace(LEVEL, publication=publication), PartKind.PUBLICATION)
    assert found.action is action
    assert why in found.why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"view_fingerprint": "v0"}, "query"),
        ({"sink_fingerprint": "s0"}, "mapping"),
        ({"view": "other"}, "not other"),
        ({"view_fingerprint": ""}, "missed changes"),
        ({"stopped": True}, "not fed"),
    ],
)
def test_a_target_that_differs_is_rebuilt_beside_the_live_one(
    changes: dict[str, object], why: str
) -> None:
    found = step(with_target(**changes), PartKind.TARGET)
    assert found.action is Action.REBUILD
    assert why in found.why
    assert "g3 serves until" in found.why


def test_an_edit_that_is_taken_back_builds_nothing() -> None:
    """What was begun for it is given up; what readers see was fed all along, or not."""
    begun: dict[str, object] = {"view_fingerprint": "v2", "building": 4}
    found = step(with_target(**begun, lives=("v1", "s1")), PartKind.TARGET)
    assert found.action is Action.UPDATE
    assert found.why == "g4 is given up: g3 is as the file says"
    for lives in (("", "s1"), ("v1", "s0"), ("v0", "s1")):
        found = step(with_target(**begun, lives=lives), PartKind.TARGET)
        assert found.action is Action.REBUILD
    again = with_target(view_fingerprint="v1", building=4, lives=("v1", "s1"))
    assert step(again, PartKind.TARGET).action is Action.KEEP


def test_a_target_that_cannot_stand_beside_itself_is_derived_in_place() -> None:
    wanted = replace(WANTED, targets=(replace(TARGET, side_by_side=False),))
    found = step(with_target(view_fingerprint="v0"), PartKind.TARGET, wanted)
    assert found.action is Action.REBUILD
    assert "in place" in found.why


@pytest.mark.parametrize("slot", [None, ActualSlot(lost=True, reason="wal_removed")])
def test_a_new_slot_means_that_everything_is_built_again(
    slot: ActualSlot | None,
) -> None:
    actual = replace(LEVEL, slot=slot)
    assert step(actual, PartKind.SLOT).does_something
    assert step(actual, PartKind.TARGET).action is Action.REBUILD


def test_a_slot_that_is_read_on_in_another_history_keeps_what_is_built() -> None:
    moved = replace(LEVEL, moved="the source was promoted")
    assert step(moved, PartKind.SLOT).action is Action.UPDATE
    found = step(moved, PartKind.TARGET)
    assert found.action is Action.UPDATE
    assert "in place" in found.why
    building = replace(with_target(building=4), moved="the source was promoted")
    assert step(building, PartKind.TARGET).action is Action.REBUILD


def test_a_build_under_way_is_kept_when_it_is_what_is_wanted() -> None:
    found = step(with_target(live=None, building=1), PartKind.TARGET)
    assert found.action is Action.KEEP
    assert "building g1" in found.why


def test_a_target_without_any_generation_is_made() -> None:
    found = step(with_target(live=None), PartKind.TARGET)
    assert found.action is Action.CREATE


def test_a_target_no_longer_in_the_file_is_stopped_once_and_then_kept() -> None:
    wanted = replace(WANTED, targets=())
    found = step(LEVEL, PartKind.TARGET, wanted)
    assert found.action is Action.DROP
    assert "--prune" in found.why
    found = step(with_target(stopped=True), PartKind.TARGET, wanted)
    assert found.action is Action.KEEP


@pytest.mark.parametrize(
    ("wanted", "found", "action", "why"),
    [
        ({}, {}, Action.KEEP, "rolled back to g3; g4, as the file says, is kept"),
        ({"in_place": True}, {}, Action.KEEP, "rolled back"),
        ({"view_fingerprint": "v3"}, {}, Action.REBUILD, "query"),
        ({"sink_fingerprint": "s3"}, {}, Action.REBUILD, "changed"),
        ({"view_fingerprint": "v1"}, {}, Action.KEEP, "unchanged"),
        ({}, {"view_fingerprint": ""}, Action.REBUILD, "missed changes"),
        ({}, {"stopped": True}, Action.REBUILD, "changed"),
        ({}, {"building": 5}, Action.REBUILD, "changed"),
    ],
)
def test_a_rollback_holds_until_the_file_asks_for_something_else(
    wanted: dict[str, Any], found: dict[str, Any], action: Action, why: str
) -> None:
    target = replace(TARGET, **({"view_fingerprint": "v2"} | wanted))
    actual = with_target(**({"rolled_back": RolledBack(4, "v2", "s1")} | found))
    step_of = step(actual, PartKind.TARGET, replace(WANTED, targets=(target,)))
    assert step_of.action is action
    assert why in step_of.why
