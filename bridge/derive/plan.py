"""Planning: what a view's query needs, found out once.

    plan_view(definition, catalog) -> ViewPlan          or QueryRefusal
    plan_ways(definition, catalog) -> Planned           with the ways, for explaining

The one thing to know: this is a function of the definition and the catalog, without a
server; the same input gives the same plan, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pglast import ast
from psycopg.sql import SQL, Identifier

from bridge.catalog import (
    Analysis,
    AnalysisFailure,
    Catalog,
    Definition,
    RelationKind,
    Uses,
)
from bridge.derive import places
from bridge.derive.fingerprint import depends_on, fingerprint
from bridge.derive.functions import (
    FunctionRefusal,
    check_functions,
    check_json,
    rounding,
)
from bridge.derive.key import Key, find_key
from bridge.derive.keyqueries import Way, table_name, way
from bridge.derive.levels import (
    ALL,
    Edge,
    Nulls,
    Occurrence,
    Query,
    Rule,
    Rules,
    edges,
    may_fail,
    read,
    ways,
)
from bridge.derive.levels.model import Arm
from bridge.derive.orders import check_orders
from bridge.derive.output import (
    check_constants,
    check_output,
    check_shown,
    output_shape,
)
from bridge.derive.parse import parse_printed, parse_source, too_deep
from bridge.derive.statements import (
    KeyColumn,
    boundary_sql,
    cast_sql,
    documents_sql,
    estimate_sql,
    inlined,
    keys_of_table,
    matching_sql,
    null_keys_sql,
    one_text,
    scan_by_key_sql,
    scan_sql,
    uninlined_expressions,
)
from bridge.derive.structure import Structures
from bridge.derive.tables import (
    check_seen,
    check_table,
    described,
    mark_used,
    used_columns,
)
from bridge.derive.ties import check_ties
from bridge.derive.view import Direct, DirectColumn, KeyQuery, TableUse, ViewPlan
from bridge.errors import QueryRefusal
from bridge.shape import Shape


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and how it came to be."""

    plan: ViewPlan
    key: Key
    ways: tuple[Way, ...]
    query: Query


def plan_view(definition: Definition, catalog: Catalog) -> ViewPlan:
    """The plan of one view. QueryRefusal when it cannot be kept."""
    return plan_ways(definition, catalog).plan


def plan_ways(definition: Definition, catalog: Catalog, rules: Rules = ALL) -> Planned:
    """The plan with the way of each occurrence. `rules` is for tests alone."""
    analysis = catalog.analyses[definition.name]
    if isinstance(analysis, AnalysisFailure):
        at = analysis.at
        if at is None and definition.query is not None:
            at = places.of_quoted(analysis.source, analysis.message)
        raise QueryRefusal(
            analysis.message,
            hint=analysis.hint,
            at=at,
            denied=analysis.denied,
        )
    try:
        return _plan(definition, analysis, catalog, rules)
    except QueryRefusal as refusal:
        _place(refusal, analysis.source)
        raise
    except RecursionError:
        raise too_deep() from None


def _place(refusal: QueryRefusal, source: str) -> None:
    """Find where in the text it stands; what is of the whole, at its output."""
    if refusal.at is None and isinstance(refusal, FunctionRefusal):
        refusal.at = places.of_function(source, refusal.name)
    elif isinstance(refusal, places.NamedRefusal):
        refusal.locate(source)
    if refusal.at is None:
        refusal.at = places.of_outputs(source)


def _plan(
    definition: Definition, analysis: Analysis, catalog: Catalog, rules: Rules
) -> Planned:
    if definition.query is not None:
        source = parse_source(definition.query)
        check_output(source, analysis, catalog)
        check_constants(source, parse_printed(analysis.query))
    uses = all_uses(analysis.uses, catalog)
    check_functions(uses, catalog, definition.functions)
    check_shown(uses, catalog)
    statement = parse_printed(analysis.query)
    query = read(statement, catalog, rules)
    for occurrence in query.occurrences:
        _check_table(occurrence, analysis)
    check_seen(query, uses, catalog)
    if analysis.denied:
        raise QueryRefusal(
            f"the query may not be run: {analysis.denied}",
            hint="behind a view of the database its owner's rights count: give them to "
            "him (or the attribute bypassrls), or read the table itself",
            denied=True,
        )
    key = find_key(query, definition.key, catalog, rules)
    check_orders(query, rounding(uses, catalog))
    _check_key(key, catalog)
    check_ties(query, catalog, Structures(query, catalog, analysis.parts))
    found = _ways(query, key, catalog, analysis, rules)
    return Planned(
        _assemble(definition, analysis, catalog, query, key, found, rules),
        key,
        found,
        query,
    )


def all_uses(uses: Uses, catalog: Catalog) -> Uses:
    """What the query uses, and the views of the database in it."""
    seen: set[int] = set()
    waiting = list(uses.relations)
    while waiting:
        oid = waiting.pop()
        if oid in seen or oid not in catalog.view_uses:
            continue
        seen.add(oid)
        inner = catalog.view_uses[oid]
        uses |= inner
        waiting += inner.relations
    return uses


def _check_table(occurrence: Occurrence, analysis: Analysis) -> None:
    try:
        check_table(occurrence.table, only=occurrence.only)
    except QueryRefusal as refusal:
        refusal.at = places.of_table(
            analysis.source, occurrence.name, occurrence.table.name
        )
        raise


def _check_key(key: Key, catalog: Catalog) -> None:
    """Keys are compared by text: a group must not have several."""
    table = key.occurrence.table
    unique = _is_unique(key)
    barriers = any(
        level.passing is not None
        for node in key.occurrence.leaf.up()
        for level in (node.level,)
    )
    for value, name in zip(key.values, key.columns, strict=True):
        column = table.column(name)
        if column.generated:
            raise QueryRefusal(
                f"the key column {table}.{name} is generated, and the log may leave "
                "it out",
                hint="let the application set it, or a trigger",
            )
        base = catalog.base_type(column.type_oid)
        exact = one_text(
            base, deterministic=column.deterministic, modifier=column.modifier
        )
        if isinstance(value, ast.ColumnRef) and not exact and barriers and not unique:
            raise places.NamedRefusal(
                f"{name} is {base.name}, where one value has several texts, and keys "
                "are compared by text",
                output=name,
                hint=f"group by {name}::text, and give that out",
            )


def _is_unique(key: Key) -> bool:
    """Whether the key's table has no value of it twice, whatever the view has."""
    table = key.occurrence.table
    return any(set(columns) <= set(key.columns) for columns in table.keys)


def _ways(
    query: Query, key: Key, catalog: Catalog, analysis: Analysis, rules: Rules
) -> tuple[Way, ...]:
    # Above the null group the key's table is there: its rows are found as by an
    # inner join, and the null group itself at every change.
    for join in key.joins:
        join.outer = False
    all_links = edges(query, Nulls(catalog), rules)
    links = [edge for edge in all_links if _published(edge)]
    found = ways(key.occurrence, links, _indexed, rules)
    for occurrence in query.occurrences:
        if id(occurrence) not in found:
            generated = [e for e in all_links if e.source is occurrence]
            raise _no_way(occurrence, generated, query, analysis, catalog)
    return tuple(
        way(occurrence, found[id(occurrence)], key, catalog)
        for occurrence in query.occurrences
    )


def _no_way(
    occurrence: Occurrence,
    generated: Sequence[Edge],
    query: Query,
    analysis: Analysis,
    catalog: Catalog,
) -> QueryRefusal:
    """Why an occurrence is not reached, as far as it can be told."""
    table = occurrence.table
    called = f" (as {occurrence.name})" if occurrence.name != table.name else ""
    why = ""
    hint = (
        "join it by a condition that every row of it must meet, on columns of a table "
        "that leads to the key"
    )
    if any(not _published(edge) for edge in generated):
        why = ": the condition is on a generated column, which the log may leave out"
        hint = "join on a column that the application or a trigger sets"
    elif may_fail(query, occurrence, catalog):
        why = ": its condition has a cast or a function that may fail for another row"
        hint = "compare as texts, as in `u.id::text = r.code`, or by plain columns"
    return QueryRefusal(
        f"a change of {table}{called} cannot be followed to the documents that it "
        f"touches{why}",
        hint=hint,
        at=places.of_table(analysis.source, occurrence.name, table.name),
    )


def _published(edge: Edge) -> bool:
    """The log has the columns of the changed side: generated ones may be left out."""
    return not any(
        edge.source.table.column(ref.column).generated
        for link in edge.links
        for ref in link.refs
        if ref.occurrence is edge.source
    )


def _indexed(edge: Edge) -> bool:
    leading = {target for _, target in edge.equals}
    return any(
        index.valid and not index.partial and index.columns[0] in leading
        for index in edge.target.table.indexes
        if index.columns
    )


def _assemble(
    definition: Definition,
    analysis: Analysis,
    catalog: Catalog,
    query: Query,
    key: Key,
    found: tuple[Way, ...],
    rules: Rules,
) -> ViewPlan:
    mark_used(query)
    needed: dict[int, frozenset[str]] = {}
    for one in found:
        oid = one.occurrence.table.oid
        needed[oid] = needed.get(oid, frozenset()) | frozenset(one.query.columns)
    used = used_columns(query.occurrences, needed)
    check_json(_types(analysis, query, used), catalog, definition.functions)
    tables = {o.table.oid: o.table for o in query.occurrences}
    uses = all_uses(analysis.uses, catalog)
    columns = _key_columns(analysis, catalog, key)
    shape = output_shape(analysis, catalog, query)
    text = uninlined_expressions(analysis.query)
    root = key.occurrence.table
    plain = all(isinstance(value, ast.ColumnRef) for value in key.values)
    keys = inlined(text)
    if plain and not query.root.branches:
        source = SQL("only {}" if key.occurrence.only else "{}").format(
            Identifier(root.schema, root.name)
        )
        unique = _is_unique(key)
        keys = keys_of_table(source, key.columns, columns, unique=unique)
    by_key = plain and _computes_all(query) and not any(c.nullable for c in columns)
    return ViewPlan(
        name=definition.name,
        query=analysis.query,
        shape=Shape(
            shape,
            tuple(c.name for c in columns),
            key_nullable=bool(key.joins) or any(c.nullable for c in columns),
        ),
        tables=tuple(
            TableUse(
                table_name(table),
                used[oid],
                needed[oid],
                described(table, used[oid]),
                by_leaf=table.kind is RelationKind.PARTITIONED,
            )
            for oid, table in tables.items()
        ),
        key_queries=_distinct(found),
        null_key=bool(key.joins) and Rule.NULL_GROUP in rules,
        direct=_direct(analysis, query, key),
        documents_sql=documents_sql(text, columns),
        cast_sql=cast_sql(columns),
        scan_sql=scan_by_key_sql(text, keys, columns)
        if by_key
        else scan_sql(text, columns),
        boundary_sql=boundary_sql(keys, columns),
        null_keys_sql=null_keys_sql(keys, columns),
        estimate_sql=estimate_sql([leaf.oid for leaf in root.leaves]),
        matching_sql=matching_sql(text, columns),
        fingerprint=fingerprint(
            analysis, uses, catalog, used, [c.name for c in columns]
        ),
        depends_on=depends_on(analysis, uses, catalog, used),
    )


def _types(
    analysis: Analysis, query: Query, used: Mapping[int, frozenset[str]]
) -> set[int]:
    """The types of what the view reads and gives out."""
    found = {column.type_oid for column in analysis.columns}
    for table in {o.table.oid: o.table for o in query.occurrences}.values():
        found |= {c.type_oid for c in table.columns if c.name in used[table.oid]}
    return found


def _computes_all(query: Query) -> bool:
    """Whether a range item is a group, window, limit or union: see scan_by_key_sql."""
    return any(
        level is not query.root
        and level.top.arm is Arm.DERIVED
        and level.top.parent is not None
        and level.top.parent.arm in (Arm.ITEM, Arm.KEPT, Arm.NULLABLE)
        and (level.passing is not None or bool(level.branches))
        for level in query.levels
    )


def _distinct(found: tuple[Way, ...]) -> tuple[KeyQuery, ...]:
    """Each key query once: references with the same way share one."""
    queries: dict[tuple[int, tuple[str, ...], str | None], KeyQuery] = {}
    for one in found:
        query = one.query
        queries.setdefault((query.table.oid, query.columns, query.sql), query)
    return tuple(queries.values())


def _key_columns(
    analysis: Analysis, catalog: Catalog, key: Key
) -> tuple[KeyColumn, ...]:
    table = key.occurrence.table
    found = []
    for place, name in zip(key.outputs, key.columns, strict=True):
        output = analysis.columns[place]
        base = catalog.base_type(output.type_oid)
        found.append(
            KeyColumn(
                output.name,
                base,
                nullable=bool(key.joins) or not table.column(name).not_null,
                exact=one_text(
                    base, deterministic=output.deterministic, modifier=output.modifier
                ),
            )
        )
    return tuple(found)


def _direct(analysis: Analysis, query: Query, key: Key) -> Direct | None:
    """The view is one table's rows as they are: documents come from the log."""
    statement = query.root.statement
    if len(query.occurrences) != 1 or len(query.levels) != 1 or query.root.conditions:
        return None
    [occurrence] = query.occurrences
    if (
        query.root.passing is not None
        or query.root.grouped
        or len(query.root.items) != 1
    ):
        return None
    columns = []
    for target, output in zip(
        statement.targetList or (), analysis.columns, strict=True
    ):
        value = target.val
        if not isinstance(value, ast.ColumnRef) or not value.fields:
            return None
        source = occurrence.source(str(value.fields[-1].sval))
        if source is None:
            return None
        columns.append(
            DirectColumn(source, output.name, output.type_oid, output.modifier)
        )
    if any(occurrence.table.column(c.source).generated for c in columns):
        return None
    return Direct(table_name(occurrence.table), tuple(columns), key.columns)
