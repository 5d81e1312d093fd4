"""Numbers as people say them: counts, sizes, durations.

The one thing to know: three significant figures at most, always with a unit, and the
same words in tables, sentences and progress lines.
"""

from __future__ import annotations


def count(number: float) -> str:
    """`1,204,551`."""
    return f"{number:,.0f}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """`1 error`, `2 errors`, `1,204 documents`."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def size(number: float) -> str:
    """Bytes: `512 B`, `1.2 MiB`, `41 MiB`, `4 GiB`: in the file's own units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1000:
            return f"{_figure(number)} {unit}"
        number /= 1024
    return f"{_figure(number)} TiB"


def duration(seconds: float) -> str:
    """`0`, `24 ms`, `1.2 s`, `40 s`, `12 min`, `2 h 11 min`, `5 days`."""
    if seconds <= 0:
        return "0"
    if seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 59.5:
        return f"{_figure(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(minutes / 60 / 24)} days"


def share(fraction: float) -> str:
    """`61 %`; never 100 before it is all."""
    return f"{min(int(fraction * 100), 99 if fraction < 1 else 100)} %"


def _figure(number: float) -> str:
    text = f"{number:.1f}" if abs(number) < 10 else f"{number:.0f}"
    return text.removesuffix(".0")
