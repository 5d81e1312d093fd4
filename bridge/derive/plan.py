"""Planning: what a view's query needs, found out once.

The one thing to know: this is a function of the definition and the catalog, without a
server; the same input gives the same plan, to the byte.
"""

from __future__ import annotations

from hashlib import sha256

from pglast import ast

from bridge.catalog import Analysis, AnalysisFailure, Catalog, Definition, Table
from bridge.derive.parse import parse_printed
from bridge.derive.shapes import type_shape
from bridge.derive.statements import (
    KeyColumn,
    boundary_sql,
    documents_sql,
    estimate_sql,
    inlined,
    matching_sql,
    one_text,
    scan_sql,
)
from bridge.derive.view import (
    Direct,
    DirectColumn,
    KeyQuery,
    TableName,
    TableUse,
    ViewPlan,
)
from bridge.errors import QueryRefusal
from bridge.shape import Column, Shape


def plan_view(definition: Definition, catalog: Catalog) -> ViewPlan:
    """The plan of one view. QueryRefusal when it cannot be kept."""
    analysis = catalog.analyses[definition.name]
    if isinstance(analysis, AnalysisFailure):
        raise QueryRefusal(analysis.message, hint=analysis.hint, at=analysis.at)
    statement = parse_printed(analysis.query)
    return _single(definition, catalog, analysis, statement)


def _single(
    definition: Definition,
    catalog: Catalog,
    analysis: Analysis,
    statement: ast.SelectStmt,
) -> ViewPlan:
    items = statement.fromClause or ()
    source = items[0] if len(items) == 1 else None
    targets = [t.val for t in statement.targetList or ()]
    if not isinstance(source, ast.RangeVar) or not all(
        isinstance(t, ast.ColumnRef) for t in targets
    ):
        raise QueryRefusal("only views over one table are planned yet")
    table = catalog.relation(str(source.schemaname), str(source.relname))
    if not isinstance(table, Table):
        raise QueryRefusal("only views over one table are planned yet")
    sources = [t.fields[-1].sval for t in targets]
    outputs = dict(zip(sources, analysis.columns, strict=True))
    primary = definition_key = getattr(definition, "key", None)
    if primary is None:
        primary = table.primary_key
        definition_key = primary and tuple(
            outputs[c].name for c in primary if c in outputs
        )
    else:
        primary = tuple(
            s for name in primary for s, o in outputs.items() if o.name == name
        )
    if primary is None or definition_key is None or len(definition_key) != len(primary):
        raise QueryRefusal(f"{table} has no primary key among the output columns")
    key = tuple(
        KeyColumn(
            outputs[c].name,
            base,
            nullable=False,
            exact=one_text(
                base,
                deterministic=outputs[c].deterministic,
                modifier=outputs[c].modifier,
            ),
        )
        for c in primary
        for base in (catalog.base_type(outputs[c].type_oid),)
    )
    columns = tuple(
        Column(
            o.name,
            type_shape(catalog.types, o.type_oid, o.modifier),
            not table.column(s).not_null,
        )
        for s, o in zip(sources, analysis.columns, strict=True)
    )
    name = TableName(table.oid, table.schema, table.name)
    direct = Direct(
        name,
        tuple(
            DirectColumn(s, o.name, o.type_oid, o.modifier)
            for s, o in zip(sources, analysis.columns, strict=True)
        ),
        primary,
    )
    query = analysis.query
    return ViewPlan(
        name=definition.name,
        query=query,
        shape=Shape(columns, tuple(c.name for c in key)),
        tables=(TableUse(name, frozenset(table.names), frozenset(primary)),),
        key_queries=(KeyQuery(name, table.name, primary, None),),
        null_key=False,
        direct=direct if statement.whereClause is None else None,
        documents_sql=documents_sql(query, key),
        scan_sql=scan_sql(query, key),
        boundary_sql=boundary_sql(inlined(query), key),
        estimate_sql=estimate_sql([leaf.oid for leaf in table.leaves]),
        matching_sql=matching_sql(query, key),
        fingerprint=sha256(query.encode()).hexdigest(),
    )
