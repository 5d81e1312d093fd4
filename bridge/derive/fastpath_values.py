"""One value's text from the log as JSON: a function a form.

These are what the generated encoders call for values that are not of the usual sort,
and for elements of arrays, which are numerous but seldom.

The one thing to know: no value is ever parsed into a Python number or date. The text
is wrapped, escaped, and now and then has a space replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias, assert_never

import orjson

from bridge.derive.fastpath_types import ArrayForm, Form, ScalarOrArray

Wrap: TypeAlias = Callable[[bytes], bytes]
"""From the text of a value that is not null to its JSON."""

BOOLEANS = {b"t": b"true", b"f": b"false"}
_BREAKS = bytes.maketrans(b"\n\r", b"  ")


def text(value: bytes) -> bytes:
    r"""As `escape_json`: `"`, `\` and control characters but DEL, nothing else.

    orjson escapes exactly the same, in the same spelling. UnicodeDecodeError for a
    value that is not UTF-8 (a `"char"` above 127 before Postgres 16).
    """
    return orjson.dumps(value.decode())


def number(value: bytes) -> bytes:
    """As it is; `NaN`, `Infinity` and `-Infinity`, which JSON has not, as strings."""
    return value if value[-1] < 0x3A else b'"' + value + b'"'


def boolean(value: bytes) -> bytes:
    """`t` and `f` in full."""
    return BOOLEANS[value]


def quoted(value: bytes) -> bytes:
    """In quotes."""
    return b'"' + value + b'"'


def binary(value: bytes) -> bytes:
    r"""`\xdead` as `"\\xdead"`."""
    return b'"\\' + value + b'"'


def timestamp(value: bytes) -> bytes:
    """`2026-01-31 12:00:00` with a T; `infinity` as it is; `… BC` keeps its space."""
    return (
        b'"' + value.replace(b" ", b"T", 1) + b'"' if b":" in value else quoted(value)
    )


def timestamptz(value: bytes) -> bytes:
    """The same with `+00`, the only offset in UTC, as `+00:00`."""
    wrapped = timestamp(value)
    if value[-3] == 0x2B:
        return wrapped[:-1] + b':00"'
    return wrapped.replace(b"+00 BC", b"+00:00 BC")


def json(value: bytes) -> bytes:
    """As it is, line breaks between its tokens as spaces."""
    return value.translate(_BREAKS)


def array(form: ArrayForm) -> Wrap:
    r"""The function for arrays of a form.

    Postgres prints `{1,NULL,"a \"b\""}`, nested braces for dimensions, and in front
    of it `[0:2]=` where a lower bound is not 1, of which `row_to_json` says nothing.
    """
    wrap = wrapper(form.element)
    delimiter = re.escape(form.delimiter)
    token = re.compile(
        rb'([{}])|"([^"\\]*(?:\\.[^"\\]*)*)"|([^{}"' + delimiter + rb"]+)|" + delimiter,
        re.DOTALL,
    )
    brackets = {b"{": b"[", b"}": b"]"}

    def one(found: re.Match[bytes]) -> bytes:
        match found.lastindex:
            case 1:
                return brackets[found[0]]
            case 2:
                return wrap(_ESCAPED.sub(rb"\1", found[2]))
            case 3:
                return b"null" if found[3] == b"NULL" else wrap(found[3])
            case _:
                return b","

    def convert(value: bytes) -> bytes:
        if value[0] == 0x5B:
            value = value[value.index(b"=") + 1 :]
        return token.sub(one, value)

    return convert


_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def wrapper(form: ScalarOrArray) -> Wrap:
    """The function of a form."""
    if isinstance(form, ArrayForm):
        return array(form)
    match form:
        case Form.INTEGER:
            return bytes
        case Form.NUMBER:
            return number
        case Form.BOOLEAN:
            return boolean
        case Form.QUOTED:
            return quoted
        case Form.TEXT:
            return text
        case Form.BYTES:
            return binary
        case Form.TIMESTAMP:
            return timestamp
        case Form.TIMESTAMPTZ:
            return timestamptz
        case Form.JSON:
            return json
        case _:
            assert_never(form)
