"""Which server, which history: what every connection that reads is compared by.

The one thing to know: LSNs and transaction ids mean something only within one system
identifier and one timeline, on the primary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.capture.failures import HistoryChanged, Standby
from bridge.errors import Halt

IDENTITY_SQL: Final = Path(__file__).with_name("identity.sql").read_text()
"""One row: system_identifier, timeline, in_recovery, server_version_num, and
wal_sender_timeout in milliseconds, all as text-safe types. On a standby the timeline
is null."""

VERSION_MIN: Final = 150000


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server as it introduced itself on one connection."""

    system_identifier: int
    timeline: int
    """0 on a standby, which cannot tell."""
    in_recovery: bool
    version: int
    """`server_version_num`: 180006."""

    def require(self, expected: ServerIdentity | None) -> None:
        """HistoryChanged unless this is in the history of `expected`, Standby unless
        it is a primary. Halt: the server is too old.
        """
        if self.version < VERSION_MIN:
            raise Halt(
                f"the source is Postgres {self.version // 10000}",
                hint="Postgres 15 or later is needed",
            )
        if self.in_recovery:
            raise Standby(
                "the source is a standby",
                hint="waiting until it is promoted, or source.dsn names the primary",
            )
        if expected is None:
            return
        if self.system_identifier != expected.system_identifier:
            raise HistoryChanged(
                "the source is another cluster: its system identifier is "
                f"{self.system_identifier}, not {expected.system_identifier}",
                hint="a new epoch and a rebuild are needed: `pgbridge apply`",
            )
        if self.timeline != expected.timeline:
            raise HistoryChanged(
                f"the source is on timeline {self.timeline}, not {expected.timeline}",
                hint="it was promoted or restored: a new epoch begins",
            )
