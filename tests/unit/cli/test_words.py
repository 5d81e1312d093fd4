"""Numbers as people say them."""

from __future__ import annotations

import pytest

from bridge.cli import words
from bridge.cli.progress import line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (-1, "0"), (0.0001, "1 ms"), (0.024, "24 ms"), (1.24, "1.2 s"),
     (40, "40 s"), (59.9, "1 min"), (720, "12 min"), (7860, "2 h 11 min"),
     (7200, "2 h"), (432000, "5 days")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1258291, "1.2 MiB"), (4 * 2**30, "4 GiB"),
     (2**40 * 5000, "5000 TiB")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


def test_counts_and_shares() -> None:
    assert words.plural(1, "error") == "1 error"
    assert words.plural(1204551, "document") == "1,204,551 documents"
    assert words.share(0.619) == "61 %"
    assert words.share(0.9999) == "99 %"
    assert words.share(1) == "100 %"


def test_lines_of_progress_show_rate_and_time_left() -> None:
    assert (
        line("backfill of product", "documents", 600, 1000, 300)
        == "backfill of product: 60 %, 600 documents, 300/s, 1.3 s left"
    )
    assert line("x", "documents", 0, None, 0.0) == "x: 0 documents"
    # More than was estimated: how much of it all is not known.
    assert line("x", "documents", 60_000, 5_000, 0.0) == "x: 60,000 documents"
