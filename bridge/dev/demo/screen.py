"""What the demo shows: a picture that changes on a terminal, plain lines elsewhere.

The one thing to know: it is ASCII, fits 80 columns by 24 lines, and says the same
without colours.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bridge.cli.words import count, duration
from bridge.dev.demo.scenes import Told
from bridge.dev.demo.witness import VIEWS, Counts

LINES_EVERY_S = 2.0
_TOLD_MAX = 2
_PLAIN_WIDTH = 10_000


@dataclass(slots=True)
class Picture:
    """All that is shown at one moment."""

    elapsed_s: float = 0.0
    seconds: float = 0.0
    counts: Sequence[Counts] = ()
    latencies_s: Mapping[str, float | None] = field(default_factory=dict)
    """From commit to kept, by SINK/NAME, over the last moments."""
    behind_s: float = 0.0
    transactions: int = 0
    rows: int = 0
    told: list[Told] = field(default_factory=list)


class Screen:
    """Shows pictures; used as a context, so that the terminal is left as it was."""

    def __init__(self) -> None:
        """On stdout."""
        self._console = Console(
            file=sys.stdout,
            markup=False,
            highlight=False,
            emoji=False,
            width=None if sys.stdout.isatty() else _PLAIN_WIDTH,
        )
        self._live: Live | None = None
        self._told = 0
        self._line_s = -LINES_EVERY_S

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        self._console.print(text, style=style or None, soft_wrap=True)

    @property
    def legend(self) -> str:
        """What the figures are."""
        if self._draws:
            return "(AFTER: from a change's commit until its document is kept)"
        return "(a view's rows / its indexed documents / its cached keys)"

    @property
    def _draws(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        if self._draws:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, picture: Picture) -> None:
        """Show a picture; without a terminal, what is new, and a line now and then."""
        if self._live is not None:
            self._live.update(_whole(picture), refresh=True)
            return
        for told in picture.told[self._told :]:
            self._print(_scene(told))
        self._told = len(picture.told)
        if picture.counts and picture.elapsed_s - self._line_s >= LINES_EVERY_S:
            self._line_s = picture.elapsed_s
            self._print([Text(_line(picture))])

    def _print(self, lines: Sequence[Text]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)
        sys.stdout.flush()


def _whole(picture: Picture) -> Group:
    told: list[Text] = [
        line for one in picture.told[-_TOLD_MAX:] for line in [Text(), *_scene(one)]
    ]
    return Group(_heading(picture), "", _table(picture), _flow(picture), *told)


def _heading(picture: Picture) -> Text:
    return Text.assemble(
        ("Postgres -> pgbridge -> Elasticsearch, Valkey", "bold"),
        f"   {picture.elapsed_s:.0f} of {picture.seconds:.0f} s, Ctrl-C ends it",
        overflow="ellipsis",
        no_wrap=True,
    )


def _table(picture: Picture) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for heading in ("VIEW", "ROWS", "INDEXED", "AFTER", "CACHED", "AFTER"):
        left = heading == "VIEW"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for shown, counts in zip(VIEWS, picture.counts, strict=False):
        table.add_row(
            shown.view,
            count(counts.rows),
            count(counts.documents),
            _time(picture.latencies_s.get(f"search/{shown.index}")),
            "-" if counts.keys is None else count(counts.keys),
            ""
            if counts.keys is None
            else _time(picture.latencies_s.get(f"cache/{shown.view}")),
        )
    return table


def _flow(picture: Picture) -> Text:
    return Text(
        f"{count(picture.transactions)} transactions, {count(picture.rows)} rows "
        f"changed; {_behind(picture)}",
        overflow="ellipsis",
        no_wrap=True,
    )


def _behind(picture: Picture) -> str:
    if not picture.behind_s:
        return "level with the log"
    return f"{duration(picture.behind_s)} behind the log"


def _line(picture: Picture) -> str:
    """`12 s   product 2,011 / 2,010 / 2,011 …`: rows, documents, keys."""
    parts = [f"{picture.elapsed_s:2.0f} s"]
    for shown, counts in zip(VIEWS, picture.counts, strict=True):
        numbers = [counts.rows, counts.documents]
        numbers += [] if counts.keys is None else [counts.keys]
        parts.append(f"{shown.view} {' / '.join(count(number) for number in numbers)}")
    times = [time for time in picture.latencies_s.values() if time is not None]
    if times:
        parts.append(f"after {_time(max(times))}")
    parts.append(_behind(picture))
    return "   ".join(parts)


def _scene(told: Told) -> list[Text]:
    """A statement, the document before and after, when and where it was seen."""
    scene = told.scene
    seen = (
        f"  in {scene.index} {_time(told.indexed_s)} after the commit, "
        f"in {scene.cached} {_time(told.cached_s)}"
    )
    found = (
        f"  a search for {scene.query} finds {count(told.hits)}, "
        f"{_time(told.searched_s)} after it"
    )
    lines = [
        (f"> {scene.statement}", "bold"),
        (f"  before  {_document(told.before)}", "red"),
        (f"  after   {_document(told.after)}", "green"),
        (seen, ""),
        (found, ""),
    ]
    return [
        Text(text, style, overflow="ellipsis", no_wrap=True) for text, style in lines
    ]


def _document(document: Mapping[str, Any] | None) -> str:
    """`id 12, title red cork table, price 9.44, reviews 3`; a list is its length."""
    if document is None:
        return "(gone)"
    return ", ".join(
        f"{name} {len(value) if isinstance(value, list) else value}"
        for name, value in document.items()
    )


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
