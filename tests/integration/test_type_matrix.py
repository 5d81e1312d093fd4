"""Documents from the log are the bytes of `row_to_json`: every type, 15 and 18.

Values are taken through the text output of a session pinned as the stream's is, and
through real pgoutput messages; what they become is compared with what Postgres makes.
"""

from __future__ import annotations

import datetime
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Json

from bridge.capture.connection import SESSION
from bridge.catalog import read_types
from bridge.changes import Change, Identity, Relation, RelationColumn
from bridge.decode.transactions import TransactionAssembler
from bridge.derive.fastpath import DirectEncoder, compile_direct, compile_key
from bridge.derive.fastpath_types import FIRST_USER_OID
from bridge.derive.shapes import digest_types
from bridge.derive.view import Direct, DirectColumn, TableName
from bridge.shape import Kind, TypeShape
from tests.fixtures.types import FAST, KEYS, READ_BACK, SETUP

Connection = psycopg.Connection[tuple[Any, ...]]
BREAKS = bytes.maketrans(b"\n\r", b"  ")

SHAPES = """
with recursive base (oid, base) as (
    select oid, oid from pg_type where typtype <> 'd'
    union all
    select d.oid, b.base from pg_type d join base b on b.oid = d.typbasetype
    where d.typtype = 'd'
)
select t.oid, b.oid, b.typname, b.typtype::text,
       b.typsubscript = 'array_subscript_handler'::regproc,
       coalesce(r.rngsubtype, b.typelem)
from base join pg_type t on t.oid = base.oid
     join pg_type b on b.oid = base.base
     left join pg_range r on b.oid in (r.rngtypid, r.rngmultitypid)
where t.oid >= 16384
      and not exists (select from pg_cast c
                      where c.castsource = b.oid and b.oid >= 16384
                            and c.casttarget = 'json'::regtype)
"""
KINDS = {"e": Kind.ENUM, "r": Kind.RANGE, "m": Kind.MULTIRANGE, "c": Kind.OBJECT}


def shapes_of(connection: Connection) -> dict[int, TypeShape]:
    """The types of the database that are not built in, as the daemon reads them."""
    rows = {row[0]: row[1:] for row in connection.execute(SHAPES).fetchall()}

    def shape(oid: int) -> TypeShape:
        if oid not in rows:
            return TypeShape(Kind.SCALAR, "", oid)
        base, name, kind, is_array, element = rows[oid]
        kind_of = Kind.ARRAY if is_array else KINDS.get(kind, Kind.SCALAR)
        inner = shape(element) if element else None
        return TypeShape(kind_of, name, base, element=inner)

    return {oid: shape(oid) for oid in rows}


def pinned(dsn: str) -> Connection:
    """A session whose texts are those of the stream."""
    connection = psycopg.connect(dsn, autocommit=True)
    for name, value in SESSION.items():
        if name != "search_path":
            connection.execute("select set_config(%s, %s, false)", (name, value))
    connection.execute("set timezone = 'UTC'")
    return connection


@dataclass
class Table:
    """A table `t (id, …)` with its description, and the view of all its columns."""

    connection: Connection
    name: str
    relation: Relation
    direct: Direct
    encoder: DirectEncoder | None

    def rows(self) -> list[tuple[tuple[bytes | None, ...], bytes]]:
        """Each row as texts, and as `row_to_json` gives it."""
        query = sql.SQL("select r_.*, row_to_json(r_) from {} r_ order by id")
        cursor = self.connection.execute(query.format(sql.Identifier(self.name)))
        result = cursor.pgresult
        assert result is not None
        width = len(self.relation.columns)
        rows = []
        for at in range(result.ntuples):
            values = tuple(result.get_value(at, column) for column in range(width))
            document = result.get_value(at, width)
            assert document is not None
            rows.append((values, document.translate(BREAKS)))
        return rows


def table_of(connection: Connection, columns: dict[str, str]) -> Table:
    """A new table with these columns and types beside `id`."""
    name = f'T "{secrets.token_hex(4)}"'
    parts = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in {"id": "int primary key", **columns}.items()
    ]
    create = sql.SQL("create table {} ({})")
    connection.execute(create.format(sql.Identifier(name), sql.SQL(", ").join(parts)))
    described = connection.execute(
        "select attrelid::int8, attname, atttypid::int8, atttypmod"
        " from pg_attribute where attnum > 0 and attrelid = %s::regclass",
        (f'"{name.replace(chr(34), chr(34) * 2)}"',),
    ).fetchall()
    oid = described[0][0]
    relation = Relation(
        oid,
        "public",
        name,
        Identity.DEFAULT,
        tuple(RelationColumn(n, kind, mod, n == "id") for _, n, kind, mod in described),
    )
    direct = Direct(
        TableName(oid, "public", name),
        tuple(DirectColumn(n, n, kind, mod) for _, n, kind, mod in described),
        ("id",),
    )
    encoder = compile_direct(direct, relation, shapes_of(connection))
    return Table(connection, name, relation, direct, encoder)


def literals_of(source: Connection) -> dict[str, list[str | None]]:
    """The literals of each type; none of xml where Postgres was built without it."""
    found: dict[str, list[str | None]] = {k: [*v] for k, v in FAST.items()}
    try:
        source.execute("select xml '<a/>'")
    except psycopg.errors.FeatureNotSupported:
        found["xml"] = []
    return found


def fill(table: Table, column: str, literals: list[str | None]) -> None:
    """A row a literal, and one with null."""
    kind = next(k for k in table.relation.columns if k.name == column)
    query = sql.SQL(
        "insert into {} (id, {}) select o, v::text::{} from"
        " unnest(%s::text[]) with ordinality as u (v, o)"
    )
    type_name = table.connection.execute(
        "select format_type(%s, %s)", (kind.type_oid, kind.type_modifier)
    ).fetchone()
    assert type_name is not None
    table.connection.execute(
        query.format(
            sql.Identifier(table.name), sql.Identifier(column), sql.SQL(type_name[0])
        ),
        ([*literals, None],),
    )


@pytest.fixture
def source(any_database: str) -> Iterator[Connection]:
    """A pinned session in a database with types of all sorts."""
    with pinned(any_database) as connection:
        connection.execute(SETUP)
        yield connection


def test_every_built_in_type_and_what_is_made_of_them(source: Connection) -> None:
    """Bytes from the log's text are the bytes of `row_to_json`."""
    wrong, checked = [], 0
    expected = literals_of(source)
    for kind, literals in expected.items():
        table = table_of(source, {"v": kind})
        assert table.encoder is not None, f"{kind} is not encoded"
        fill(table, "v", [*literals])
        for values, document in table.rows():
            checked += 1
            if table.encoder.encode(values) != document:
                wrong.append((kind, values, table.encoder.encode(values), document))
    assert wrong == []
    assert checked == sum(len(literals) + 1 for literals in expected.values())


def test_no_built_in_scalar_type_was_forgotten(source: Connection) -> None:
    """Each type of pg_catalog that a column can have is in one list or the other."""
    rows = source.execute(
        "select format_type(t.oid, null) from pg_type t"
        " where typnamespace = 'pg_catalog'::regnamespace"
        " and typtype in ('b', 'r', 'm')"
        " and not (typsubscript = 'array_subscript_handler'::regproc and typlen = -1"
        "          and typname like '\\_%')"
        " and typname !~ '^(pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list"
        "|gtsvector|pg_ddl_command|pg_brin_.*)$'"
    ).fetchall()
    named = [*FAST, *READ_BACK]
    listed = source.execute(
        "select format_type(n::regtype, null) from unnest(%s::text[]) n", (named,)
    ).fetchall()
    missing = {row[0] for row in rows} - {row[0] for row in listed}
    # Kin of what is listed: by the catalog, read back as regclass is.
    missing = {name for name in missing if not name.startswith("reg")}
    assert missing <= {"tsmultirange", "int8multirange"}


def test_types_that_depend_on_more_are_read_back(source: Connection) -> None:
    """The locale, the catalog, attributes, casts to json: no encoder for those."""
    for kind, literals in READ_BACK.items():
        table = table_of(source, {"v": kind})
        fill(table, "v", [*literals])
        assert table.encoder is None, f"{kind} is encoded"


def test_a_cast_to_json_is_known_to_the_types(source: Connection) -> None:
    """An enum with a cast to json is not printed as its label; so it is read back."""
    source.execute("create type odd as enum ('x')")
    source.execute(
        "create function odd_json(odd) returns json immutable language sql"
        " as $$ select '{}'::json $$"
    )
    assert table_of(source, {"v": "odd"}).encoder is not None
    source.execute("create cast (odd as json) with function odd_json(odd)")
    assert table_of(source, {"v": "odd"}).encoder is None
    assert table_of(source, {"v": "odd[]"}).encoder is None


async def test_types_as_the_daemon_reads_them(any_database: str) -> None:
    """Domains, enums and arrays of them are encoded, and nothing is encoded wrongly."""
    encoded = set()
    with pinned(any_database) as connection:
        connection.execute(SETUP)
        for kind, literals in {**FAST, **READ_BACK}.items():
            table = table_of(connection, {"v": kind})
            oid = table.relation.columns[1].type_oid
            if oid < FIRST_USER_OID:
                continue
            fill(table, "v", [*literals])
            async with await psycopg.AsyncConnection.connect(any_database) as asking:
                types = digest_types(await read_types(asking, [oid]))
            encoder = compile_direct(table.direct, table.relation, types)
            if encoder is not None:
                encoded.add(kind)
                for values, document in table.rows():
                    assert encoder.encode(values) == document, kind
    own = {"mood", "mood[]", "posint", "label", "sublabel[]", "ints[]", "doc", "moment"}
    assert own <= encoded
    assert encoded.isdisjoint(READ_BACK)


def test_every_character_is_escaped_as_postgres_does(source: Connection) -> None:
    """All code points but NUL and the surrogates, alone and in an array."""
    points = [*range(1, 0xD800), *range(0xE000, 0x110000)]
    table = table_of(source, {"v": "text", "a": "text[]"})
    text = "".join(map(chr, points))
    statement = sql.SQL("insert into {} values (1, %s, %s)")
    source.execute(
        statement.format(sql.Identifier(table.name)), (text, list(text[:0x3000]))
    )
    [(values, document)] = table.rows()
    assert table.encoder is not None
    assert table.encoder.encode(values) == document


def test_names_of_columns(source: Connection) -> None:
    """Mixed case, quotes, breaks and all."""
    names = ['a"b', "Größe", "back\\slash", "line\nbreak", "%s{0}", "t", "select", "'"]
    table = table_of(source, dict.fromkeys(names, "int"))
    insert = sql.SQL("insert into {} values ({})").format(
        sql.Identifier(table.name), sql.SQL(", ").join([sql.Literal(1)] * 9)
    )
    source.execute(insert)
    [(values, document)] = table.rows()
    assert table.encoder is not None
    assert table.encoder.encode(values) == document


def test_key_parts_are_the_cast_to_text(source: Connection) -> None:
    """A key from the log is the key that is read, whatever its type."""
    for kind, literals in KEYS.items():
        table = table_of(source, {"v": kind})
        fill(table, "v", [*literals])
        identify = compile_key(("v",), table.relation, shapes_of(source))
        assert identify is not None
        query = sql.SQL("select v::text from {} order by id")
        cursor = source.execute(query.format(sql.Identifier(table.name)))
        for (values, _), (part,) in zip(table.rows(), cursor.fetchall(), strict=True):
            found = identify(values)
            assert found is not None
            assert found[1] == (part,), kind


def test_through_real_messages(source: Connection) -> None:
    """The same from a slot: what pgoutput sends is the text that was proven above."""
    slot = f"t_{secrets.token_hex(6)}"
    tables = []
    for kind, literals in literals_of(source).items():
        table = table_of(source, {"v": kind})
        tables.append((table, kind, literals))
    source.execute("create publication everything for all tables")
    source.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    try:
        for table, _, literals in tables:
            fill(table, "v", [*literals])
        rows = source.execute(
            "select data from pg_logical_slot_get_binary_changes(%s, null, null,"
            " 'proto_version', '1', 'publication_names', 'everything')",
            (slot,),
        ).fetchall()
    finally:
        source.execute("select pg_drop_replication_slot(%s)", (slot,))
    streamed: dict[int, list[bytes | None]] = {}
    encoders = {table.relation.oid: table.encoder for table, _, _ in tables}
    for transaction in TransactionAssembler().feed([row[0] for row in rows]):
        for event in transaction.events:
            assert isinstance(event, Change)
            assert event.new is not None
            encoder = encoders[event.relation.oid]
            assert encoder is not None
            found = streamed.setdefault(event.relation.oid, [])
            found.append(encoder.encode(event.new))
    for table, kind, _ in tables:
        expected = [document for _, document in table.rows()]
        assert streamed[table.relation.oid] == expected, kind


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))
NUMERIC = st.one_of(
    st.decimals("-1e120", "1e120"),
    st.decimals("-1e9", "1e9", places=20),
    st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")]),
)
MOMENT = st.datetimes(
    datetime.datetime(1, 1, 1),  # noqa: DTZ001 - a timestamp has no zone
    datetime.datetime(9999, 12, 31),  # noqa: DTZ001
)
FLOAT4 = st.binary(min_size=4, max_size=4).map(lambda b: struct.unpack("f", b)[0])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)
RANDOM: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "i": ("int8", st.integers(-(2**63), 2**63 - 1)),
    "n": ("numeric", NUMERIC),
    "f": ("float8", st.floats()),
    "g": ("float4", FLOAT4),
    "t": ("text", TEXT),
    "b": ("bytea", st.binary()),
    "z": ("timestamptz", MOMENT.map(lambda m: m.replace(tzinfo=datetime.UTC))),
    "s": ("timestamp", MOMENT),
    "d": ("date", st.dates()),
    "x": ("text[]", st.lists(st.none() | TEXT)),
    "y": ("numeric[]", st.lists(st.none() | st.integers())),
    "j": ("json", JSON.map(Json)),
    "k": ("json[]", st.lists(st.none() | JSON.map(Json))),
    "v": ("bpchar(7)", st.text("aé \"", max_size=7)),
}  # fmt: skip


def test_random_rows(source: Connection) -> None:
    """Values that nobody thought of."""
    table = table_of(source, {name: kind for name, (kind, _) in RANDOM.items()})
    assert table.encoder is not None
    encode = table.encoder.encode
    insert = sql.SQL("insert into {} values ({}{})").format(
        sql.Identifier(table.name),
        sql.SQL("%s"),
        sql.SQL("").join(
            sql.SQL(", %s::{}").format(sql.SQL(kind)) for kind, _ in RANDOM.values()
        ),
    )
    row = st.tuples(*(st.none() | strategy for _, strategy in RANDOM.values()))

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(row, min_size=1, max_size=20))
    def run(rows: list[tuple[Any, ...]]) -> None:
        with source.transaction(force_rollback=True), source.cursor() as cursor:
            for at, values in enumerate(rows):
                cursor.execute(insert, (at, *values))
            for values, document in table.rows():
                assert encode(values) == document

    run()
