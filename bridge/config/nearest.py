"""The valid name that somebody most likely meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher


def nearest(written: str, valid: Iterable[str]) -> str:
    """Of `valid` (not empty) the one most like `written`; the first of equals."""
    return max(valid, key=lambda name: SequenceMatcher(None, written, name).ratio())
