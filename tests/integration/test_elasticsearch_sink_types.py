"""Every type of Postgres in Elasticsearch: kept, unchanged, found where it can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from bridge.sink import (
    Column,
    Generation,
    Kind,
    Operation,
    Owner,
    Shape,
    Target,
    TypeShape,
)
from tests.fixtures.elasticsearch import OpenSink

OWNER = Owner("7001", "shop", "pgbridge")
SETUP = """
create extension hstore;
create extension citext;
create extension ltree;
create type mood as enum ('sad', 'it''s "fine"');
create type pair as (a int, b text);
create domain posint as int check (value > 0);
"""
PINNED = """
set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'iso_8601';
set extra_float_digits = 1; set bytea_output = 'hex';
"""


def scalar(name: str, modifier: int = -1) -> TypeShape:
    return TypeShape(Kind.SCALAR, name, modifier=modifier)


def array(element: TypeShape) -> TypeShape:
    return TypeShape(Kind.ARRAY, f"_{element.name}", element=element)


PAIR = TypeShape(
    Kind.OBJECT, "pair", members=(("a", scalar("int4")), ("b", scalar("text")))
)
JSON = TypeShape(Kind.JSON, "json")


@dataclass(frozen=True)
class Case:
    """Values of a type, as SQL; and queries that must find which of them."""

    shape: TypeShape
    values: list[str]
    found: list[tuple[dict[str, Any], set[int]]] = field(default_factory=list)


def term(value: object, at: str = "v") -> dict[str, Any]:
    return {"term": {at: value}}


def between(low: object, high: object) -> dict[str, Any]:
    return {"range": {"v": {"gte": low, "lte": high}}}


LARGE = 2**62 + 1
INFINITE = ["'NaN'", "'Infinity'", "'-Infinity'"]
CASES: dict[str, Case] = {
    "bool": Case(scalar("bool"), ["true", "false"], [(term(True), {0})]),
    "int2": Case(scalar("int2"), ["-32768", "32767"], [(term(32767), {1})]),
    "int4": Case(scalar("int4"), ["-2147483648", "2147483647"]),
    "int8": Case(
        scalar("int8"),
        ["-9223372036854775808", "9223372036854775807", str(LARGE), str(LARGE + 1)],
        [(term(LARGE), {2})],
    ),
    "posint": Case(scalar("int4"), ["1"]),
    "oid": Case(scalar("oid"), ["0", "4294967295"], [(term(4294967295), {1})]),
    "float4": Case(
        scalar("float4"),
        ["0.1", "'-0'", "3.4028235e38", "1e-45", *INFINITE],
        [(between(0.09, 0.11), {0})],
    ),
    "float8": Case(
        scalar("float8"),
        ["0.1", "1.7976931348623157e308", "5e-324", *INFINITE],
        [(term(0.1), {0})],
    ),
    "numeric": Case(
        scalar("numeric"),
        [
            "1.10",
            "9" * 100,
            f"0.{'0' * 99}1",
            "'1e999'",
            "'-1e999'",
            *INFINITE,
        ],
        [(term(1.1), {0})],
    ),
    "numeric(18)": Case(
        scalar("numeric", (18 << 16) + 4),
        ["999999999999999999", "999999999999999998", "'NaN'"],
        [(term(999999999999999999), {0})],
    ),
    "money": Case(scalar("money"), ["'12.34'", "'-0.01'"]),
    "text": Case(
        scalar("text"),
        ["''", "'a needle here'", "'needle'", "repeat('x', 100000)", "E'\\x01\\n☃'"],
        [({"match": {"v": "needle"}}, {1, 2}), (term("needle", "v.keyword"), {2})],
    ),
    "citext": Case(scalar("citext"), ["'MiXed'"], [({"match": {"v": "mixed"}}, {0})]),
    "varchar": Case(
        scalar("varchar"),
        ["'abc'", "repeat('☃', 8191)", "repeat('😀', 4095)", "repeat('x', 100000)"],
        [(term("abc"), {0})],
    ),
    "bpchar": Case(scalar("bpchar"), ["'ab  '"]),
    "name": Case(scalar("name"), ["'x'"]),
    "mood": Case(
        TypeShape(Kind.ENUM, "mood"),
        ["'sad'", "'it''s \"fine\"'"],
        [(term("sad"), {0})],
    ),
    "uuid": Case(
        scalar("uuid"),
        ["'00000000-0000-4000-8000-000000000001'"],
        [(term("00000000-0000-4000-8000-000000000001"), {0})],
    ),
    "date": Case(
        scalar("date"),
        [
            "'2024-02-29'",
            "'0001-01-01'",
            "'9999-12-31'",
            "'20000-01-01'",
            "'0044-03-15 BC'",
            "'infinity'",
            "'-infinity'",
        ],
        [
            (term("2024-02-29"), {0}),
            (between("1900-01-01", "2100-01-01"), {0}),
            ({"exists": {"field": "v"}}, {0, 1, 2}),
        ],
    ),
    "timestamp": Case(
        scalar("timestamp"),
        [
            "'2024-02-29 12:34:56.123456'",
            "'2024-02-29 12:34:56'",
            "'2024-02-29 12:34:56.1'",
            "'20000-01-01'",
            "'0044-03-15 01:00 BC'",
            "'infinity'",
        ],
        [
            (between("2024-02-29T12:34:56.100", "2024-02-29T12:34:56.200"), {0, 2}),
            ({"exists": {"field": "v"}}, {0, 1, 2}),
        ],
    ),
    "timestamptz": Case(
        scalar("timestamptz"),
        [
            "'2024-02-29 12:34:56.123456+02'",
            "'0001-01-01 00:00+00'",
            "'294276-01-01'",
            "'4713-01-01 BC'",
            "'-infinity'",
        ],
        [
            (between("2024-02-29T10:34:56", "2024-02-29T10:34:57"), {0}),
            ({"exists": {"field": "v"}}, {0, 1}),
        ],
    ),
    "time": Case(scalar("time"), ["'24:00'", "'12:34:56.789'"]),
    "timetz": Case(scalar("timetz"), ["'12:34+05:30'"]),
    "interval": Case(scalar("interval"), ["'1 year 2 days -3 s'"]),
    "bytea": Case(
        scalar("bytea"), ["''", "'\\x00ff'", "decode(repeat('ab', 60000), 'hex')"]
    ),
    "bit(3)": Case(scalar("bit"), ["'101'"]),
    "inet": Case(
        scalar("inet"),
        ["'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'2001:db8::/32'"],
        [
            (term("10.0.0.0/8"), {0}),
            (term("10.0.0.1/8", "v.keyword"), {1}),
            (term("::1"), {2}),
        ],
    ),
    "cidr": Case(scalar("cidr"), ["'10.0.0.0/8'", "'2001:db8::/32'"]),
    "macaddr": Case(scalar("macaddr"), ["'08:00:2b:01:02:03'"]),
    "point": Case(scalar("point"), ["'(1,2)'"]),
    "polygon": Case(scalar("polygon"), ["'((0,0),(1,1),(1,0))'"]),
    "int4range": Case(
        TypeShape(Kind.RANGE, "int4range", element=scalar("int4")),
        ["'[1,5)'", "'empty'", "'(,)'"],
        [(term("[1,5)"), {0})],
    ),
    "tsrange": Case(
        TypeShape(Kind.RANGE, "tsrange"), ["'[2024-01-01 00:00,infinity)'"]
    ),
    "int4multirange": Case(
        TypeShape(Kind.MULTIRANGE, "int4multirange"), ["'{[1,5),[7,9)}'"]
    ),
    "json": Case(JSON, ["'1'", "'\"x\"'", "'null'", '\'[1,"a",{"b":[]}]\'', "'{}'"]),
    "jsonb": Case(JSON, ['\'{"a": 1.10, "a.b": {"": 2}, "_id": 3}\'', "'[[1],{}]'"]),
    "hstore": Case(
        scalar("hstore"),
        ["'a=>1, b=>NULL'", "''", "hstore('k', repeat('x', 100000))"],
        [(term("1", "v.a"), {0})],
    ),
    "ltree": Case(scalar("ltree"), ["'Top.Science'"], [(term("Top.Science"), {0})]),
    "tsvector": Case(scalar("tsvector"), ["'a fat cat'", "to_tsvector('')"]),
    "pg_lsn": Case(scalar("pg_lsn"), ["'16/B374D848'"]),
    "jsonpath": Case(scalar("jsonpath"), ["'$.a'"]),
    "pair": Case(
        PAIR, ["row(1, 'needle')", "row(null, null)"], [(term(1, "v.a"), {0})]
    ),
    "pair[]": Case(
        array(PAIR),
        ["array[row(1, 'x'), null, row(2, 'y')]::pair[]", "'{}'"],
        [(term(2, "v.a"), {0})],
    ),
    "int4[]": Case(
        array(scalar("int4")),
        ["'{1,null,3}'", "'{}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"],
        [(term(3), {0, 2}), (term(8), {3})],
    ),
    "text[]": Case(
        array(scalar("text")),
        ["array['a needle', null, '']"],
        [({"match": {"v": "needle"}}, {0})],
    ),
    "timestamptz[]": Case(
        array(scalar("timestamptz")),
        ["array['2024-01-01', 'infinity', null]::timestamptz[]"],
        [(term("2024-01-01"), {0})],
    ),
    "numeric[]": Case(
        array(scalar("numeric")), ["array[1.10, 'NaN', null]"], [(term(1.1), {0})]
    ),
    "jsonb[]": Case(array(JSON), ["array['{\"a\":1}', '2', null]::jsonb[]"]),
    "hstore[]": Case(array(scalar("hstore")), ["array['a=>1'::hstore, null]"]),
}


def documents(dsn: str, type_name: str, case: Case) -> list[bytes]:
    """What Postgres prints for the values, and for null."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if "mood" in type_name or "pair" in type_name or type_name in NEEDS_SETUP:
            connection.execute(SETUP)
        connection.execute(PINNED)
        found = []
        for number, value in enumerate([*case.values, "null"]):
            row = connection.execute(
                f"select row_to_json(r)::text from (select {number} as id,"
                f" ({value})::{type_name} as v) r"
            ).fetchone()
            assert row is not None
            found.append(str(row[0]).replace("\n", " ").encode())
        return found


NEEDS_SETUP = {"posint", "citext", "hstore", "hstore[]", "ltree"}


@pytest.mark.parametrize("type_name", CASES)
async def test_every_value_is_kept_as_it_is(
    type_name: str, database: str, es: httpx.Client, open_sink: OpenSink, name: str
) -> None:
    case = CASES[type_name]
    sent = documents(database, type_name, case)
    columns = (Column("id", scalar("int4")), Column("v", case.shape))
    sink = await open_sink()
    one = Generation(Target("v", "search", name, Shape(columns, ("id",))), 1)
    assert await sink.examine(one.target, OWNER) == []
    await sink.prepare(one, OWNER)
    batch = [
        Operation(str(number), (str(number),), 5, document)
        for number, document in enumerate(sent)
    ]
    report = await sink.write(one, batch)
    assert report.rejections == {}
    assert report.kept == len(batch)

    read = await sink.read(one, [operation.parts for operation in batch])
    scanned = {}
    async for page in sink.scan(one, documents=True):
        scanned |= {stored.key: stored for stored in page}
    for operation in batch:
        assert read[operation.key].document == operation.document
        assert scanned[operation.key].document == operation.document

    for query, expected in case.found:
        body = {"query": query, "size": 100, "_source": False}
        hits = es.post(f"/{name}--g1/_search", json=body).json()["hits"]["hits"]
        assert {int(hit["_id"]) for hit in hits} == expected, query


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b'{"id":1,"v":1' + b"0" * 1000 + b"}", "number"),
        (b'{"id":1,"v":' + b"[" * 1100 + b"]" * 1100 + b"}", "nesting"),
    ],
)
async def test_what_no_field_can_take_is_refused_with_a_reason(
    document: bytes, told: str, open_sink: OpenSink, name: str
) -> None:
    columns = (Column("id", scalar("int4")), Column("v", JSON))
    sink = await open_sink()
    one = Generation(Target("v", "search", name, Shape(columns, ("id",))), 1)
    await sink.prepare(one, OWNER)
    report = await sink.write(one, [Operation("1", ("1",), 5, document)])
    assert told in report.rejections[0].reason.lower()
    assert "00000" not in report.rejections[0].reason
