"""The statements that make a publication hold just the views' tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.capture.publication import (
    PublicationState,
    PublishedTable,
    QualifiedName,
    statements,
)
from bridge.errors import Halt

A, B, ODD = (
    QualifiedName("public", "a"),
    QualifiedName("public", "b"),
    QualifiedName('My "schema"', "Täble"),
)
OPTIONS = (
    "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
)


def published(table: QualifiedName, **changes: object) -> PublishedTable:
    found = PublishedTable(table, 1, 2, filtered=False, columns=None)
    return found._replace(**changes)  # type: ignore[arg-type]


STATE = PublicationState(
    name="bridge",
    oid=5,
    all_tables=False,
    whole_schemas=False,
    all_kinds=True,
    via_root=True,
    generated=False,
    tables=(published(A), published(B)),
)


def sql(
    wanted: set[QualifiedName],
    found: PublicationState | None,
    *,
    generated: bool = False,
) -> list[str]:
    return [
        str(each) for each in statements("bridge", wanted, found, generated=generated)
    ]


def test_nothing_to_do() -> None:
    assert sql({A, B}, STATE) == []


def test_it_is_made_with_every_kind_of_change_and_partitions_as_their_root() -> None:
    tables = 'only "My ""schema"""."Täble", only "public"."a", only "public"."b"'
    assert sql({B, A, ODD}, None) == [
        f'create publication "bridge" for table {tables} with ({OPTIONS})'
    ]
    assert sql(set(), None) == [f'create publication "bridge" with ({OPTIONS})']


def test_generated_columns_only_when_asked() -> None:
    (create,) = sql({A}, None, generated=True)
    assert create.endswith(f"with ({OPTIONS}, publish_generated_columns = stored)")
    assert sql({A, B}, STATE, generated=True) == [
        'alter publication "bridge" set (publish_generated_columns = stored)'
    ]
    assert sql({A, B}, replace(STATE, generated=True), generated=True) == []


def test_tables_are_added_and_dropped() -> None:
    assert sql({A, ODD}, STATE) == [
        'alter publication "bridge" drop table only "public"."b"',
        'alter publication "bridge" add table only "My ""schema"""."Täble"',
    ]


def test_options_are_set_right() -> None:
    for wrong in (replace(STATE, via_root=False), replace(STATE, all_kinds=False)):
        assert sql({A, B}, wrong) == [f'alter publication "bridge" set ({OPTIONS})']


@pytest.mark.parametrize("part", [{"filtered": True}, {"columns": "1 2"}])
def test_a_table_published_in_part_is_published_whole(part: dict[str, object]) -> None:
    partial = replace(STATE, tables=(published(A, **part), published(B)))
    assert sql({A, B}, partial) == [
        'alter publication "bridge" drop table only "public"."a"',
        'alter publication "bridge" add table only "public"."a"',
    ]


def test_more_than_a_list_of_tables_is_made_anew() -> None:
    for wrong in (replace(STATE, all_tables=True), replace(STATE, whole_schemas=True)):
        drop, create = sql({A}, wrong)
        assert drop == 'drop publication "bridge"'
        assert create.startswith('create publication "bridge" for table only')


def test_the_fingerprint_shows_a_table_dropped_and_added_again() -> None:
    again = replace(STATE, tables=(published(A, membership_oid=9), published(B)))
    assert again.fingerprint != STATE.fingerprint
    assert replace(STATE).fingerprint == STATE.fingerprint


@pytest.mark.parametrize("name", ["", "A", "a-b", 'a"b', "a" * 64, "a\n"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(Halt):
        statements(name, {A}, None)
