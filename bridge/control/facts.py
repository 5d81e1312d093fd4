"""What documents follow from besides rows, and what a difference of it asks for.

    nothing     grants, storage, indexes, triggers; VACUUM FULL, CLUSTER; a partition
                made empty, with the identity that the others have
    plan        a name, a column, a right, an identity: whatever another plan may follow
                from. Nothing is done where the same plan follows
    derive      rows that came or went, or were rewritten, without an event; a
                publication that was changed, so that events may be missing

The one thing to know: the log does not tell of a partition that was attached with its
rows, of a table that was rewritten, or of a publication that somebody changed. They
are seen here, in the catalog, and answered by deriving again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.catalog import Catalog
from bridge.control.check import one, rows
from bridge.control.session import Session
from bridge.derive.view import ViewPlan
from bridge.position import parse_lsn

Facts: TypeAlias = dict[str, Any]
"""By the table's oid, as text: what `sql/facts.sql` tells of it."""
_FIRST_NORMAL_OID = 16384
_PLANNED = ("table", "columns")


@dataclass(frozen=True, slots=True)
class Look:
    """The catalog as one look found it."""

    proven_lsn: int | None
    """Up to here in the log it was just as it is here; None: it is not known, since
    somebody is altering these tables."""
    facts: Facts
    hint: str
    """Another one: a view, function or type of the database was touched."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done, from one look to a later one: tables, by oid as text."""

    plan: frozenset[str] = frozenset()
    """Those whose views are to be planned again."""
    publication: frozenset[str] = frozenset()
    """Those of which changes may not have been published."""
    rows: frozenset[str] = frozenset()
    """Those with rows that came, went or were rewritten without an event."""

    @property
    def derive(self) -> frozenset[str]:
        """Those whose views are to be derived again."""
        return self.publication | self.rows


async def look(
    session: Session,
    publication: str,
    plans: Iterable[ViewPlan],
    catalog: Catalog,
    before: Facts,
) -> Look:
    """Look at everything that these plans stand on. `before` is what an earlier look
    has found. Transient, Halt."""
    oids = {use.table.oid for plan in plans for use in plan.tables}
    # In this order: whoever has committed below the end of the log, and is not seen
    # by what follows, still has his locks.
    end = await one(session, "log_end")
    known = {int(leaf) for table in before.values() for leaf in _leaves(table)}
    altering = await one(session, "altering", tables=sorted(oids | known))
    found = await rows(session, "facts", oids=sorted(oids), publication=publication)
    touched = await one(
        session,
        "hint",
        views=list(catalog.views),
        functions=[oid for oid in catalog.functions if oid >= _FIRST_NORMAL_OID],
        types=[oid for oid in catalog.types if oid >= _FIRST_NORMAL_OID],
    )
    return Look(
        None if altering["found"] else parse_lsn(end["lsn"]),
        {str(row["oid"]): row["facts"] for row in found},
        touched["hint"],
    )


async def fresh(session: Session, before: Facts, now: Facts) -> set[str]:
    """The partitions that came in between and brought no rows with them."""
    tables = before.keys() & now.keys()
    came = {
        int(leaf)
        for table in tables
        for leaf in _leaves(now[table]).keys() - _leaves(before[table]).keys()
    }
    if not came:
        return set()
    branches = {oid for table in tables for oid in before[table].get("branches") or ()}
    found = await rows(
        session, "fresh_leaves", oids=sorted(came), branches=sorted(branches)
    )
    return {str(row["oid"]) for row in found}


def difference(before: Facts, now: Facts, fresh: Collection[str] = ()) -> Difference:
    """What has happened to tables that were there before. `fresh` partitions brought
    no rows with them."""
    plan, publication, moved = set(), set(), set()
    for table, was in before.items():
        found = now.get(table)
        if found is None:
            plan.add(table)
            continue
        if any(was.get(part) != found[part] for part in _PLANNED) or (
            _identities_differ(was, found)
        ):
            plan.add(table)
        if was.get("published") != found["published"]:
            publication.add(table)
        if _rows_moved(was, found, fresh) or _leaves_told_otherwise(was, found):
            moved.add(table)
    return Difference(frozenset(plan), frozenset(publication), frozenset(moved))


def published_anew(before: Facts, now: Facts) -> bool:
    """Whether one of these tables became a part of the publication since, or of another
    publication; one that was not looked at before may have."""
    return any(
        before.get(table, {}).get("published") != found["published"]
        for table, found in now.items()
    )


def _identities_differ(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the log may carry other old values than before. A partition that is
    like one that was there changes nothing."""
    old, new = _leaves(was), _leaves(now)
    usual = [leaf[1:] for leaf in old.values()]
    return any(
        leaf[1:] != old[oid][1:] if oid in old else leaf[1:] not in usual
        for oid, leaf in new.items()
    )


def _leaves_told_otherwise(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether partitions have another identity now, or had one meanwhile. The log does
    not say which one a row was written with: an old value that was not logged looks
    like null."""
    old, new = _leaves(was), _leaves(now)
    kept = old.keys() & new.keys()
    before, after = was.get("identified") or {}, now.get("identified") or {}
    return bool(now["partitioned"]) and any(
        old[leaf][2:] != new[leaf][2:]
        or (leaf in before and leaf in after and _given(before[leaf], after[leaf]))
        for leaf in kept
    )


def _given(was: Sequence[str], now: Sequence[str]) -> bool:
    """Whether an identity was given anew: (transaction that last wrote its row of the
    catalog, rights in that row), since a GRANT writes it, too."""
    return was[0] != now[0] and was[1] == now[1]


def _rows_moved(
    was: Mapping[str, Any], now: Mapping[str, Any], fresh: Collection[str]
) -> bool:
    old, new = _leaves(was), _leaves(now)
    if old.keys() - new.keys() or new.keys() - old.keys() - set(fresh):
        return True
    kept = old.keys() & new.keys()
    before, after = was.get("joined") or {}, now.get("joined") or {}
    if any(before.get(leaf, after.get(leaf)) != after.get(leaf) for leaf in kept):
        return True
    refiled = any(old[leaf][0] != new[leaf][0] for leaf in kept)
    if not refiled:
        return False
    # A table's own TRUNCATE is in the log, and what else writes its file anew leaves
    # its rows as they were, unless a column was altered. Of a partition TRUNCATE is
    # not in the log, and looks like VACUUM FULL.
    return bool(now["partitioned"]) or was.get("altered") != now["altered"]


def _leaves(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return facts.get("leaves") or {}
