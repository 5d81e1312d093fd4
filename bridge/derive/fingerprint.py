"""A digest of what a view's documents depend on, besides the rows.

The one thing to know: two plans with one fingerprint give the same documents for the
same rows; another fingerprint means that all have to be derived again. Statistics,
indexes, grants and columns that the view does not mention are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from bridge.catalog import Analysis, Catalog, Table, Uses
from bridge.derive.view import DependsOn

_FIRST_NORMAL_OID = 16384
"""Below it are the objects of Postgres itself."""


def fingerprint(
    analysis: Analysis,
    uses: Uses,
    catalog: Catalog,
    used: Mapping[int, frozenset[str]],
    key: Sequence[str],
) -> str:
    """The digest, in hexadecimal. `used` has of each table the columns it reads."""
    types = _types(analysis, uses, catalog, used)
    material = [
        analysis.query,
        [[c.name, c.type_oid, c.modifier] for c in analysis.columns],
        list(key),
        [
            [catalog.views[oid].schema, catalog.views[oid].definition]
            for oid in sorted(uses.relations & catalog.views.keys())
        ],
        [_function(catalog, oid) for oid in sorted(_called(uses, catalog))],
        [_table(catalog.tables[oid], used[oid]) for oid in sorted(used)],
        [_type(catalog, oid) for oid in sorted(types)],
    ]
    text = json.dumps(material, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def depends_on(
    analysis: Analysis, uses: Uses, catalog: Catalog, used: Mapping[int, frozenset[str]]
) -> DependsOn:
    """The objects behind the fingerprint that are not Postgres' own."""
    types = set(_types(analysis, uses, catalog, used))
    below = list(types)
    while below:
        found = catalog.types.get(below.pop())
        if found is not None:
            inner = {found.base, found.element, *(oid for _, oid, _ in found.members)}
            below += inner - types - {0}
            types |= inner
    return DependsOn(
        uses.relations,
        frozenset(o for o in _called(uses, catalog) if o >= _FIRST_NORMAL_OID),
        frozenset(o for o in types if o >= _FIRST_NORMAL_OID),
    )


def _types(
    analysis: Analysis, uses: Uses, catalog: Catalog, used: Mapping[int, frozenset[str]]
) -> set[int]:
    types = set(uses.types) | {column.type_oid for column in analysis.columns}
    for oid, names in used.items():
        types |= {c.type_oid for c in catalog.tables[oid].columns if c.name in names}
    return types


def _called(uses: Uses, catalog: Catalog) -> Iterable[int]:
    behind = {catalog.operators.get(operator, 0) for operator in uses.operators}
    return uses.functions | (behind - {0})


def _function(catalog: Catalog, oid: int) -> list[object]:
    function = catalog.functions.get(oid)
    if function is None or oid < _FIRST_NORMAL_OID:
        return [oid]
    return [oid, function.schema, function.name, function.volatility, function.body]


def _table(table: Table, used: frozenset[str]) -> list[object]:
    columns = [
        [c.name, c.number, c.type_oid, c.modifier, c.generated, c.expression]
        for c in table.columns
        if c.name in used
    ]
    return [table.oid, columns]


def _type(catalog: Catalog, oid: int) -> list[object]:
    found = catalog.types.get(oid)
    if found is None or oid < _FIRST_NORMAL_OID:
        return [oid]
    below = [part for _, part, _ in found.members]
    below += [part for part in (found.base, found.element) if part]
    return [
        oid,
        found.name,
        found.base_modifier,
        list(found.labels),
        [[name, modifier] for name, _, modifier in found.members],
        [_type(catalog, part) for part in below],
    ]
