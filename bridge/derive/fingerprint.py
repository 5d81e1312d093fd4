"""A digest of what a view's documents depend on, besides the rows.

The one thing to know: two plans with one fingerprint give the same documents for the
same rows; another fingerprint means that all have to be derived again. Statistics,
indexes, grants and columns that the view does not mention are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256

from bridge.catalog import Analysis, Catalog, Table, Uses


def fingerprint(
    analysis: Analysis,
    catalog: Catalog,
    tables: Mapping[int, Table],
    key: Sequence[str] | None,
) -> str:
    """The digest, in hexadecimal."""
    uses, views = analysis.uses, []
    for oid in sorted(catalog.views):
        if oid in uses.relations:
            uses |= catalog.view_uses.get(oid, Uses())
    for oid in sorted(uses.relations & catalog.views.keys()):
        views.append([catalog.views[oid].schema, catalog.views[oid].definition])
    outputs = {c.type_oid for c in analysis.columns}
    material = [
        analysis.query,
        [[c.name, c.type_oid, c.modifier] for c in analysis.columns],
        list(key) if key is not None else None,
        views,
        [_function(catalog, oid) for oid in sorted(uses.functions)],
        [_table(tables[oid]) for oid in sorted(tables)],
        [_type(catalog, oid) for oid in sorted(uses.types | outputs)],
    ]
    text = json.dumps(material, ensure_ascii=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _function(catalog: Catalog, oid: int) -> list[object]:
    function = catalog.functions.get(oid)
    if function is None or function.schema == "pg_catalog":
        return [oid]
    return [function.schema, function.name, function.volatility, function.body]


def _table(table: Table) -> list[object]:
    return [table.oid, table.schema, table.name]


def _type(catalog: Catalog, oid: int) -> list[object]:
    found = catalog.types.get(oid)
    if found is None or oid < FIRST_NORMAL_OID:
        return [oid]
    parts = [_type(catalog, part) for _, part, _ in found.members]
    for inner in (found.base, found.element):
        if inner:
            parts.append(_type(catalog, inner))
    return [
        found.oid,
        found.name,
        found.base_modifier,
        list(found.labels),
        [[name, modifier] for name, _, modifier in found.members],
        parts,
    ]


FIRST_NORMAL_OID = 16384
"""Below it are the types of Postgres itself."""
