"""What documents follow from besides rows, and what a difference of it asks for.

The one thing to know: the log does not tell of a partition that was attached with its
rows, of a table that was rewritten, or of a publication that somebody changed. They
are seen here, in the catalog, and answered by deriving again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.catalog import Catalog
from bridge.control.check import one, rows
from bridge.control.session import Session
from bridge.derive.view import ViewPlan
from bridge.position import parse_lsn

Facts: TypeAlias = dict[str, Any]
"""By the table's oid, as text: name, columns, published, leaves."""
_FIRST_NORMAL_OID = 16384
_PLANNED = ("name", "columns")


@dataclass(frozen=True, slots=True)
class Look:
    """The catalog as one look found it."""

    proven_lsn: int
    """End of the log before it was looked at."""
    facts: Facts
    hint: str
    """Another one: a view, function or type of the database was touched."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done, from one look to a later one."""

    plan: frozenset[str] = frozenset()
    """Tables whose views are to be planned again."""
    publication: frozenset[str] = frozenset()
    """Tables of which changes may not have been published."""
    rows: frozenset[str] = frozenset()
    """Tables with rows that came or went without an event."""

    @property
    def derive(self) -> frozenset[str]:
        """Tables whose views are to be derived again."""
        return self.publication | self.rows


async def look(
    session: Session,
    publication: str,
    plans: Iterable[ViewPlan],
    catalog: Catalog,
) -> Look:
    """Look at everything that these plans stand on. Transient, Halt."""
    oids = sorted({use.table.oid for plan in plans for use in plan.tables})
    end = await one(session, "log_end")
    found = await rows(session, "facts", oids=oids, publication=publication)
    touched = await one(
        session,
        "hint",
        views=list(catalog.views),
        functions=[oid for oid in catalog.functions if oid >= _FIRST_NORMAL_OID],
        types=[oid for oid in catalog.types if oid >= _FIRST_NORMAL_OID],
    )
    return Look(
        parse_lsn(end["lsn"]),
        {str(row["oid"]): row["facts"] for row in found},
        touched["hint"],
    )


async def fresh(session: Session, leaves: Collection[str]) -> set[str]:
    """Those of these partitions that have no rows: they brought none with them."""
    if not leaves:
        return set()
    found = await rows(session, "fresh_leaves", oids=[int(leaf) for leaf in leaves])
    return {str(row["oid"]) for row in found}


def added(before: Facts, now: Facts) -> set[str]:
    """Partitions that were not there before, of tables that were."""
    return {
        leaf
        for table in before.keys() & now.keys()
        for leaf in _leaves(now[table]).keys() - _leaves(before[table]).keys()
    }


def difference(before: Facts, now: Facts, fresh: Collection[str] = ()) -> Difference:
    """What has happened to tables that were there before. `fresh` partitions brought
    no rows with them."""
    plan, publication, moved = set(), set(), set()
    for table, was in before.items():
        found = now.get(table)
        if found is None:
            plan.add(table)
            continue
        if any(was[part] != found[part] for part in _PLANNED):
            plan.add(table)
        if was["published"] != found["published"]:
            publication.add(table)
        old, new = _leaves(was), _leaves(found)
        if old.keys() - new.keys() or new.keys() - old.keys() - set(fresh):
            moved.add(table)
        for leaf in old.keys() & new.keys():
            if old[leaf][0] != new[leaf][0]:
                moved.add(table)
            if old[leaf][1:] != new[leaf][1:]:
                plan.add(table)
        if new.keys() - old.keys():
            plan.add(table)  # its identity may not be what the views need
    return Difference(frozenset(plan), frozenset(publication), frozenset(moved))


def _leaves(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return facts.get("leaves") or {}
