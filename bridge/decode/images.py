"""Row images under load: readers generated for one layout of columns.

The one thing to know: a generated reader is the general one with its loop unrolled
(1.0 against 1.5 µs for ten columns); both are here, and tested to be the same.

For a table of three columns of which the second is not asked for:

    def read(b, p):
        if b[p] or b[p + 1] != 3: wrong(...)
        p += 2
        k = b[p]
        if k == 116:
            q = p + 5; p = q + u32(b, p + 1)[0]; c0 = b[q:p]
        elif k == 110: c0 = None; p += 1
        …
        k = b[p]
        if k == 116: p += 5 + u32(b, p + 1)[0]
        …
        return (c0, absent, c2), p
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, cast

from bridge.decode.pgoutput import Buffer, MessageError

Image: TypeAlias = tuple[Any, ...]
ImageReader: TypeAlias = Callable[[Buffer, int], tuple[Image, int]]
"""(buffer, where TupleData begins) → the image and where it ends.

IndexError or struct.error when the buffer ends within it; an end beyond the buffer
when it ends within the last value: to be compared by the caller.
"""

GENERATED_COLUMNS_MAX: Final = 100
"""Wider tables take the general reader: the code would be large, the gain small."""
_TEXT, _NULL, _UNCHANGED = ord("t"), ord("n"), ord("u")
_u32 = Struct(">I").unpack_from
_u16 = Struct(">H").unpack_from


class Layout(NamedTuple):
    """Which columns of a tuple of `width` are wanted, and in what form.

    `outputs` has an entry for each value of the image that is made: the column's
    place in the tuple, or None for `absent`.
    """

    width: int
    outputs: tuple[int | None, ...]
    unchanged: object
    absent: object


def _wrong_width(found: int, width: int) -> NoReturn:
    raise MessageError(f"a row of {found} columns for a table of {width}")


def _wrong_kind(kind: int) -> NoReturn:
    raise MessageError(f"unknown kind of column value {kind:#04x}")


def general_reader(layout: Layout) -> ImageReader:
    """A reader for any width, and for memoryviews, whose values it copies out."""
    width, outputs, unchanged, absent = layout
    wanted = frozenset(outputs)

    def read(buffer: Buffer, at: int) -> tuple[Image, int]:
        (found,) = _u16(buffer, at)
        if found != width:
            _wrong_width(found, width)
        at += 2
        values: list[Any] = []
        for column in range(width):
            match buffer[at]:
                case 0x74:
                    start = at + 5
                    at = start + _u32(buffer, at + 1)[0]
                    # What is not asked for is not copied: it may be 100 MB.
                    values.append(bytes(buffer[start:at]) if column in wanted else None)
                case 0x6E:
                    values.append(None)
                    at += 1
                case 0x75:
                    values.append(unchanged)
                    at += 1
                case kind:
                    _wrong_kind(kind)
        return (
            tuple(absent if column is None else values[column] for column in outputs),
            at,
        )

    return read


def generated_source(layout: Layout) -> str:
    """The Python text of the reader for `layout`, as shown above."""
    width, outputs, _, _ = layout
    wanted = frozenset(outputs)
    lines = [
        "def read(b, p):",
        f" if b[p] != {width >> 8} or b[p + 1] != {width & 255}:",
        f"  wrong_width(b[p] << 8 | b[p + 1], {width})",
        " p += 2",
    ]
    for column in range(width):
        lines.append(" k = b[p]")
        if column in wanted:
            lines += [
                f" if k == {_TEXT}:",
                f"  q = p + 5; p = q + u32(b, p + 1)[0]; c{column} = b[q:p]",
                f" elif k == {_NULL}: c{column} = None; p += 1",
                f" elif k == {_UNCHANGED}: c{column} = unchanged; p += 1",
            ]
        else:
            lines += [
                f" if k == {_TEXT}: p += 5 + u32(b, p + 1)[0]",
                f" elif k == {_NULL} or k == {_UNCHANGED}: p += 1",
            ]
        lines.append(" else: wrong_kind(k)")
    values = ("absent" if column is None else f"c{column}" for column in outputs)
    lines.append(f" return ({''.join(value + ', ' for value in values)}), p")
    return "\n".join(lines)


@lru_cache(maxsize=512)
def image_reader(layout: Layout) -> ImageReader:
    """The fastest reader for `layout`; of `bytes` alone, not of memoryviews."""
    if layout.width > GENERATED_COLUMNS_MAX:
        return general_reader(layout)
    names: dict[str, Any] = {
        "u32": _u32,
        "unchanged": layout.unchanged,
        "absent": layout.absent,
        "wrong_width": _wrong_width,
        "wrong_kind": _wrong_kind,
    }
    # Made of numbers only: no name or value of the database is in the source.
    exec(generated_source(layout), names)  # noqa: S102
    return cast("ImageReader", names["read"])
