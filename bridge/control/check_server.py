"""What of the source's server and role stands in the bridge's way.

The one thing to know: pure functions over one row of facts (`sql/server.sql`); each
finding carries the exact command that mends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.config import SourceConfig
from bridge.control.quoting import quoted
from bridge.sink import Finding, Level

VERSION_MIN, VERSION_MAX = 15, 18
LONG_TRANSACTION_S = 300.0
_SENDER_TIMEOUT_MIN_MS = 5_000
_MIB, _GIB = 2**20, 2**30


def title(facts: Mapping[str, Any]) -> str:
    """What the server is, in a line."""
    return (
        f"PostgreSQL {facts['version'].split(' ')[0]}, wal_level {facts['wal_level']}, "
        f"{facts['slots_used']} of {facts['slots_max']} slots in use"
    )


def server(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Version, encoding, role of the server, and the settings of replication."""
    major = facts["version_number"] // 10_000
    if not VERSION_MIN <= major <= VERSION_MAX:
        yield Finding(
            Level.ERROR,
            f"PostgreSQL {major} is not supported",
            f"use a server of version {VERSION_MIN} to {VERSION_MAX}",
        )
    if facts["encoding"] != "UTF8":
        yield Finding(
            Level.ERROR,
            f"database {facts['database']} is encoded in {facts['encoding']}, not UTF8",
            "dump it and restore it into a database made with encoding 'UTF8'",
        )
    if facts["in_recovery"]:
        yield Finding(
            Level.ERROR,
            "the server is a standby: it shows a past that the stream has left",
            "let source.dsn name the primary",
        )
    if facts["wal_level"] != "logical":
        yield Finding(
            Level.ERROR,
            f"wal_level is {facts['wal_level']}: the log lacks what is read from it",
            "alter system set wal_level = logical;  -- and restart the server",
        )
    if facts["is_remote"] and not facts["is_encrypted"]:
        yield Finding(
            Level.WARNING,
            "the connection to the source is not encrypted, and leaves this machine",
            "add ?sslmode=verify-full (or require) to source.dsn",
        )


def settings(facts: Mapping[str, Any], config: SourceConfig) -> Iterator[Finding]:
    """Settings that let the log grow, lose the slot, or stall the stream."""
    keep_mb, budget = facts["slot_keep_mb"], config.wal_budget_bytes
    wanted = f"{max(1, -(-2 * budget // _GIB))}GB"
    mend = _altered("max_slot_wal_keep_size", f"'{wanted}'")
    if keep_mb is not None and keep_mb < 0:
        yield Finding(
            Level.WARNING,
            "max_slot_wal_keep_size is not set: a stopped bridge can fill the disk",
            mend,
        )
    elif keep_mb is not None and keep_mb * _MIB <= budget:
        yield Finding(
            Level.WARNING,
            f"max_slot_wal_keep_size is {keep_mb} MB: the slot would be lost before "
            f"source.wal_budget ({budget // _MIB} MB) parks a sink",
            mend,
        )
    if 0 < facts["sender_timeout_ms"] < _SENDER_TIMEOUT_MIN_MS:
        yield Finding(
            Level.WARNING,
            f"wal_sender_timeout is {facts['sender_timeout_ms']} ms: a short pause "
            "ends the stream",
            _altered("wal_sender_timeout", "'60s'"),
        )
    if facts["idle_slot_timeout_s"]:
        yield Finding(
            Level.WARNING,
            "idle_replication_slot_timeout is set: a bridge stopped for longer than "
            f"{facts['idle_slot_timeout_s']} s loses its slot",
            _altered("idle_replication_slot_timeout", "0"),
        )
    if facts["standby_names"] and not facts["standbys_synchronous"]:
        yield Finding(
            Level.WARNING,
            "synchronous_standby_names names a standby and none is connected: commits "
            "wait, and the bridge with them",
            f"connect it, or: {_altered('synchronous_standby_names', repr(''))}",
        )


def _altered(setting: str, value: str) -> str:
    return f"alter system set {setting} = {value}; select pg_reload_conf();"


def room(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether one more slot can be made, and one more connection read it."""
    if facts["senders_used"] >= facts["senders_max"]:
        yield Finding(
            Level.ERROR,
            f"all {facts['senders_max']} wal senders are in use",
            f"alter system set max_wal_senders = {facts['senders_max'] + 5};"
            "  -- and restart the server",
        )
    if facts["slots_used"] >= facts["slots_max"]:
        yield Finding(
            Level.ERROR,
            f"all {facts['slots_max']} replication slots are in use",
            f"alter system set max_replication_slots = {facts['slots_max'] + 5};"
            "  -- and restart the server; or drop one that nobody reads",
        )


def role(facts: Mapping[str, Any], *, admin: bool = False) -> Iterator[Finding]:
    """What the role may do, with the grants that it lacks; `admin` makes its schema."""
    name, database = quoted(facts["role"]), quoted(facts["database"])
    lacking = False
    if not (facts["may_replicate"] or facts["is_superuser"]):
        lacking = True
        yield Finding(
            Level.ERROR,
            f"role {name} may not replicate",
            f"alter role {name} replication;",
        )
    if facts["has_schema"] and not facts["owns_schema"]:
        lacking = True
        yield Finding(
            Level.ERROR,
            f"schema bridge exists and does not belong to role {name}",
            f"alter schema bridge owner to {name};  -- if it is pgbridge's",
        )
    elif not (facts["has_schema"] or facts["may_create"] or admin):
        lacking = True
        yield Finding(
            Level.ERROR,
            f"role {name} may not create the schema bridge in {database}",
            f"grant create on database {database} to {name};",
        )
    if facts["is_superuser"]:
        yield Finding(
            Level.WARNING,
            f"role {name} is a superuser, which pgbridge never needs",
            "create role pgbridge login replication; "
            f"grant create on database {database} to pgbridge;  -- and select on "
            "the tables of the views",
        )
    elif not lacking:
        yield Finding(Level.OK, f"role {name} may replicate and keep its own schema")


def slot(
    facts: Mapping[str, Any], found: Mapping[str, Any] | None, name: str
) -> Iterator[Finding]:
    """The slot, if it is there, else whether there is room for it."""
    if found is None:
        yield from room(facts)
        return
    if found["plugin"] != "pgoutput" or not found["is_ours"]:
        yield Finding(
            Level.ERROR,
            f"replication slot {name} exists and is not this bridge's: plugin "
            f"{found['plugin'] or 'none'}, database {found['database'] or 'none'}",
            "choose another name with source.slot",
        )
    elif found["wal_status"] == "lost" or found["confirmed"] is None:
        yield Finding(
            Level.ERROR,
            f"replication slot {name} is lost"
            + (f" ({why})" if (why := found["invalidation_reason"]) else "")
            + ": log that was not read yet has been removed",
            "pgbridge apply  # makes another; `pgbridge run` then builds all again",
        )
    else:
        yield Finding(
            Level.OK, f"slot {name} is {'in use' if found['active'] else 'waiting'}"
        )


def open_transactions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Transactions that a new slot, or a changed publication, would wait for."""
    for row in rows:
        age = f"{row['age_s'] / 60:.0f} min"
        if row["prepared"] is not None:
            gid = row["prepared"].replace("'", "''")
            yield Finding(
                Level.WARNING,
                f"a prepared transaction of {row['role']} has been open for {age}: "
                "a new slot waits for it",
                f"commit prepared '{gid}';  -- or: rollback prepared '{gid}';",
            )
        else:
            yield Finding(
                Level.WARNING,
                f"process {row['pid']} of {row['role']} has been in a transaction for "
                f"{age}: a new slot waits for it",
                f"select pg_terminate_backend({row['pid']});",
            )
