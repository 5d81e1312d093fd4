"""A batch in the making, which the steps of all views write into.

The one thing to know: within the present transaction everything has `version`; that is
how a step tells what this transaction did to a key from what an earlier one did.
"""

from __future__ import annotations

from typing import TypeAlias

from bridge.keys import Parts
from bridge.operations import Operation

Row: TypeAlias = "tuple[bytes | None, ...]"
"""Values of a key query's columns in one row image."""
ENTRY_BYTES = 200
"""What an entry of a batch costs besides its values, for bounds."""


class Draft:
    """A batch in the making."""

    __slots__ = (
        "byte_size",
        "changes",
        "commit_time_s",
        "doubtful",
        "images",
        "lsn",
        "messages",
        "null_keys",
        "puts",
        "read_all_back",
        "reread",
        "spilled",
        "sweeps",
        "transactions",
        "truncated",
        "version",
        "xids",
    )

    def __init__(self, commit_time_s: float) -> None:
        self.commit_time_s = commit_time_s
        self.lsn = 0
        self.version = 0
        self.xids: list[int] = []
        self.transactions = 0
        self.spilled = 0
        self.changes = 0
        self.byte_size = 0
        self.puts: dict[str, dict[str, Operation]] = {}
        self.reread: dict[str, dict[Parts, int]] = {}
        self.images: dict[tuple[str, int], dict[Row, None]] = {}
        self.truncated: set[int] = set()
        self.null_keys: set[str] = set()
        self.messages: list[tuple[str, bytes, int]] = []
        self.read_all_back = False
        """A piece of a spilled transaction: every key is read back."""
        self.doubtful: set[str] = set()
        """Views whose table the current transaction truncated."""
        self.sweeps: set[str] = set()
        """Views of which every document is to be derived again."""
