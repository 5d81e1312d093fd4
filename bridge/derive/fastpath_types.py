"""How the text of each type becomes JSON: the types whose JSON is known to be fixed.

`row_to_json` knows numbers, booleans, dates and times, json, arrays and composites;
every other built-in type it prints as the string of its text output. The log carries
the text output of the same function under the same settings, so that only the wrapping
differs. Proven for Postgres 15 to 18 by the type matrix among the tests.

The one thing to know: in doubt a type has no form, and rows with it are read back.
That is so for what depends on more than the value and the pinned settings (`money` by
the server's locale, `regclass` and its kin and `aclitem` by the catalog), for
composites (their attributes change without a word in the log), and for types of
extensions, which may have a cast to json (`hstore`, `geometry`); `citext`, which is
text by another comparison, is the exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bridge.catalog import FIRST_USER_OID
from bridge.shape import Kind, TypeShape


class Form(StrEnum):
    """How a value that is not null is wrapped."""

    INTEGER = "integer"
    """As it is."""
    NUMBER = "number"
    """As it is, but `NaN` and `Infinity` quoted."""
    BOOLEAN = "boolean"
    """`t` and `f`."""
    QUOTED = "quoted"
    """In quotes; never holds a character that JSON escapes."""
    TEXT = "text"
    """In quotes, escaped."""
    BYTES = "bytes"
    r"""In quotes, its one backslash doubled: `\x…`."""
    TIMESTAMP = "timestamp"
    """In quotes, with `T` between date and time."""
    TIMESTAMPTZ = "timestamptz"
    """The same, and the offset with minutes: `+00:00`."""
    JSON = "json"
    """As it is, line breaks as spaces."""


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """A JSON array of elements of one form (which may be a domain over an array)."""

    element: ScalarOrArray
    delimiter: bytes = b","


ScalarOrArray: TypeAlias = Form | ArrayForm

_BUILT_IN: dict[Form, str] = {
    Form.INTEGER: "int8 20 1016  int2 21 1005  int4 23 1007",
    Form.NUMBER: "float4 700 1021  float8 701 1022  numeric 1700 1231",
    Form.BOOLEAN: "bool 16 1000",
    Form.QUOTED: """
        oid 26 1028  tid 27 1010  xid 28 1011  cid 29 1012  xid8 5069 271
        point 600 1017  lseg 601 1018  path 602 1019  box 603 1020  line 628 629
        polygon 604 1027  circle 718 719  cidr 650 651  inet 869 1041
        macaddr 829 1040  macaddr8 774 775  date 1082 1182  time 1083 1183
        timetz 1266 1270  interval 1186 1187  bit 1560 1561  varbit 1562 1563
        uuid 2950 2951  pg_lsn 3220 3221  txid_snapshot 2970 2949
        pg_snapshot 5038 5039  int4range 3904 3905  int8range 3926 3927
        numrange 3906 3907  int4multirange 4451 6150
        int8multirange 4536 6157  nummultirange 4532 6151
    """,
    Form.TEXT: """
        text 25 1009  varchar 1043 1015  bpchar 1042 1014  name 19 1003
        char 18 1002  refcursor 1790 2201  xml 142 143  tsvector 3614 3643
        tsquery 3615 3645  jsonpath 4072 4073  daterange 3912 3913
        datemultirange 4535 6155  tsrange 3908 3909
        tstzrange 3910 3911  tsmultirange 4533 6152  tstzmultirange 4534 6153
    """,
    Form.BYTES: "bytea 17 1001",
    Form.TIMESTAMP: "timestamp 1114 1115",
    Form.TIMESTAMPTZ: "timestamptz 1184 1185",
    Form.JSON: "json 114 199  jsonb 3802 3807",
}
"""Name, oid and the array's oid; oids below 16384 never change between versions."""


def _tables() -> tuple[dict[int, ScalarOrArray], dict[str, int]]:
    forms: dict[int, ScalarOrArray] = {}
    names: dict[str, int] = {}
    for form, listed in _BUILT_IN.items():
        words = listed.split()
        for name, oid, array in zip(words[::3], words[1::3], words[2::3], strict=True):
            forms[int(oid)] = form
            forms[int(array)] = ArrayForm(form, b";" if name == "box" else b",")
            names[name] = int(oid)
    return forms, names


_FORMS, OIDS = _tables()
"""Form by oid of every built-in type that has one, and oid by name of its scalars."""


def form_of(oid: int, types: Mapping[int, TypeShape]) -> ScalarOrArray | None:
    """The form of a column's type; None: read back.

    `types` has what is not built in, by oid: for a domain what it stands for, with
    `TypeShape.oid` of the base type.
    """
    if oid < FIRST_USER_OID:
        return _FORMS.get(oid)
    shape = types.get(oid)
    return None if shape is None else _form_of_shape(shape)


def _form_of_shape(shape: TypeShape) -> ScalarOrArray | None:
    if 0 < shape.oid < FIRST_USER_OID:
        return _FORMS.get(shape.oid)
    match shape.kind:
        case Kind.ENUM:
            return Form.TEXT
        case Kind.RANGE | Kind.MULTIRANGE:
            # Printed by the subtype's output function, in quotes where it needs them.
            if shape.element is None or _form_of_shape(shape.element) is None:
                return None
            return Form.TEXT
        case Kind.ARRAY:
            return None if shape.element is None else _array_of(shape.element)
        case Kind.SCALAR if shape.name == "citext":
            return Form.TEXT
        case Kind.SCALAR | Kind.JSON | Kind.OBJECT:
            return None


def _array_of(element: TypeShape) -> ArrayForm | None:
    form = _form_of_shape(element)
    if form is None:
        return None
    if isinstance(form, ArrayForm):  # a domain over an array: has its delimiter
        return ArrayForm(form, form.delimiter)
    return ArrayForm(form, b";" if element.name == "box" else b",")


def key_cast(oid: int, types: Mapping[int, TypeShape]) -> str | None:
    """Name of the built-in base type where `value::text` is not its text output.

    That is `bool`, `bpchar` and `inet`; None for all others.
    """
    if oid >= FIRST_USER_OID:
        shape = types.get(oid)
        oid = 0 if shape is None else shape.oid
    return next(
        (name for name in ("bool", "bpchar", "inet") if OIDS[name] == oid), None
    )
