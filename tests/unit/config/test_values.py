"""Durations and sizes as they are written."""

from __future__ import annotations

import pytest

from bridge.config import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90), ("15m", 900), ("1h", 3600), (5, 5), (0.5, 0.5),
     ("7", 7), ("1.5h", 5400)],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("64MiB", 64 * 2**20), ("1GB", 10**9), (4096, 4096), ("1.5GiB", 3 * 2**29),
     ("512", 512), ("2kB", 2000)],
)  # fmt: skip
def test_sizes(text: str | int, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "h", "1y", "-1s", "1 h 2 m", "nan", True, None,
                                  "9" * 400 + "h", "1000000h"])  # fmt: skip
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "MiB", "1Mib", "-5", "1e9", False, [1],
                                  "9" * 400 + ".5TiB", "9" * 5000])  # fmt: skip
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
