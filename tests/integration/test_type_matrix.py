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

Connection = psycopg.Connection[tuple[Any, ...]]
BREAKS = bytes.maketrans(b"\n\r", b"  ")

SETUP = """
create extension hstore;
create extension ltree;
create extension citext;
create type mood as enum ('sad', 'it''s "fine"', 'ha\\ppy', 'größer');
create type pair as (a int, b text);
create type texts as range (subtype = text, collation = "C");
create type moods as range (subtype = mood);
create domain posint as int check (value > 0);
create domain label as text;
create domain sublabel as label;
create domain ints as int[];
create domain doc as jsonb;
create domain boxes as box[];
create domain flag as bool;
create domain code as bpchar(4);
create domain host as inet;
create domain moment as timestamptz;
"""

FAST: dict[str, list[str]] = {
    "bool": ["true", "false"],
    "bytea": ["", r"\x00ff10", r"\xdeadbeef"],
    '"char"': ["a", "", "\x7f", '"', "\\"],
    "name": ["x", 'Mixed "quoted"', "größe"],
    "int2": ["-32768", "0", "32767"],
    "int4": ["-2147483648", "0", "2147483647"],
    "int8": ["-9223372036854775808", "9007199254740993"],
    "float4": ["0", "-0", "0.1", "1e30", "1e-30", "NaN", "Infinity", "-Infinity"],
    "float8": [
        "0", "-0", "0.1", "1e300", "5e-324", "1e15", "1e16", "123456789012345680",
        "NaN", "Infinity", "-Infinity", "0.30000000000000004",
    ],
    "numeric": [
        "0", "-0.00", "1.10", "NaN", "Infinity", "-Infinity", "9" * 100,
        "0." + "0" * 99 + "1", "-" + "1" * 60 + "." + "2" * 60, "1e500",
    ],
    "numeric(10,2)": ["1", "99999999.99"],
    "text": [
        "", " ", "plain", 'a "quote"', "back\\slash", "\n\r\t\b\f\v", "\x01\x1f\x7f",
        "naïve", "漢字", "😀", "\u2028\u2029", "</script>", "\x80\x9f", "\ufeff",
        "NULL", "/slash/", "x" * 3000,
    ],
    "varchar(5)": ["", "abc", "é"],
    "bpchar(5)": ["", "ab", "abcde"],
    "bpchar": ["ab  "],
    "date": [
        "2026-02-28", "0001-01-01", "infinity", "-infinity", "20000-01-01",
        "5874897-12-31", "0044-03-15 BC", "4714-11-24 BC",
    ],
    "time": ["00:00:00", "24:00:00", "12:34:56.7", "12:34:56.000001"],
    "timetz": ["00:00:00+00", "12:34:56.7+05:30", "23:59:59-15:59:59"],
    "timestamp": [
        "2026-02-28 12:34:56", "2026-02-28 12:34:56.1", "2026-02-28 00:00:00.000001",
        "infinity", "-infinity", "20000-01-01 00:00:00", "294276-12-31 23:59:59.999999",
        "0044-03-15 12:00:00 BC", "0044-03-15 12:00:00.5 BC", "4714-11-24 00:00:00 BC",
        "0001-01-01 00:00:00",
    ],
    "timestamptz": [
        "2026-02-28 12:34:56+00", "2026-02-28 12:34:56.1+05:30", "infinity",
        "-infinity", "20000-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00",
        "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00.5+00 BC",
        "4714-11-24 00:00:00+00 BC", "0001-01-01 00:00:00+00",
    ],
    "timestamp(0)": ["2026-02-28 12:34:56.7"],
    "interval": [
        "0", "1 year 2 mons -3 days 04:05:06.7", "-1 year", "1000000 hours", "1 day",
    ],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": [
        '{"a": 1}', ' [1 ,2 ]  ', '"x\\u00e9"', "null", '{"b":1,"b":2}',
        '{\n  "pretty":\r\n\t"x\\n"}', "1.0", "1e400",
    ],
    "jsonb": ['{"b": 1, "a": {"c": [1.10, null]}}', '"x\\u00e9\\n"', "null", "1.0"],
    "jsonpath": ['$.a[*] ? (@.b == "x y")'],
    "xml": ["<a b=\"c\">d\n</a>", "text"],
    "inet": ["192.168.0.1", "192.168.0.0/24", "::1", "2001:db8::/32"],
    "cidr": ["192.168.0.0/24", "10.0.0.1/32", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "oid": ["0", "4294967295"],
    "xid": ["3"],
    "cid": ["3"],
    "tid": ["(4294967295,65535)"],
    "xid8": ["18446744073709551615"],
    "pg_lsn": ["16/B374D848"],
    "pg_snapshot": ["10:20:10,14,15"],
    "txid_snapshot": ["10:20:10,14,15"],
    "refcursor": ['a "b"'],
    "bit(3)": ["101"],
    "varbit": ["", "10101"],
    "tsvector": ["'a':1A,2B 'b''c' 'd\\\\e' 'q\"r':3", ""],
    "tsquery": ["'a' & !'b''c' <-> 'd\"e'", "'x\\\\y':*AB"],
    "point": ["(1,2)", "(1e300,-0.5)", "(NaN,Infinity)"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,1)]"],
    "box": ["(1,1),(0,0)"],
    "path": ["((0,0),(1,1))", "[(0,0),(1,1)]"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "circle": ["<(0,0),5>"],
    "int4range": ["[1,5)", "empty", "(,)", "[1,)"],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["[1.10,2.00]", "(NaN,)", "(,Infinity)"],
    "daterange": ["[2026-01-01,2026-02-01)", '["0044-03-15 BC",infinity)'],
    "tsrange": ['["2026-01-01 00:00:00","2026-02-01 00:00:00.5")', "empty"],
    "tstzrange": ['["2026-01-01 00:00:00+00",infinity]', "(,)"],
    "int4multirange": ["{[1,3),[5,9)}", "{}"],
    "nummultirange": ["{[1.1,2.2]}"],
    "tstzmultirange": ['{["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")}'],
    "datemultirange": ['{["0044-03-15 BC","0043-03-15 BC")}'],
    "int4[]": [
        "{}", "{1}", "{1,NULL,-3}", "{{1,2},{3,NULL}}", "[0:2]={1,2,3}",
        "[2:3][-1:0]={{1,2},{3,4}}", "{{{1}},{{2}}}",
    ],
    "text[]": [
        '{a,"",NULL,"NULL","null",null}', r'{"a \"b\"","c\\d","{e}","f,g"," h ",é}',
        '{"tab\t","line\nbreak","[","="}', '{{a,b},{"c d",NULL}}', '[5:6]={"x=y",z}',
    ],
    "bool[]": ["{t,f,NULL}"],
    "float8[]": ["{1.5,NaN,Infinity,-Infinity,NULL,1e300}"],
    "numeric[]": ["{1.10,NaN,NULL}"],
    "timestamp[]": ['{"2026-01-01 00:00:00",infinity,NULL,"0044-03-15 12:00:00 BC"}'],
    "timestamptz[]": ['{"2026-01-01 00:00:00+00",-infinity,"0044-03-15 12:00+00 BC"}'],
    "date[]": ['{2026-01-01,"0044-03-15 BC"}'],
    "bytea[]": [r'{"\\xdead","\\x"}'],
    "uuid[]": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
    "json[]": ['{"{\\"a\\": 1}",1,"\\"x\\"",null,"[1,\n2]"}'],
    "jsonb[]": ['{"{\\"a\\": [1, \\"b\\"]}","\\"x\\"",NULL}'],
    "interval[]": ['{1 day,"1 year 2 mons"}'],
    "inet[]": ["{192.168.0.1,::1/64}"],
    "point[]": ['{"(1,2)",NULL}'],
    "box[]": ["{(1,1),(0,0);(3,3),(2,2)}", "{{(1,1),(0,0)};{(3,3),(2,2)}}"],
    "circle[]": ['{"<(0,0),5>"}'],
    "name[]": ['{a,"b c"}'],
    "bpchar(3)[]": ["{a,abc}"],
    "varbit[]": ["{101,NULL}"],
    "int4range[]": ['{"[1,3)",empty}'],
    "tstzrange[]": ['{"[\\"2026-01-01 00:00:00+00\\",infinity]"}'],
    "tsvector[]": ["{\"'a':1 'b''c'\"}"],
    "oid[]": ["{1,2}"],
    "mood": ["sad", "it's \"fine\"", "ha\\ppy", "größer"],
    "mood[]": ['{sad,"it\'s \\"fine\\"",NULL,"ha\\\\ppy"}'],
    "posint": ["7"],
    "posint[]": ["{7,NULL}"],
    "label": ["a \"b\"\n"],
    "sublabel": ["nested"],
    "sublabel[]": ['{a,"b\\"c"}'],
    "ints": ["{1,NULL}", "{{1},{2}}"],
    "ints[]": ['{"{1,2}","{{3},{4}}",NULL}'],
    "boxes": ["{(1,1),(0,0);(3,3),(2,2)}"],
    "boxes[]": ['{"{(1,1),(0,0);(3,3),(2,2)}"}'],
    "doc": ['{"a": 1}'],
    "moment": ["2026-01-01 00:00:00+00"],
    "texts": ["[a,b)", '["a b","c\\"d")', "empty"],
    "texts[]": ['{"[a,b)","[\\"a b\\",z]"}'],
    "moods": ["[sad,sad]"],
    "citext": ["MiXed", 'q"'],
    "citext[]": ['{A,"b c"}'],
}  # fmt: skip
READ_BACK: dict[str, list[str]] = {
    "money": ["$1.00"],
    "regclass": ["pg_class"],
    "regtype": ["int4"],
    "regproc": ["now"],
    "regrole": ["postgres"],
    "regnamespace": ["pg_catalog"],
    "aclitem": ["postgres=r/postgres"],
    "int2vector": ["1 2"],
    "oidvector": ["1 2"],
    "pair": ['(1,"a b")'],
    "pair[]": ['{"(1,a)"}'],
    "hstore": ['"a"=>"1"'],
    "hstore[]": ['{"\\"a\\"=>\\"1\\""}'],
    "ltree": ["a.b"],
    "money[]": ["{$1.00}"],
}

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


KEYS: dict[str, list[str]] = {
    "bool": ["true", "false"],
    "flag": ["true", "false"],
    "bpchar(5)": ["ab", " a", "", "abcde"],
    "code": ["ab"],
    "inet": ["192.168.0.1", "192.168.0.0/24", "::1", "2001:db8::/32"],
    "host": ["192.168.0.1"],
    "cidr": ["192.168.0.0/24", "10.0.0.1/32"],
    '"char"': ["a", ""],
    "name": ["a b"],
    "text": ["", "s", "sha256:x", "a:b%", "x" * 600, "\n", "%00", "é"],
    "label": ["x"],
    "mood": ['it\'s "fine"'],
    "citext": ["MiXed"],
    "numeric": ["1.0", "1.00", "NaN"],
    "float8": ["0.1", "-0", "NaN"],
    "timestamptz": ["2026-01-01 00:00:00.5+00", "infinity"],
    "date": ["0044-03-15 BC"],
    "interval": ["1 day"],
    "bytea": [r"\xdead"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "int4[]": ["{1,2}"],
    "int4range": ["[1,2)"],
    "jsonb": ['{"a": 1}'],
    "oid": ["1"],
    "xid8": ["1"],
    "pg_lsn": ["0/1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "varchar(5)": ["ab "],
    "regclass": ["pg_class"],
    "money": ["$1.00"],
}


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
