"""What was true when: which documents may be told to contain all up to a version.

The one thing to know: a document tagged *v* has to be what its view gave at some
moment at which every commit up to *v* was visible. Documents straight from the log
follow the order of commits instead, in which their one row has the same history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable
from typing import Any

from bridge.keys import Parts
from tests.simulation import views

Told = dict[Parts, list[tuple[int, bytes | None]]]


class History:
    """Moments are counted; each visible transaction makes one."""

    def __init__(self) -> None:
        self._moment = 0
        self._order: list[tuple[int, Hashable]] = []
        self._shown: dict[Hashable, int] = {}
        self._complete = 0
        """So many commits, in log order, are visible."""
        self._level: list[int] = []
        """Of those, the moment from which on all up to it were visible."""
        self._documents: dict[str, Told] = {view: {} for view in views.ORACLE}
        self._causes: dict[int, int] = {}
        """By moment, the end of the transaction that made it."""
        self._rows: dict[Parts, list[tuple[int, bytes | None]]] = {}

    def start(self, tables: views.Tables) -> None:
        """These rows were there before."""
        self._note(tables)
        self._rows = {key: list(told) for key, told in self._documents["flat"].items()}

    def committed(self, lsn: int, txn: Any) -> None:
        """A transaction has its place in the log."""
        self._order.append((lsn, txn))
        if txn.truncated == "item":
            for told in self._rows.values():
                told.append((lsn, None))
        last: dict[int, views.Row | None] = {}
        for table, old, new in txn.changes:
            if table == "item":
                if old is not None:
                    last[old[0]] = None
                if new is not None:
                    last[new[0]] = new
        for id_, row in last.items():
            found = None if row is None else views.flat({"item": {id_: row}})
            key = (str(id_),)
            document = None if found is None else found[key]
            self._rows.setdefault(key, []).append((lsn, document))

    def shown(self, txn: Any, tables: views.Tables) -> None:
        """A transaction has become visible."""
        self._moment += 1
        self._shown[txn] = self._moment
        self._causes[self._moment] = txn.end_lsn
        self._note(tables)
        self._settle()

    def crashed(self, left: Iterable[Any], tables: views.Tables) -> None:
        """Only these transactions are left, and all of them are visible."""
        self._moment += 1
        self._order = [(txn.end_lsn, txn) for txn in left]
        for _, txn in self._order:
            self._shown.setdefault(txn, self._moment)
        end = self._order[-1][0] if self._order else 0
        for told in self._rows.values():
            told[:] = [entry for entry in told if entry[0] <= end]
        self._note(tables)
        self._complete = 0
        self._level.clear()
        self._settle()

    def keys(self, view: str) -> list[Parts]:
        """Every key that the view has ever had."""
        return list(self._documents[view])

    def allowed(
        self, view: str, key: Parts, lsn: int, document: bytes | None
    ) -> str | None:
        """Why this document of the key cannot be tagged with `lsn`; None: it can."""
        if view == "flat" and _among(self._rows.get(key, []), lsn, document):
            return None
        at = bisect_right(self._order, lsn, key=lambda entry: entry[0])
        if at > self._complete:
            return "a commit up to its version is not visible yet"
        moment = self._level[at - 1] if at else 0
        if _among(self._documents[view].get(key, []), moment, document):
            return None
        return "it lacks a commit up to its version"

    def shows(self, view: str, key: Parts, lsn: int, document: bytes | None) -> bool:
        """Whether this document of the key lacks no commit up to `lsn`.

        It may be older than that: what changed it since is further on.
        """
        if view == "flat" and _among(self._rows.get(key, []), lsn, document):
            return True
        for moment, told in reversed(self._documents[view].get(key, [])):
            if told in (document, views.FAILS):
                return True  # where it could not be made, an older one stays
            if self._causes.get(moment, 0) <= lsn:
                return False
        return document is None

    def _settle(self) -> None:
        order, level = self._order, self._level
        while self._complete < len(order):
            shown = self._shown.get(order[self._complete][1])
            if shown is None:
                return
            level.append(max(shown, level[-1] if level else 0))
            self._complete += 1

    def _note(self, tables: views.Tables) -> None:
        for view, oracle in views.ORACLE.items():
            found, told = oracle(tables), self._documents[view]
            for key, history in told.items():
                if history[-1][1] is not None and key not in found:
                    history.append((self._moment, None))
            for key, document in found.items():
                history = told.setdefault(key, [])
                if not history or history[-1][1] != document:
                    history.append((self._moment, document))


def _among(
    told: list[tuple[int, bytes | None]], since: int, document: bytes | None
) -> bool:
    """Whether the document is what was told last at `since`, or anything later."""
    at = bisect_right(told, since, key=lambda entry: entry[0])
    if at == 0 and document is None:
        return True  # nothing was told of it yet
    return any(found == document for _, found in told[max(0, at - 1) :])
