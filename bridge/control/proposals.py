"""Views that a database suggests by itself: along its foreign keys.

The one thing to know: what is proposed runs as it stands. A part that would need
another replica identity first is proposed beside it, with the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.control.identity import advice
from bridge.control.quoting import is_plain, quoted
from bridge.control.session import Session, sql

PROPOSALS_MAX = 6
_CHILDREN_MAX = 3
_LABELS = ("name", "title", "label", "code", "slug", "email", "username", "subject")


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a view may be of."""

    oid: int
    schema: str
    name: str
    rows: int
    """As the statistics have it."""
    columns: tuple[str, ...]
    primary_key: tuple[str, ...]
    leaves: tuple[Mapping[str, Any], ...]
    """Itself, or its partitions, as `sql/used_tables.sql` tells of them."""

    def sql(self, search_path: Sequence[str]) -> str:
        """How a query names it."""
        if self.schema in search_path:
            return quoted(self.name)
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def lacks(self, columns: Iterable[str]) -> str:
        """The statements after which the log has the old values of these columns."""
        wanted = set(columns)
        return " ".join(
            advice(leaf, wanted)
            for leaf in self.leaves
            if not wanted <= set(leaf["carried"])
        )


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """From the columns of one table to those of another."""

    referring: int
    referred: int
    columns: tuple[str, ...]
    referred_columns: tuple[str, ...]
    nullable: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """One view, as it would stand in the file."""

    name: str
    query: str
    later: tuple[tuple[str, str], ...]
    """Further output columns that wait for a statement: (column, statement)."""
    score: int


async def read(session: Session) -> tuple[dict[int, Table], list[ForeignKey]]:
    """The tables that the role may read, by oid, and the foreign keys among them."""
    found = await (await session.execute(sql("tables"))).fetchall()
    oids = [row["oid"] for row in found]
    used = await (await session.execute(sql("used_tables"), {"oids": oids})).fetchall()
    leaves = {row["oid"]: tuple(row["leaves"] or ()) for row in used}
    tables = {
        row["oid"]: Table(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            rows=row["rows"],
            columns=tuple(c for c in row["columns"] if c.isprintable()),
            primary_key=tuple(row["primary_key"]),
            leaves=leaves[row["oid"]],
        )
        for row in found
        # A file is to be read: no line breaks within names.
        if all(map(str.isprintable, (row["schema"], row["name"], *row["primary_key"])))
    }
    keys = [
        ForeignKey(
            referring=row["referring"],
            referred=row["referred"],
            columns=tuple(row["columns"]),
            referred_columns=tuple(row["referred_columns"]),
            nullable=row["nullable"],
        )
        for row in await (await session.execute(sql("foreign_keys"))).fetchall()
    ]
    return tables, [
        key
        for key in keys
        if key.referring in tables
        and key.referred in tables
        and all(map(str.isprintable, (*key.columns, *key.referred_columns)))
    ]


def propose(
    tables: Mapping[int, Table],
    keys: Sequence[ForeignKey],
    search_path: Sequence[str] = ("public",),
) -> list[Proposal]:
    """The most useful views first: tables that others belong to, link tables never.

    At most `PROPOSALS_MAX`.
    """
    proposals = []
    for table in tables.values():
        if not table.primary_key or _is_link(table, keys):
            continue
        proposals.append(_proposal(table, tables, keys, search_path))
    proposals.sort(key=lambda proposal: (-proposal.score, proposal.name))
    taken: set[str] = set()
    unique = []
    for proposal in proposals:
        if proposal.name not in taken:
            taken.add(proposal.name)
            unique.append(proposal)
    return unique[:PROPOSALS_MAX]


def _proposal(
    table: Table,
    tables: Mapping[int, Table],
    keys: Sequence[ForeignKey],
    search_path: Sequence[str],
) -> Proposal:
    aliases = _Names({table.name for table in tables.values()})
    root = aliases.take(table.name[:1].lower() if table.name[:1].isalpha() else "t")
    outputs = _Names(set())
    select = []
    for column in table.columns:
        outputs.take(column)
        select.append(f"{root}.{quoted(column)}")
    joins = []
    up = [key for key in keys if key.referring == table.oid]
    for key in up:
        other = tables[key.referred]
        if (label := _label(other, key)) is None or other.lacks(key.referred_columns):
            continue
        alias = aliases.take(other.name[:1].lower() or "t")
        output = outputs.take(_stem(key.columns[-1], other.name))
        select.append(f"{alias}.{quoted(label)} as {quoted(output)}")
        joins.append(
            f"{'left join' if key.nullable else 'join'} {other.sql(search_path)} "
            f"{alias} on {_equal(alias, key.referred_columns, root, key.columns)}"
        )
    later = []
    down = [key for key in keys if key.referred == table.oid and key not in up]
    for key in down[:_CHILDREN_MAX]:
        child = tables[key.referring]
        if not child.primary_key:
            continue
        column = _children(key, child, root, aliases, outputs, search_path)
        if child.lacks(key.columns):
            # One identity has to do for every view that the table may stand in.
            links = {c for k in keys if k.referring == child.oid for c in k.columns}
            later.append((column, child.lacks(links)))
        else:
            select.append(column)
    lines = ["select " + ",\n       ".join(_filled(select))]
    lines.append(f"  from {table.sql(search_path)} {root}")
    lines += [f"  {join}" for join in joins]
    return Proposal(
        name=view_name(table.name),
        query="\n".join(lines),
        later=tuple(later),
        score=3 * len(down) + len(joins) + (table.rows > 0),
    )


def _children(
    key: ForeignKey,
    child: Table,
    root: str,
    aliases: _Names,
    outputs: _Names,
    search_path: Sequence[str],
) -> str:
    alias = aliases.take(child.name[:1].lower() or "t")
    shown = [name for name in child.columns if name not in key.columns]
    pairs = [
        f"'{name.replace(chr(39), chr(39) * 2)}', {alias}.{quoted(name)}"
        for name in shown[:8]
    ]
    built = ",\n            ".join(_filled(pairs))
    order = ", ".join(f"{alias}.{quoted(name)}" for name in child.primary_key)
    lines = [
        f"(select json_agg(json_build_object(\n            {built}) order by {order})",
        f"          from {child.sql(search_path)} {alias}",
        f"         where {_equal(alias, key.columns, root, key.referred_columns)})",
    ]
    return f"{chr(10).join(lines)} as {quoted(outputs.take(_plural(child.name)))}"


def view_name(table: str) -> str:
    """The table's name as a view may be called."""
    name = re.sub(r"[^a-z0-9_-]+", "-", table.lower()).strip("-_")
    return (name if name[:1].isalpha() else f"t-{name}".rstrip("-"))[:63]


class _Names:
    """Names of one query, each given once."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = set(taken)

    def take(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._taken or (not is_plain(name) and is_plain(f"{name}_")):
            name, number = f"{wanted}{number}", number + 1
        self._taken.add(name)
        return name


def _is_link(table: Table, keys: Sequence[ForeignKey]) -> bool:
    """Whether it only says which rows of other tables belong together."""
    linked = {
        column for key in keys if key.referring == table.oid for column in key.columns
    }
    return len(table.primary_key) > 1 and set(table.primary_key) <= linked


def _label(table: Table, key: ForeignKey) -> str | None:
    free = [name for name in table.columns if name not in key.referred_columns]
    for wanted in _LABELS:
        if wanted in free:
            return wanted
    return next(iter(free), None)


def _stem(column: str, table: str) -> str:
    stem = re.sub(r"_?(id|uuid|key|fk|no|nr)$", "", column, flags=re.IGNORECASE)
    return stem or table


def _plural(name: str) -> str:
    if name.endswith("s"):
        return name
    return f"{name[:-1]}ies" if re.search(r"[^aeiou]y$", name) else f"{name}s"


def _equal(left: str, columns: Sequence[str], right: str, others: Sequence[str]) -> str:
    return " and ".join(
        f"{left}.{quoted(a)} = {right}.{quoted(b)}"
        for a, b in zip(columns, others, strict=True)
    )


def _filled(parts: Sequence[str], width: int = 72) -> list[str]:
    """Short columns joined to lines; those over several lines stand alone."""
    lines: list[str] = []
    for part in parts:
        if (
            lines
            and "\n" not in part
            and "\n" not in lines[-1]
            and len(lines[-1]) + len(part) < width
        ):
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
