"""Findings: what stands in the way, and the exact command that mends it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.config import Secret, SourceConfig
from bridge.control import check_server, check_tables
from bridge.control.check_tables import Use
from bridge.control.identity import advice
from bridge.sink import Finding, Level

CONFIG = SourceConfig(dsn=Secret("dbname=shop"))
FACTS: dict[str, Any] = {
    "version_number": 180006,
    "version": "18.6 (Debian)",
    "role": "bridge",
    "database": "shop",
    "encoding": "UTF8",
    "in_recovery": False,
    "wal_level": "logical",
    "slots_max": 10,
    "slots_used": 3,
    "senders_max": 10,
    "senders_used": 0,
    "slot_keep_mb": 8192,
    "sender_timeout_ms": 60000,
    "idle_slot_timeout_s": 0,
    "standby_names": "",
    "standbys_synchronous": 0,
    "is_superuser": False,
    "may_replicate": True,
    "bypasses_rls": False,
    "may_create": True,
    "has_schema": False,
    "may_use_schema": False,
    "owns_schema": False,
    "is_encrypted": False,
    "is_remote": False,
}
LEAF: dict[str, Any] = {
    "name": "public.review",
    "identity": "d",
    "primary_key": ["id"],
    "carried": ["id"],
    "nullable": [],
    "generated": [],
    "table": "review",
    "keys": [{"name": "review_pkey", "columns": ["id"]}],
    "unfit": [],
    "taken": [],
}
TABLE: dict[str, Any] = {
    "oid": 1,
    "name": "public.review",
    "schema": "public",
    "kind": "r",
    "persistence": "p",
    "row_security": False,
    "row_security_applies": False,
    "is_ours": True,
    "owner": "app",
    "may_use_schema": True,
    "may_select": True,
    "leaves": [LEAF],
}
USE = Use({"id": ["product"], "product_id": ["product"]}, ["product"])


def of_server(**changes: object) -> list[Finding]:
    facts = FACTS | changes
    return [
        *check_server.server(facts),
        *check_server.role(facts),
        *check_server.slot(facts, None, "pgbridge"),
        *check_server.settings(facts, CONFIG),
    ]


def of_table(
    leaf: dict[str, Any] | None = None, use: Use = USE, **changes: object
) -> list[Finding]:
    row = TABLE | {"leaves": [LEAF | (leaf or {})]} | changes
    return list(check_tables.tables([row], {1: use}, "bridge"))


def test_a_server_that_is_ready_has_no_error() -> None:
    assert [finding.level for finding in of_server()] == [Level.OK]


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"version_number": 140010}, "15 to 18"),
        ({"version_number": 190000}, "15 to 18"),
        ({"encoding": "LATIN1"}, "UTF8"),
        ({"in_recovery": True}, "primary"),
        ({"wal_level": "replica"}, "alter system set wal_level = logical;"),
        ({"slots_used": 10}, "max_replication_slots = 15"),
        ({"senders_used": 10}, "max_wal_senders = 15"),
        ({"may_replicate": False}, "alter role bridge replication;"),
        ({"may_create": False}, "grant create on database shop to bridge;"),
        ({"has_schema": True}, "alter schema bridge owner to bridge;"),
        ({"may_replicate": False, "role": "My Role"}, 'alter role "My Role" replic'),
    ],
)
def test_errors_of_the_server_carry_their_remedy(
    changes: dict[str, object], fix: str
) -> None:
    (finding,) = [f for f in of_server(**changes) if f.level is Level.ERROR]
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"slot_keep_mb": -1}, "max_slot_wal_keep_size = '8GB'"),
        ({"slot_keep_mb": 1024}, "max_slot_wal_keep_size = '8GB'"),
        ({"sender_timeout_ms": 500}, "wal_sender_timeout"),
        ({"idle_slot_timeout_s": 600}, "idle_replication_slot_timeout = 0"),
        ({"standby_names": "nosuch"}, "synchronous_standby_names"),
        ({"is_remote": True}, "sslmode"),
        ({"is_superuser": True}, "grant create on database shop"),
    ],
)
def test_warnings_of_the_server_carry_their_remedy(
    changes: dict[str, object], fix: str
) -> None:
    (finding,) = [f for f in of_server(**changes) if f.level is Level.WARNING]
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("slot", "level"),
    [
        ({}, Level.OK),
        ({"plugin": "wal2json"}, Level.ERROR),
        ({"is_ours": False}, Level.ERROR),
        ({"wal_status": "lost"}, Level.ERROR),
        ({"confirmed": None}, Level.ERROR),
    ],
)
def test_a_slot_of_that_name(slot: dict[str, Any], level: Level) -> None:
    found = {
        "plugin": "pgoutput",
        "database": "shop",
        "is_ours": True,
        "active": False,
        "wal_status": "reserved",
        "invalidation_reason": None,
        "confirmed": "0/1",
    } | slot
    (finding,) = check_server.slot(FACTS, found, "pgbridge")
    assert finding.level is level


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"may_select": False}, "grant select on public.review to bridge;"),
        ({"may_use_schema": False}, "grant usage on schema public to bridge;"),
        ({"row_security_applies": True}, "alter role bridge bypassrls;"),
        ({"persistence": "u"}, "alter table public.review set logged;"),
        ({"kind": "f"}, "copy its rows"),
    ],
)
def test_errors_of_a_table(changes: dict[str, object], fix: str) -> None:
    use = Use({"id": ["product"]}, ["product"])
    (finding,) = of_table(use=use, **changes)
    assert finding.level is Level.ERROR
    assert fix in finding.fix


def test_an_old_value_that_the_log_lacks_is_asked_for_with_the_statement() -> None:
    (finding,) = of_table()
    assert finding.level is Level.ERROR
    assert "no old product_id" in finding.what
    assert "view product" in finding.what
    assert finding.fix == (
        "create unique index concurrently review_bridge on public.review "
        "(id, product_id); alter table public.review replica identity using index "
        "review_bridge;"
    )


@pytest.mark.parametrize(
    "leaf",
    [{"identity": "f", "carried": ["id", "product_id"]},
     {"identity": "i", "carried": ["id", "product_id"]}],
)  # fmt: skip
def test_an_identity_that_carries_enough_is_no_finding(leaf: dict[str, Any]) -> None:
    (finding,) = of_table(leaf)
    assert finding.level is Level.OK


def test_full_identity_with_a_generated_column_is_an_error() -> None:
    leaf = {"identity": "f", "generated": ["total"], "carried": ["id", "product_id"]}
    (finding,) = of_table(leaf)
    assert finding.level is Level.ERROR
    assert "using index" in finding.fix


def test_a_table_without_a_usable_identity_is_an_error() -> None:
    assert of_table({"identity": "n", "carried": []})[0].level is Level.ERROR
    keyless = of_table({"primary_key": [], "carried": [], "keys": []})
    assert "add primary key" in keyless[0].fix


def test_full_is_never_advised_beside_a_generated_column() -> None:
    leaf = LEAF | {"nullable": ["x"]}
    assert "full" in advice(leaf, ["id", "x"]).split("/*")[0]
    leaf |= {"generated": ["g"]}
    mended = advice(leaf, ["id", "x"]).split("/*")[0]
    assert "identity full" not in mended
    assert "alter column x set not null" in mended
    assert advice(leaf | {"unfit": ["x"]}, ["id", "x"]).startswith("/* no index")


def publication(**changes: object) -> dict[str, Any]:
    return {
        "all_tables": False,
        "all_kinds": True,
        "via_root": True,
        "is_ours": True,
        "tables": ["public.review"],
        "is_partial": False,
        "has_schemas": False,
    } | changes


@pytest.mark.parametrize(
    ("found", "owned", "level", "fix"),
    [
        (None, True, Level.OK, ""),
        (None, False, Level.ERROR, "create publication pgbridge for table public.rev"),
        (publication(), True, Level.OK, ""),
        (publication(tables=[]), True, Level.WARNING, "pgbridge apply"),
        (publication(tables=[]), False, Level.ERROR, "set table public.review"),
        (publication(all_tables=True), False, Level.ERROR, "drop publication pgbridge"),
        (publication(via_root=False), False, Level.ERROR, "partition_root = true"),
    ],
)
def test_the_publication(
    found: dict[str, Any] | None, owned: bool, level: Level, fix: str
) -> None:
    rows = [TABLE | {"is_ours": owned}]
    (finding,) = check_tables.publication(found, rows, CONFIG, may_create=True)
    assert finding.level is level
    assert fix in finding.fix
