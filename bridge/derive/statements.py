"""The statements that read a view: documents of keys, ranges, boundaries, estimates.

The view's query stands in them as Postgres printed it. The one thing to know: a key's
documents are read in a lateral sub-select of their own, with the key as a parameter.
There Postgres carries `key = …` along every equality into derived tables, groups and
windows, which it does for no join and no `= any (…)`; so the cost of a key does not
depend on how large the tables are. `offset 0` keeps it from being flattened.

No name of a column can be mistaken here: they are always written `v.name`, documents
are made of `v.*`, and the printed query sees no alias of these statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pglast.parser import scan
from psycopg.sql import SQL, Composable, Identifier, Literal

from bridge.catalog import Type

EXACT = frozenset(
    "bool int2 int4 int8 oid text varchar name uuid date time timestamp timestamptz "
    "bytea char inet cidr macaddr macaddr8 bit varbit pg_lsn xid8 money".split()
)
"""Built-in types whose equal values always have one text."""


CAST_TO_TEXT = frozenset(("bool", "bpchar", "inet"))
"""Built-in types whose cast to text is not their output: `true`, no padding, `/32`."""


def one_text(of: Type, *, deterministic: bool = True, modifier: int = -1) -> bool:
    """Whether equal values of the type always have the same text."""
    if of.kind == "e":
        return True
    if of.schema != "pg_catalog" or not deterministic:
        return False
    return of.name in EXACT or (of.name == "bpchar" and modifier > 0)


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One key column of the output."""

    name: str
    type: Type
    """Below all domains."""
    nullable: bool
    exact: bool
    """Whether equal values of the type always have one text."""


def text_of(value: Composable, of: Type, *, nullable: bool = True) -> Composable:
    """SQL for the text of a value: its type's own output, as the log has it, but for
    three types of which `compile_key` makes what the cast makes."""
    cast = of.schema == "pg_catalog" and of.name in CAST_TO_TEXT
    if cast or of.text_by_output:
        return SQL("({})::pg_catalog.text").format(value)
    made = SQL("pg_catalog.format('%s', {})").format(value)
    if not nullable:
        return made
    return SQL("case when {} is not null then {} end").format(value, made)


def of_text(text: Composable, of: Type) -> Composable:
    """SQL for the value that a text stands for."""
    return SQL("({})::{}").format(text, Identifier(of.schema, of.name))


def operator(symbol: str, of: Type) -> Composable:
    """A comparison of the type by its default ordering, found under any search path."""
    schema = of.equals[0] if of.equals is not None else "pg_catalog"
    if schema == "pg_catalog":
        return SQL(symbol)
    return SQL("operator({}.{})").format(Identifier(schema), SQL(symbol))


def inlined(query: str) -> Composable:
    """The printed query in parentheses, as one table."""
    return SQL("(\n{}\n)").format(SQL(query))


def unnested(count: int, alias: str) -> Composable:
    """The text arrays `$1`, `$2`, … side by side as `alias(c1, c2, …)`."""
    arrays = (f"pg_catalog.unnest(${i + 1}::pg_catalog.text[])" for i in range(count))
    return SQL("rows from ({}) as {}({})").format(
        SQL(", ").join(SQL(array) for array in arrays),
        Identifier(alias),
        SQL(", ").join(Identifier(f"c{i + 1}") for i in range(count)),
    )


def _texts(key: Sequence[KeyColumn]) -> Composable:
    return SQL(", ").join(
        text_of(Identifier("v", c.name), c.type, nullable=c.nullable) for c in key
    )


def cast_sql(key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.cast_sql`."""
    values = (of_text(Identifier("k", f"c{i + 1}"), c.type) for i, c in enumerate(key))
    return (
        SQL("select {} from {}")
        .format(SQL(", ").join(values), unnested(len(key), "k"))
        .as_string(None)
    )


def documents_sql(query: str, key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.documents_sql`."""
    branch = SQL(
        "select d.* from {keys}\n cross join lateral (\n"
        "select {texts}, pg_catalog.row_to_json(v.*)::pg_catalog.text\n"
        "  from {query} v\n where {match}\noffset 0) d{given}"
    )
    given = [Identifier("k", f"c{i + 1}") for i in range(len(key))]
    parts = {
        "keys": unnested(len(key), "k"),
        "texts": _texts(key),
        "query": inlined(query),
    }
    statement: Composable = branch.format(
        match=SQL(" and ").join(
            _matches(c, k, nulls=False) for c, k in zip(key, given, strict=True)
        ),
        given=SQL(""),
        **parts,
    )
    nullable = [k for c, k in zip(key, given, strict=True) if c.nullable]
    if nullable:
        missing = SQL(" or ").join(SQL("{} is null").format(k) for k in nullable)
        statement = SQL("{}\nunion all\n{}").format(
            statement,
            branch.format(
                match=SQL(" and ").join(
                    _matches(c, k, nulls=c.nullable)
                    for c, k in zip(key, given, strict=True)
                ),
                given=SQL("\n where {}").format(missing),
                **parts,
            ),
        )
    return statement.as_string(None)


def _matches(column: KeyColumn, given: Composable, *, nulls: bool) -> Composable:
    value = Identifier("v", column.name)
    same: Composable = SQL("{} {} {}").format(
        value, operator("=", column.type), of_text(given, column.type)
    )
    if not column.exact:  # a citext 'A' is not the key 'a'
        text = text_of(value, column.type, nullable=False)
        # By bytes: under the column's own collation 'A' may be 'a' as well.
        same = SQL('{} and {} collate pg_catalog."C" = {}').format(same, text, given)
    if nulls:
        same = SQL("({} or {} is null and {} is null)").format(same, value, given)
    return same


def scan_sql(query: str, key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.scan_sql`. Meant for custom plans."""
    return (
        SQL(
            "select {texts}, pg_catalog.row_to_json(v.*)::pg_catalog.text\n"
            "  from {query} v\n where {range}\n order by {order}"
        )
        .format(
            texts=_texts(key),
            query=inlined(query),
            range=_range(key),
            order=_order(key),
        )
        .as_string(None)
    )


def scan_by_key_sql(query: str, source: Composable, key: Sequence[KeyColumn]) -> str:
    """`scan_sql` for a view that stands on groups or windows: each key on its own.

    A range of keys does not reach into a group that is joined to it, so that each
    range would compute all of them; one key does. `source` has the keys.
    """
    match = SQL(" and ").join(
        SQL("{} {} {}").format(
            Identifier("v", c.name), operator("=", c.type), Identifier("k", c.name)
        )
        for c in key
    )
    return (
        SQL(
            "select d.* from (select v.* from {source} v where {range}) k\n"
            " cross join lateral (\n"
            "select {texts}, pg_catalog.row_to_json(v.*)::pg_catalog.text\n"
            "  from {query} v\n where {match}\noffset 0) d\n order by {order}"
        )
        .format(
            source=source,
            range=_range(key),
            texts=_texts(key),
            query=inlined(query),
            match=match,
            order=_order(key, "k"),
        )
        .as_string(None)
    )


def _order(key: Sequence[KeyColumn], of: str = "v") -> Composable:
    return SQL(", ").join(Identifier(of, c.name) for c in key)


def _bound(key: Sequence[KeyColumn], number: int, symbol: str) -> Composable:
    """The key is on that side of the bound in parameter `number`, if there is one."""
    array = SQL(f"${number}::pg_catalog.text[]")
    values = [
        of_text(SQL("({})[{}]").format(array, Literal(i + 1)), c.type)
        for i, c in enumerate(key)
    ]
    schemas = {c.type.equals[0] for c in key if c.type.equals is not None}
    if len(schemas) > 1:
        inside = _beyond(list(zip(key, values, strict=True)), symbol)
    else:
        row = SQL("({}) {} ({})") if len(key) == 1 else SQL("row({}) {} row({})")
        compare = operator(symbol, key[0].type)
        inside = row.format(_order(key), compare, SQL(", ").join(values))
    return SQL("({} is null or {})").format(array, inside)


def _beyond(pairs: Sequence[tuple[KeyColumn, Composable]], symbol: str) -> Composable:
    """Rows compared column by column: of types whose operators are in several schemas
    no one name finds all of them, and one found by the search path may be another
    type's, by which texts are ordered otherwise."""
    [(column, value), *rest] = pairs
    own = Identifier("v", column.name)

    def compared(by: str) -> Composable:
        return SQL("{} {} {}").format(own, operator(by, column.type), value)

    if not rest:
        return compared(symbol)
    # The first for an index, the others for what it leaves open.
    return SQL("({} and ({} or {}))").format(
        compared(f"{symbol[0]}="), compared(symbol[0]), _beyond(rest, symbol)
    )


def _range(key: Sequence[KeyColumn]) -> Composable:
    """Above $1 and not above $2. Keys with a null come in the last range of all."""
    inside = SQL("{} and {}").format(_bound(key, 1, ">"), _bound(key, 2, "<="))
    nulls = _nulls(key)
    if nulls is None:
        return inside
    return SQL("(case when {} then $2::pg_catalog.text[] is null else {} end)").format(
        nulls, inside
    )


def _nulls(key: Sequence[KeyColumn]) -> Composable | None:
    """The key has a part that is null; None where that cannot be."""
    nullable = [c for c in key if c.nullable]
    if not nullable:
        return None
    return SQL(" or ").join(
        SQL("{} is null").format(Identifier("v", c.name)) for c in nullable
    )


def boundary_sql(source: Composable, key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.boundary_sql`; `source` is a table with the key's columns."""
    nulls = _nulls(key)
    return (
        SQL(
            "select array[{texts}]::pg_catalog.text[] from {source} v\n"
            " where {range}{nulls}\n order by {order}\n"
            "offset $2::pg_catalog.int8 - 1 limit 1"
        )
        .format(
            texts=_texts(key),
            source=source,
            range=_bound(key, 1, ">"),
            nulls=SQL("") if nulls is None else SQL(" and not ({})").format(nulls),
            order=_order(key),
        )
        .as_string(None)
    )


def null_keys_sql(source: Composable, key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.null_keys_sql`; `source` is a table with the key's columns."""
    nulls = _nulls(key)
    if nulls is None:
        return ""
    return (
        SQL(
            "select distinct array[{texts}]::pg_catalog.text[] from {source} v\n"
            " where {nulls}"
        )
        .format(texts=_texts(key), source=source, nulls=nulls)
        .as_string(None)
    )


def keys_of_table(
    table: Composable,
    columns: Sequence[str],
    key: Sequence[KeyColumn],
    *,
    unique: bool,
) -> Composable:
    """The key columns of a table, under the names they have in the output.

    Ranges cut by them are ranges of the view: it has no other keys. Each once, also of
    those that are not `unique` in the table: of several rows one may be in the view.
    """
    chosen = SQL(", ").join(
        SQL("{} as {}").format(Identifier("t", name), Identifier(column.name))
        for name, column in zip(columns, key, strict=True)
    )
    distinct = SQL("") if unique else SQL("distinct ")
    return SQL("(select {}{} from {} t)").format(distinct, chosen, table)


def uninlined_expressions(query: str) -> str:
    """The query with every common table expression free to be inlined.

    A key does not reach into one that Postgres computes on its own; without volatile
    functions, which are refused, both ways give the same rows.
    """
    tokens = list(scan(query))
    words = [query[t.start : t.end + 1].lower() for t in tokens]
    found: list[tuple[int, int, str]] = []
    for i, token in enumerate(tokens):
        if token.name != "AS" or i + 2 >= len(tokens):
            continue
        if words[i + 1] == "materialized":
            found.append(
                (tokens[i + 1].start, tokens[i + 1].end + 1, "NOT MATERIALIZED")
            )
        elif words[i + 1] == "(" and words[i + 2] in ("select", "with", "values", "("):
            found.append((token.end + 1, token.end + 1, " NOT MATERIALIZED"))
    for start, end, text in reversed(found):
        query = query[:start] + text + query[end:]
    return query


def matching_sql(query: str, key: Sequence[KeyColumn]) -> str:
    """See `ViewPlan.matching`."""
    return (
        SQL("select {} from {} v where (\n{{condition}}\n)")
        .format(_texts(key), inlined(query))
        .as_string(None)
    )


def estimate_sql(leaves: Sequence[int]) -> str:
    """The rows of these tables by the statistics, as many documents as keys, and what
    they take on disk."""
    oids = Literal([*map(str, leaves)])  # none of a table without partitions
    return (
        SQL(
            "select coalesce(sum(greatest(reltuples, 0)), 0)::pg_catalog.int8"
            " as documents,\n"
            "       coalesce(sum(pg_catalog.pg_table_size(oid)), 0)::pg_catalog.int8"
            " as size_bytes\n"
            "  from pg_catalog.pg_class where oid = any({}::pg_catalog.oid[])"
        )
        .format(oids)
        .as_string(None)
    )
