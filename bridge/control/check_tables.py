"""What of the views' tables, and of the publication, stands in the bridge's way.

The one thing to know: pure functions over rows of facts (`sql/used_tables.sql`,
`sql/publication.sql`) and what the planned views use of each table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.config import SourceConfig
from bridge.control.identity import advice, usable
from bridge.control.quoting import quoted
from bridge.derive.view import ViewPlan
from bridge.sink import Finding, Level


class Use(NamedTuple):
    """What all views together need of one table."""

    identity: dict[str, list[str]]
    """Column whose old value must be in the log → the views that need it."""
    views: list[str]


def uses(plans: Mapping[str, ViewPlan]) -> dict[int, Use]:
    """Table oid → what the views need of it."""
    found: dict[int, Use] = {}
    for view, plan in plans.items():
        for table in plan.tables:
            use = found.setdefault(table.table.oid, Use(defaultdict(list), []))
            use.views.append(view)
            for column in sorted(table.identity):
                use.identity[column].append(view)
    return found


def tables(
    rows: Sequence[Mapping[str, Any]], wanted: Mapping[int, Use], role: str
) -> Iterator[Finding]:
    """Kind, privileges, row security and replica identity of each table."""
    before = True
    for row in rows:
        problems = [
            *_kind(row),
            *_privileges(row, role),
            *_identities(row, wanted[row["oid"]]),
        ]
        before = before and not problems
        yield from problems
    if before and rows:
        names = ", ".join(row["name"] for row in rows[:6])
        more = f" and {len(rows) - 6} more" if len(rows) > 6 else ""
        yield Finding(
            Level.OK, f"tables {names}{more} can be read, and their log is enough"
        )


def is_read(row: Mapping[str, Any]) -> bool:
    """Whether the role may read all of a table."""
    may = row["may_select"] and row["may_use_schema"]
    return bool(may and not row["row_security_applies"])


def lacking(
    rows: Sequence[Mapping[str, Any]], plan: ViewPlan, role: str
) -> list[Finding]:
    """The errors in the way of one view's tables, of all that were looked at."""
    wanted = uses({plan.name: plan})
    used = [row for row in rows if row["oid"] in wanted]
    return [
        finding
        for finding in tables(used, wanted, role)
        if finding.level is Level.ERROR
    ]


def _kind(row: Mapping[str, Any]) -> Iterator[Finding]:
    name = row["name"]
    if row["kind"] not in ("r", "p"):
        what = "a foreign table" if row["kind"] == "f" else "no ordinary table"
        yield Finding(
            Level.ERROR,
            f"{name} is {what}: its changes are in no log",
            "leave it out of the view, or copy its rows into a table",
        )
    elif row["persistence"] == "u":
        yield Finding(
            Level.ERROR,
            f"{name} is unlogged: its changes are in no log",
            f"alter table {name} set logged;",
        )
    elif row["persistence"] == "t":
        yield Finding(
            Level.ERROR,
            f"{name} is temporary: only its own session sees it",
            "use an ordinary table",
        )


def _privileges(row: Mapping[str, Any], role: str) -> Iterator[Finding]:
    name, role = row["name"], quoted(role)
    grants = []
    if not row["may_use_schema"]:
        grants.append(f"grant usage on schema {row['schema']} to {role};")
    if not row["may_select"]:
        grants.append(f"grant select on {name} to {role};")
    if grants:
        yield Finding(Level.ERROR, f"role {role} may not read {name}", " ".join(grants))
    elif row["row_security_applies"]:
        yield Finding(
            Level.ERROR,
            f"row-level security of {name} hides rows from role {role}: documents "
            "would be missing without a word",
            f"alter role {role} bypassrls;",
        )


def _identities(row: Mapping[str, Any], use: Use) -> Iterator[Finding]:
    for leaf in row["leaves"] or ():
        if not leaf["carried"]:
            wanted = set(use.identity)
            yield Finding(
                Level.ERROR,
                f"{leaf['name']} has no usable replica identity: once published, "
                "Postgres would refuse the application's own updates",
                advice(leaf, wanted) if wanted and leaf["keys"] else usable(leaf),
            )
            continue
        missing = sorted(set(use.identity) - set(leaf["carried"]))
        if leaf["identity"] == "f" and leaf["generated"]:
            yield Finding(
                Level.ERROR,
                f"{leaf['name']} has replica identity full and a generated column: "
                "once published, Postgres may refuse the application's own updates",
                advice(leaf, set(use.identity)),
            )
        elif missing:
            views = sorted(
                {view for column in missing for view in use.identity[column]}
            )
            yield Finding(
                Level.ERROR,
                f"{leaf['name']} has no old {', '.join(missing)} in the log; "
                f"{'view' if len(views) == 1 else 'views'} {', '.join(views)} "
                f"{'needs' if len(views) == 1 else 'need'} it when a row moves",
                advice(leaf, set(use.identity)),
            )


def publication(
    found: Mapping[str, Any] | None,
    rows: Sequence[Mapping[str, Any]],
    config: SourceConfig,
    *,
    may_create: bool,
) -> Iterator[Finding]:
    """Whether the publication holds just the views' tables, or can be made to."""
    wanted = {row["name"] for row in rows}
    name = quoted(config.publication)
    owned = all(row["is_ours"] for row in rows)
    if found is None:
        statement = create_statement(config.publication, sorted(wanted))
        if not wanted:
            return
        if config.admin_dsn is not None:
            yield Finding(
                Level.OK, f"publication {name} will be made with source.admin_dsn"
            )
        elif owned and may_create:
            yield Finding(Level.OK, f"publication {name} will be made")
        else:
            yield Finding(
                Level.ERROR,
                f"there is no publication {name}, and this role may not make it: "
                "Postgres lets only the owner of a table publish it",
                f"{statement}  -- as the owner, or set source.admin_dsn and use "
                "`pgbridge apply`",
            )
        return
    have = set(found["tables"])
    wrong = _wrong(found, have, wanted)
    if not wrong:
        yield Finding(Level.OK, f"publication {name} holds what the views read")
        return
    may_alter = config.admin_dsn is not None or (found["is_ours"] and owned)
    statement = (
        f"drop publication {name}; "
        + create_statement(config.publication, sorted(wanted))
        if found["all_tables"] or found["has_schemas"] or found["is_partial"]
        else f"alter publication {name} set table {', '.join(sorted(wanted))}; "
        f"alter publication {name} set (publish = 'insert, update, delete, truncate', "
        "publish_via_partition_root = true);"
    )
    yield Finding(
        Level.WARNING if may_alter else Level.ERROR,
        f"publication {name} {wrong}",
        "pgbridge apply" if may_alter else statement,
    )


def _wrong(found: Mapping[str, Any], have: set[str], wanted: set[str]) -> str:
    if found["all_tables"]:
        return "publishes all tables, not just those of the views"
    if found["has_schemas"]:
        return "publishes whole schemas, not just the tables of the views"
    if found["is_partial"]:
        return "leaves out rows or columns of a table"
    parts = []
    if lacking := sorted(wanted - have):
        parts.append(f"lacks {', '.join(lacking)}")
    if more := sorted(have - wanted):
        parts.append(f"holds {', '.join(more)}, which no view reads")
    if not found["all_kinds"]:
        parts.append("leaves out some kind of change")
    if not found["via_root"]:
        parts.append("does not publish partitions as their root")
    return " and ".join(parts)


def create_statement(publication: str, tables: Sequence[str]) -> str:
    """What makes the publication, for people to paste."""
    return (
        f"create publication {quoted(publication)} for table {', '.join(tables)} "
        "with (publish_via_partition_root = true);"
    )
