"""What is encoded, what is left to Postgres, and what the generated code holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.changes import ABSENT, UNCHANGED, Identity, Relation, RelationColumn, Value
from bridge.derive.fastpath import DirectEncoder, compile_direct, compile_key
from bridge.derive.fastpath_types import OIDS, ArrayForm, Form, form_of
from bridge.derive.view import Direct, DirectColumn, TableName
from bridge.shape import Kind, TypeShape

TABLE = TableName(1, "public", "t")


def relation(*columns: tuple[str, int]) -> Relation:
    described = tuple(RelationColumn(n, oid, -1, True) for n, oid in columns)
    return Relation(1, "public", "t", Identity.FULL, described)


def encoder(
    *columns: tuple[str, int], table: Relation | None = None
) -> DirectEncoder | None:
    taken = tuple(DirectColumn(n, n, oid, -1) for n, oid in columns)
    direct = Direct(TABLE, taken, (columns[0][0],))
    return compile_direct(direct, table or relation(*columns), {})


def one(oid: int, value: Value) -> bytes | None:
    """What becomes of a value of a type; None: read back."""
    made = encoder(("v", oid))
    assert made is not None
    return made.encode([value])


@pytest.mark.parametrize(
    ("oid", "value", "expected"),
    [
        (20, b"-7", b"-7"),
        (1700, b"1.10", b"1.10"),
        (1700, b"NaN", b'"NaN"'),
        (701, b"-Infinity", b'"-Infinity"'),
        (701, b"1e+20", b"1e+20"),
        (16, b"t", b"true"),
        (25, b'a"b\\\n\x1f\x7f', b'"a\\"b\\\\\\n\\u001f\x7f"'),
        (17, rb"\x00", rb'"\\x00"'),
        (1114, b"2026-01-01 00:00:00", b'"2026-01-01T00:00:00"'),
        (1114, b"0044-03-15 00:00:00 BC", b'"0044-03-15T00:00:00 BC"'),
        (1184, b"2026-01-01 00:00:00+00", b'"2026-01-01T00:00:00+00:00"'),
        (1184, b"0044-03-15 00:00:00+00 BC", b'"0044-03-15T00:00:00+00:00 BC"'),
        (1184, b"-infinity", b'"-infinity"'),
        (114, b'{\n"a":\r1}', b'{ "a": 1}'),
        (1009, b'{a,NULL,"NULL",{}}', b'["a",null,"NULL",[]]'),
        (1009, rb'[0:1]={"a\"b","\\"}', rb'["a\"b","\\"]'),
        (1020, b"{(1,1),(0,0);NULL}", b'["(1,1),(0,0)",null]'),
    ],
)
def test_values(oid: int, value: bytes, expected: bytes) -> None:
    assert one(oid, value) == b'{"v":' + expected + b"}"
    assert one(oid, None) == b'{"v":null}'


@pytest.mark.parametrize("oid", [20, 1700, 16, 25, 17, 1114, 1184, 114, 1009, 2950])
@pytest.mark.parametrize("marker", [UNCHANGED, ABSENT])
def test_what_the_log_left_out_is_read_back(oid: int, marker: Value) -> None:
    assert one(oid, marker) is None


def test_a_value_that_is_not_utf8_is_read_back() -> None:
    assert one(18, b"\xe4") is None


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"))))
def test_arrays_of_text(values: list[str | None]) -> None:
    """Written as Postgres writes them, they come back as what they were."""
    quoted = [
        "NULL"
        if value is None
        else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in values
    ]
    document = one(1009, ("{" + ",".join(quoted) + "}").encode())
    assert document is not None
    assert json.loads(document) == {"v": values}


def test_columns_that_are_not_used_or_in_another_order() -> None:
    table = relation(("x", 25), ("b", 25), ("y", 790), ("a", 20))
    made = encoder(("a", 20), ("b", 25), table=table)
    assert made is not None
    assert made.encode([ABSENT, b"z", UNCHANGED, b"1"]) == b'{"a":1,"b":"z"}'
    assert made.key([ABSENT, b"z", UNCHANGED, b"1"]) == ("1", ("1",))


def test_a_column_twice_under_two_names() -> None:
    columns = (DirectColumn("a", "a", 20, -1), DirectColumn("a", "again", 20, -1))
    made = compile_direct(Direct(TABLE, columns, ("a",)), relation(("a", 20)), {})
    assert made is not None
    assert made.encode([b"1"]) == b'{"a":1,"again":1}'


@pytest.mark.parametrize(
    "name", ['"', "'", "\\", "{v}", "%b", "\n", "'''", '")) or exit(', "ключ"]
)
def test_no_name_gets_out_of_its_quotes(name: str) -> None:
    made = encoder((name, 20))
    assert made is not None
    document = made.encode([b"1"])
    assert document is not None
    assert json.loads(document) == {name: 1}
    assert made.source.isascii()


def test_no_encoder_where_the_log_tells_another_table() -> None:
    assert encoder(("a", 20), ("b", 25), table=relation(("a", 20))) is None
    assert encoder(("a", 20), table=relation(("a", 23))) is None
    assert encoder(("a", 20), ("m", 790)) is None
    direct = Direct(TABLE, (DirectColumn("b", "b", 25, -1),), ("a",))
    assert compile_direct(direct, relation(("b", 25)), {}) is None
    assert compile_key(("a",), relation(("b", 25)), {}) is None


TEXT = TypeShape(Kind.SCALAR, "text", 25)
MOOD = TypeShape(Kind.ENUM, "mood", 20000)


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        (TEXT, Form.TEXT),
        (MOOD, Form.TEXT),
        (TypeShape(Kind.ARRAY, "_mood", 20001, element=MOOD), ArrayForm(Form.TEXT)),
        (TypeShape(Kind.ARRAY, "_d", 20002, element=TEXT), ArrayForm(Form.TEXT)),
        (TypeShape(Kind.RANGE, "texts", 20003, element=TEXT), Form.TEXT),
        (TypeShape(Kind.SCALAR, "citext", 20004), Form.TEXT),
        (TypeShape(Kind.JSON, "jsonb", 3802), Form.JSON),
        # Named like a built-in type, and not it.
        (TypeShape(Kind.SCALAR, "int8", 20005), None),
        (TypeShape(Kind.SCALAR, "hstore", 20006), None),
        (TypeShape(Kind.OBJECT, "pair", 20007, members=(("a", TEXT),)), None),
        (TypeShape(Kind.ARRAY, "_money", 20008), None),
        (TypeShape(Kind.SCALAR, "money", 790), None),
        (
            TypeShape(
                Kind.RANGE, "r", 20009, element=TypeShape(Kind.SCALAR, "money", 790)
            ),
            None,
        ),
    ],
)
def test_types_that_are_not_built_in(
    shape: TypeShape, form: Form | ArrayForm | None
) -> None:
    assert form_of(30000, {30000: shape}) == form
    assert form_of(30000, {}) is None


def test_keys_of_several_columns() -> None:
    table = relation(("a", 20), ("b", 25), ("c", 16))
    key = compile_key(("b", "a", "c"), table, {})
    assert key is not None
    assert key([b"1", b"x:%", b"f"]) == ("x%3A%25:1:false", ("x:%", "1", "false"))
    assert key([b"1", None, b"t"]) == ("%00:1:true", (None, "1", "true"))
    assert key([b"1", UNCHANGED, b"t"]) is None


def test_the_table_of_types_names_every_type_that_is_encoded() -> None:
    page = (Path(__file__).parents[3] / "docs" / "types.md").read_text()
    named = set(re.findall(r'`"?(\w+)"?`', page))
    assert OIDS.keys() <= named
