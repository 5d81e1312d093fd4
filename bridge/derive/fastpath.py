r"""From a row of the log to the bytes that `row_to_json` gives in Postgres.

For each view over one table, and each description of that table in the log, one
function is written out and compiled, such as

    def encode(values):
        a0, a1, a2, _ = values
        try:
            return join((
                b'{"id":', null if a0 is None else a0,
                b',"title":', null if a1 is None else dumps(a1.decode()),
                b',"at":', null if a2 is None else (
                    b'"' + a2.replace(b" ", b"T") + b':00"' if a2[-3] == 43
                    else timestamptz(a2)),
                b"}"))
        except …

The one thing to know: these are the same bytes, or None. A type without a known form
makes all rows of the table be read back, a value that the log left out that row alone;
the type matrix among the tests proves the rest against Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import orjson

from bridge.changes import Image, Marker, Relation
from bridge.derive import fastpath_values as values
from bridge.derive.fastpath_types import Form, ScalarOrArray, form_of, key_cast
from bridge.derive.view import Direct
from bridge.keys import Parts, key_text
from bridge.shape import TypeShape

Encode: TypeAlias = Callable[[Image], "bytes | None"]
Identify: TypeAlias = Callable[[Image], "tuple[str, Parts] | None"]

_EXPRESSIONS: dict[Form, str] = {
    Form.INTEGER: "{v}",
    Form.NUMBER: "({v} if {v}[-1] < 58 else number({v}))",
    Form.BOOLEAN: "booleans[{v}]",
    Form.QUOTED: "b'\"' + {v} + b'\"'",
    Form.TEXT: "dumps({v}.decode())",
    Form.BYTES: "b'\"\\\\' + {v} + b'\"'",
    Form.TIMESTAMP: (
        "(b'\"' + {v}.replace(b' ', b'T') + b'\"' if {v}[-1] < 58 else timestamp({v}))"
    ),
    Form.TIMESTAMPTZ: (
        "(b'\"' + {v}.replace(b' ', b'T') + b':00\"' if {v}[-3] == 43"
        " else timestamptz({v}))"
    ),
    Form.JSON: "json({v})",
}
"""The usual values in line, the others by the function of the form."""

_NAMES: dict[str, Any] = {
    "__builtins__": {
        "UnicodeDecodeError": UnicodeDecodeError,
        "TypeError": TypeError,
        "AttributeError": AttributeError,
        "KeyError": KeyError,
    },
    "join": b"".join,
    "dumps": orjson.dumps,
    "null": b"null",
    "booleans": values.BOOLEANS,
    "number": values.number,
    "timestamp": values.timestamp,
    "timestamptz": values.timestamptz,
    "json": values.json,
}
_serial = count(1)


@dataclass(frozen=True, slots=True)
class DirectEncoder:
    """Compiled for one view of one table as the log describes it."""

    encode: Encode
    """The document, or None: a value is absent or unchanged, read the row back."""
    key: Identify
    """The key's text and parts, or None: a key column is absent or unchanged."""
    source: str = field(repr=False)
    """The generated code, for debugging."""


def compile_direct(
    direct: Direct, relation: Relation, types: Mapping[int, TypeShape]
) -> DirectEncoder | None:
    """The encoder, or None: rows of this table are read back.

    That is when a column is not in the log, has another type there than when the view
    was planned, or is of a type whose JSON is not known to be fixed. `types` as in
    `form_of`.
    """
    key = compile_key(direct.key, relation, types)
    if key is None:
        return None
    by_name = {column.name: i for i, column in enumerate(relation.columns)}
    members: list[tuple[bytes, int, ScalarOrArray]] = []
    for column in direct.columns:
        index = by_name.get(column.source)
        if index is None or relation.columns[index].type_oid != column.type_oid:
            return None
        form = form_of(column.type_oid, types)
        if form is None:
            return None
        members.append((orjson.dumps(column.name), index, form))
    source, names = _write(members, len(relation.columns))
    encode: Encode = _compiled(source, names)["encode"]
    return DirectEncoder(encode, key, source)


def _write(
    members: list[tuple[bytes, int, ScalarOrArray]], width: int
) -> tuple[str, dict[str, Any]]:
    names: dict[str, Any] = {"marked": _marked}
    used = {index for _, index, _ in members}
    targets = ", ".join(f"a{i}" if i in used else "_" for i in range(width))
    lines = ["def encode(values):", f"    {targets}, = values" if width else ""]
    lines += ["    try:", "        return join(("]
    before = b"{"
    for name, index, form in members:
        v = f"a{index}"
        if isinstance(form, Form):
            expression = _EXPRESSIONS[form].format(v=v)
        else:
            names[f"array{index}"] = values.wrapper(form)
            expression = f"array{index}({v})"
        lines.append(f"            {before + name + b':'!r},")
        lines.append(f"            null if {v} is None else {expression},")
        before = b","
    lines += [
        f"            {b'}' if members else b'{}'!r},",
        "        ))",
        "    except UnicodeDecodeError:",
        "        return None",
        "    except (TypeError, AttributeError, KeyError):",
        "        if marked(values):",
        "            return None",
        "        raise",
        "",
    ]
    return "\n".join(lines), names


def _compiled(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """What the source defines. It is made of constants, indexes and `repr`s alone."""
    scope = _NAMES | names
    code = compile(source, f"<fast path {next(_serial)}>", "exec")
    exec(code, scope)  # noqa: S102 - our own source; names in it are quoted by repr
    return scope


def _marked(image: Image) -> bool:
    return any(isinstance(value, Marker) for value in image)


def compile_key(
    columns: tuple[str, ...], relation: Relation, types: Mapping[int, TypeShape]
) -> Identify | None:
    """From a row to the text and parts of the key made of these columns.

    None when a column is not in the log. A part is what `column::text` gives in
    Postgres, so that keys read there and keys from the log are the same.
    """
    by_name = {column.name: i for i, column in enumerate(relation.columns)}
    if not by_name.keys() >= set(columns):
        return None
    indexes = [by_name[name] for name in columns]
    casts = [_PARTS.get(key_cast(relation.columns[i].type_oid, types)) for i in indexes]
    if len(indexes) == 1 and casts[0] is None:
        return _single(indexes[0])
    places = list(zip(indexes, casts, strict=True))

    def identify(image: Image) -> tuple[str, Parts] | None:
        parts: list[str | None] = []
        for index, cast in places:
            value = image[index]
            if value is None:
                parts.append(None)
            elif isinstance(value, bytes):
                part = value.decode()
                parts.append(part if cast is None else cast(part))
            else:
                return None
        made = tuple(parts)
        return key_text(made), made

    return identify


def _single(index: int) -> Identify:
    """The usual key: one column, whose text is the part."""

    def identify(image: Image) -> tuple[str, Parts] | None:
        value = image[index]
        if value.__class__ is bytes:
            parts = (value.decode(),)
            return key_text(parts), parts
        return (key_text((None,)), (None,)) if value is None else None

    return identify


def _inet(part: str) -> str:
    return part if "/" in part else f"{part}/{128 if ':' in part else 32}"


_PARTS: dict[str | None, Callable[[str], str]] = {
    "bool": lambda part: "true" if part == "t" else "false",
    "bpchar": lambda part: part.rstrip(" "),
    "inet": _inet,
}
"""What the cast to text makes of the text output, where that is not the same."""
