"""Three tables, and three views of them as functions from rows to documents.

The one thing to know: these functions are the oracle, and they answer the bridge's own
queries too, over the rows of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from bridge.changes import Identity, Relation, RelationColumn, Value
from bridge.derive.view import (
    Direct,
    DirectColumn,
    KeyQuery,
    TableName,
    TableUse,
    ViewPlan,
)
from bridge.keys import Parts
from bridge.shape import Column, Kind, Shape, TypeShape

Row = tuple[Any, ...]
Tables = Mapping[str, Mapping[int, Row]]
Documents = dict[Parts, bytes]

COLUMNS = {
    "item": (("id", 23), ("cat", 23), ("title", 25)),
    "category": (("id", 23), ("name", 25)),
    "review": (("id", 23), ("item", 23), ("body", 25)),
}
NAMES = {name: TableName(1000 + at, "public", name) for at, name in enumerate(COLUMNS)}
RELATIONS = {
    name: Relation(
        NAMES[name].oid,
        "public",
        name,
        Identity.FULL,
        tuple(RelationColumn(c, oid, -1, in_identity=True) for c, oid in columns),
    )
    for name, columns in COLUMNS.items()
}
INTEGER, TEXT = TypeShape(Kind.SCALAR, "int4", 23), TypeShape(Kind.SCALAR, "text", 25)


BAD = "!"
"""With this a title begins of which no joined document can be made."""
FAILS = b"the query fails"
"""What the oracle says in its place."""


def image(row: Row) -> tuple[Value, ...]:
    """A row as the log shows it."""
    return tuple(None if v is None else str(v).encode() for v in row)


def flat(tables: Tables) -> Documents:
    """The items as they are."""
    return {
        (str(id_),): orjson.dumps({"id": id_, "cat": cat, "title": title})
        for id_, cat, title in tables["item"].values()
    }


def joined(tables: Tables) -> Documents:
    """Items that have a category, with it and with their reviews."""
    reviews: dict[int, list[str]] = {}
    for _, item, body in sorted(tables["review"].values()):
        reviews.setdefault(item, []).append(body)
    categories = tables["category"]
    return {
        (str(id_),): FAILS
        if title.startswith(BAD)
        else orjson.dumps(
            {
                "id": id_,
                "title": title,
                "category": categories[cat][1],
                "reviews": reviews.get(id_),
            }
        )
        for id_, cat, title in tables["item"].values()
        if cat in categories
    }


def grouped(tables: Tables) -> Documents:
    """For each name of a category its items."""
    groups: dict[str, list[int]] = {}
    for id_, cat, _ in sorted(tables["item"].values()):
        if cat in tables["category"]:
            groups.setdefault(tables["category"][cat][1], []).append(id_)
    return {
        (name,): orjson.dumps({"name": name, "items": items})
        for name, items in groups.items()
    }


ORACLE = {"flat": flat, "joined": joined, "grouped": grouped}


def found_keys(
    view: str, occurrence: str, tables: Tables, images: Iterable[tuple[Value, ...]]
) -> list[Parts]:
    """What the key query of an occurrence answers over these rows."""
    wanted = {int(v) for (v,) in images if isinstance(v, bytes)}
    items, categories = tables["item"].values(), tables["category"]
    match view, occurrence:
        case "joined", "category":
            keys = {str(id_) for id_, cat, _ in items if cat in wanted}
        case "joined", "review":
            keys = {str(id_) for id_, _, _ in items if id_ in wanted}
        case "grouped", "item":
            keys = {categories[cat][1] for cat in wanted if cat in categories}
        case _:
            raise AssertionError((view, occurrence))
    return [(key,) for key in sorted(keys)]


def _use(table: str, columns: Sequence[str]) -> TableUse:
    return TableUse(NAMES[table], frozenset(columns), frozenset(columns))


def _plan(
    name: str,
    columns: tuple[Column, ...],
    tables: Mapping[str, Sequence[str]],
    queries: Sequence[KeyQuery],
    direct: Direct | None = None,
) -> ViewPlan:
    return ViewPlan(
        name=name,
        query=name,
        shape=Shape(columns, (columns[0].name,)),
        tables=tuple(_use(table, used) for table, used in tables.items()),
        key_queries=tuple(queries),
        null_key=False,
        direct=direct,
        documents_sql="",
        cast_sql="",
        scan_sql="",
        boundary_sql="",
        estimate_sql="",
        matching_sql="",
        fingerprint=name,
    )


def _query(table: str, column: str, *, direct: bool = False) -> KeyQuery:
    return KeyQuery(NAMES[table], table, (column,), None if direct else table)


PLANS = {
    "flat": _plan(
        "flat",
        (Column("id", INTEGER), Column("cat", INTEGER), Column("title", TEXT)),
        {"item": ("id", "cat", "title")},
        (),
        Direct(
            NAMES["item"],
            tuple(DirectColumn(c, c, oid, -1) for c, oid in COLUMNS["item"]),
            ("id",),
        ),
    ),
    "joined": _plan(
        "joined",
        (Column("id", INTEGER), Column("title", TEXT)),
        {
            "item": ("id", "cat", "title"),
            "category": ("id", "name"),
            "review": ("id", "item", "body"),
        },
        (
            _query("item", "id", direct=True),
            _query("category", "id"),
            _query("review", "item"),
        ),
    ),
    "grouped": _plan(
        "grouped",
        (Column("name", TEXT),),
        {"item": ("id", "cat"), "category": ("id", "name")},
        (_query("item", "cat"), _query("category", "name", direct=True)),
    ),
}
