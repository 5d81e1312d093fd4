"""Types of columns that are drawn: which compare with which, and their few values.

The one thing to know: values are few, so that links match, miss and move often, and
some of them are equal and written otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Types that compare with each other.

    `literals` stand in queries and mean something for every type of the family.
    """

    name: str
    literals: tuple[str, ...]
    ordered: bool = True
    """It has `max`."""
    gathered: bool = True
    """`array_agg` takes every one of its values."""
    compares: bool = True
    """It has `=`."""


@dataclass(frozen=True)
class Kind:
    """A type of columns, with the values that rows have of it."""

    name: str
    family: Family
    values: tuple[str, ...]
    key: bool = True
    """Tables are keyed by it."""
    unlike: bool = False
    """Equal values may be written otherwise."""


NUMBER = Family("number", ("0", "1", "1", "2", "3"))
TEXT = Family("text", ("'a'", "'a'", "'A'", "'b'", "'c'"))
# Compared with a text of another collation Postgres 15 joins by one of the two and
# takes rows for one by the other: two rows for one.
ALIKE = Family("alike", TEXT.literals)
MOMENT = Family("moment", ("'2024-01-01'", "'2024-01-02'", "'2024-01-01 12:00'"))
UUID = Family(
    "uuid",
    tuple(f"'{n}0000000-0000-4000-8000-000000000000'" for n in (1, 2, 3)),
    ordered=False,
)
ENUM = Family("enum", ("'low'", "'mid'", "'high'"))
BOOL = Family("bool", ("true", "false"), ordered=False)
SPAN = Family("span", ("'1 day'", "'24 hours'", "'2 days'"))
ADDRESS = Family("address", ("'10.0.0.1'", "'10.0.0.1/32'", "'10.0.0.0/8'"))
NUMBERS = Family("numbers", ("'{}'", "'{1}'", "'{1,2}'", "'{null}'"), gathered=False)
TEXTS = Family("texts", ("'{a}'", "'{A}'", "'{a,b}'"), gathered=False)
JSONB = Family("jsonb", ("'1'", "'1.0'", """'{"a": 1}'""", "'[]'"), ordered=False)
JSON = Family("json", (), compares=False)
PAIRS = Family("pairs", ("'a=>1'", "'a=>null'", "''"), ordered=False)
PATHS = Family("path", ("'a'", "'a.b'", "'b'"), ordered=False)
RANGE = Family("range", ("'[1,2)'", "'[1,1]'", "'empty'", "'[1,3)'"), ordered=False)
BYTES = Family("bytes", (r"'\x01'", r"'\x0100'", r"'\x'"), ordered=False)

_WHOLE = ("0", "1", "1", "2", "2", "3")
_LETTERS = ("'a'", "'a'", "'A'", "'b'", "'B'", "'c'")

INT, BIGINT, SMALLINT, WHOLE = (
    Kind(name, NUMBER, _WHOLE) for name in ("int", "bigint", "smallint", "whole")
)
NUMERIC = Kind("numeric", NUMBER, (*_WHOLE, "1.0"), unlike=True)
FLOAT = Kind("float8", NUMBER, (*_WHOLE, "'-0'"), unlike=True)
PLAIN, CITEXT = (
    Kind(name, TEXT, _LETTERS, unlike=name == "citext") for name in ("text", "citext")
)
PATH = Kind("ltree", PATHS, PATHS.literals)
KINDS = (
    INT,
    BIGINT,
    SMALLINT,
    WHOLE,
    NUMERIC,
    FLOAT,
    Kind("numeric(6,2)", NUMBER, _WHOLE),
    PLAIN,
    CITEXT,
    Kind("varchar(8)", TEXT, _LETTERS),
    Kind("char(2)", TEXT, _LETTERS),
    Kind("code", TEXT, _LETTERS),
    Kind("folded", TEXT, _LETTERS, unlike=True),
    Kind("text collate ci", ALIKE, _LETTERS, unlike=True),
    Kind("date", MOMENT, ("'2024-01-01'", "'2024-01-02'", "'infinity'")),
    Kind("timestamp", MOMENT, MOMENT.literals),
    Kind("timestamptz", MOMENT, MOMENT.literals),
    Kind("uuid", UUID, UUID.literals),
    Kind("level", ENUM, ENUM.literals),
    Kind("bool", BOOL, BOOL.literals),
    Kind("interval", SPAN, SPAN.literals, unlike=True),
    Kind("inet", ADDRESS, ADDRESS.literals, unlike=True),
    Kind("int[]", NUMBERS, NUMBERS.literals, key=False),
    Kind("text[]", TEXTS, TEXTS.literals, key=False),
    Kind("jsonb", JSONB, JSONB.literals, key=False, unlike=True),
    Kind("json", JSON, ("'1'", """'{"a" : [1]}'"""), key=False),
    Kind("hstore", PAIRS, PAIRS.literals, key=False),
    PATH,
    Kind("int4range", RANGE, RANGE.literals, key=False),
    Kind("bytea", BYTES, BYTES.literals),
)
TYPES = """
do $$ begin
  create collation ci
    (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
exception when feature_not_supported then
  create collation ci from "C";  -- a server without ICU
end $$;
create domain whole as int;
create domain code as text;
create domain folded as citext;
create type level as enum ('low', 'mid', 'high');
"""
"""What some of the types above are, apart from the extensions."""
EXTENSIONS = ("citext", "hstore", "ltree")
