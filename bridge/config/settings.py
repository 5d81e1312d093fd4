"""The configuration as the rest of the bridge sees it: frozen, in parts.

The one thing to know: each part is handed to whom it concerns; nobody needs the whole
but the composition root and the commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bridge.config.limits import Limits
from bridge.config.values import HTTP_DEFAULT, AuditRate, HttpAddress, Secret


class OnSlotLoss(StrEnum):
    """What the daemon does when its slot is lost for good."""

    HALT = "halt"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """`[source]`: one database, read through one slot."""

    dsn: Secret
    slot: str = "pgbridge"
    publication: str = "pgbridge"
    admin_dsn: Secret | None = None
    search_path: tuple[str, ...] = ("public",)
    wal_budget_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """`[daemon]`: what an operator may want otherwise."""

    http: HttpAddress | None = HTTP_DEFAULT
    ready_lag_s: float = 60.0
    audit: AuditRate | None = None
    """Continuous comparison with the source; None: off."""
    on_slot_loss: OnSlotLoss = OnSlotLoss.HALT
    memory_bytes: int = 400 * 2**20
    dead_letters_max: int = 10_000
    """More of one target than this halt it."""
    keep_previous_s: float | None = None
    """How long a previous generation is kept; None: until the next one replaces it."""
    backfill_rate: float | None = None
    """Documents per second that all backfills together may write; None: no limit."""


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """`[sinks.NAME]`: a destination; `options` are for the plug-in of `type`."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """One view in one sink under one name; `options` are the plug-in's."""

    view: str
    sink: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sink}/{self.name}"


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """`[views.NAME]`: either `query`, or `table` and perhaps `columns`."""

    name: str
    query: str | None = None
    table: str | None = None
    columns: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    functions: tuple[str, ...] = ()
    """Functions that the user declares to read no table, as `schema.name`."""
    targets: tuple[TargetConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """One file, read and found right.

    `files` are those it was made of (itself and every `NAME_file`): a change of one
    of them is a change of the configuration.
    """

    path: Path
    source: SourceConfig
    daemon: DaemonConfig
    sinks: Mapping[str, SinkConfig]
    views: Mapping[str, ViewConfig]
    limits: Limits
    files: tuple[Path, ...] = ()

    def targets(self) -> Iterator[TargetConfig]:
        """Every target, in the order of the file."""
        for view in self.views.values():
            yield from view.targets

    def secrets(self) -> frozenset[str]:
        """The texts that must never be shown, for whoever writes logs."""
        found = set(connection_secrets(self.source.dsn))
        if self.source.admin_dsn is not None:
            found.update(connection_secrets(self.source.admin_dsn))
        for sink in self.sinks.values():
            for name, value in sink.options.items():
                for item in value if isinstance(value, list) else [value]:
                    if not isinstance(item, Secret) or not item:
                        continue
                    if name == "url":
                        found.update(connection_secrets(item))
                    else:
                        found.add(str(item))
        return frozenset(found)


_URL_USER = re.compile(r"^[a-z][a-z0-9+.-]*://(?P<user>[^/?#]*)@", re.IGNORECASE)
_PASSWORD = re.compile(
    r"(?:^|[\s?&])(?:ssl)?password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
)


def connection_secrets(text: str) -> Iterator[str]:
    """The passwords inside a URL or connection string, as written and decoded."""
    parts = [found[1].strip("'") for found in _PASSWORD.finditer(text)]
    if found := _URL_USER.match(text):
        parts.append(found["user"].partition(":")[2])
    for part in filter(None, parts):
        yield part
        yield unquote(part)
