"""Where a command prints: results to stdout, everything else to stderr.

The one thing to know: no text of a user's is ever taken for markup, and a pipe gets
whole lines, never folded to some width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 10_000


def console(stream: TextIO | None = None) -> Console:
    """A console on `stream` (default stdout) that prints what it is given."""
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )


def say(text: str, style: str = "") -> None:
    """A line of the result."""
    console().print(text, style=style or None)


def note(text: str, style: str = "") -> None:
    """A line beside the result, to stderr; where nobody takes it, the work goes on."""
    with suppress(OSError):
        console(sys.stderr).print(text, style=style or None)


def say_json(value: Any) -> None:
    """The result as JSON, indented, to stdout."""
    import orjson

    body = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2)
    sys.stdout.write(body.decode() + "\n")


def say_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """A table without lines; the columns in `right` are set to the right, `styles`
    are those of the rows, in order."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if index in right else "left",
            overflow="fold",
            no_wrap=index + 1 < len(headings),
        )
    for index, row in enumerate(rows):
        style = styles[index] if index < len(styles) else ""
        table.add_row(*row, style=style or None)
    out = console()
    with out.capture() as captured:
        out.print(table, soft_wrap=False)
    for line in captured.get().splitlines():
        print(line.rstrip())
