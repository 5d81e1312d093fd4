"""How far long work is: a bar on a terminal, plain lines elsewhere; always with rate
and time left, always on stderr.

The one thing to know: a line is written when something moved, and at most every few
seconds, so that a log of it can be read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from bridge.cli.output import note
from bridge.cli.words import count, duration, share

LINE_INTERVAL_S = 5.0
Advance: TypeAlias = Callable[[float, "float | None"], None]
"""Called with what is done so far, and with all that there is where that is known."""


@contextmanager
def progress(what: str, unit: str = "documents") -> Iterator[Advance]:
    """Show how far `what` is for as long as the block runs."""
    if sys.stderr.isatty():
        with _bar(what) as advance:
            yield advance
    else:
        yield _lines(what, unit)


class _Since:
    """What was done since the first look, and how long ago that was, in seconds: what
    was done before it says nothing of how fast it goes."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float) -> tuple[float, float]:
        now = time.monotonic()
        first, start = self._first = self._first or (done, now)
        return done - first, now - start


@contextmanager
def _bar(what: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from bridge.cli.output import console

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    since = _Since()
    with Progress(*columns, console=console(sys.stderr), transient=True) as shown:
        task = shown.add_task(what, total=None, rate="", done="")

        def advance(done: float, total: float | None) -> None:
            done_here, elapsed_s = since(done)
            rate, total = done_here / max(elapsed_s, 0.001), _known(done, total)
            of = f" of {count(total)}" if total else ""
            shown.update(
                task,
                completed=done,
                total=total,
                done=f"{count(done)}{of}",
                rate=f"{count(rate)}/s",
            )

        yield advance


def _lines(what: str, unit: str) -> Advance:
    since = _Since()
    last = -LINE_INTERVAL_S
    shown: tuple[float, float | None] = (-1.0, None)

    def advance(done: float, total: float | None) -> None:
        nonlocal last, shown
        done_here, now = since(done)
        if not done or (done, total) == shown or now - last < LINE_INTERVAL_S:
            return
        last, shown = now, (done, total)
        note(line(what, unit, done, total, done_here / now if now else 0.0))

    return advance


def _known(done: float, total: float | None) -> float | None:
    """What there is in all; None where an estimate was passed."""
    return total if total and done <= total else None


def line(what: str, unit: str, done: float, total: float | None, rate: float) -> str:
    """`backfill of product: 61 %, 7,200 documents, 9,800/s, 12 s left`."""
    parts = []
    if total := _known(done, total):
        parts.append(share(done / total))
    parts.append(f"{count(done)} {unit}")
    if rate > 0:
        parts.append(f"{count(rate)}/s")
        if total and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
    return f"{what}: {', '.join(parts)}"
