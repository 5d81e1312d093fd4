"""The settings of an index: the user's, less those that would break a promise. Pure.

The one thing to know: while a generation is built it has no replicas and is not
refreshed; what the user asked for is applied when it is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.sink import Refusal

GC_DELETES = "1h"
"""A late delete or write is recognised for this long; no request lives longer."""

FIELDS_LIMIT = 1000
"""Elasticsearch's own; raised where the view has more, since the mapping is strict."""
DEPTH_LIMIT = 20

_BUILDING: dict[str, Any] = {
    "index.gc_deletes": GC_DELETES,
    "index.number_of_replicas": 0,
    "index.refresh_interval": "-1",
    # whatever templates of the cluster say:
    "index.default_pipeline": "_none",
    "index.final_pipeline": "_none",
    "index.translog.durability": "request",
    "index.blocks.write": None,
    "index.blocks.read_only": None,
}
_ON_PUBLISHING = (
    "index.number_of_replicas",
    "index.auto_expand_replicas",
    "index.refresh_interval",
    "index.write.wait_for_active_shards",
)
_REFUSED: dict[str, str] = {
    "index.gc_deletes": "how long deletes are remembered is fixed: late writes that"
    " come after it would bring deleted documents back",
    "index.translog.durability": "what the bridge was told to be kept must be kept",
    "index.translog.sync_interval": "what the bridge was told to be kept must be kept",
    "index.default_pipeline": "a pipeline would change documents",
    "index.final_pipeline": "a pipeline would change documents",
    "index.mapping.source": "documents are compared by their `_source`",
    "index.mapping.synthetic_source_keep": "documents are compared by their `_source`",
    "index.recovery.use_synthetic_source": "documents are compared by their `_source`",
    "index.mode": "only the standard mode keeps documents as they are written",
    "index.lifecycle": "a policy that rolls over or deletes takes documents away",
    "index.routing_partition_size": "documents have no routing of their own",
    "index.routing_path": "documents have no routing of their own",
    "index.blocks": "a block stops the bridge from writing",
    "index.soft_deletes": "it is fixed by Elasticsearch",
    "index.uuid": "it is Elasticsearch's own",
    "index.version": "it is Elasticsearch's own",
    "index.creation_date": "it is Elasticsearch's own",
    "index.provided_name": "it is Elasticsearch's own",
    "index.hidden": "searches by pattern would not find the target",
}


def read_settings(written: Mapping[str, Any]) -> dict[str, Any]:
    """The user's settings under full names, in one level.

    Refusal for one that would break a promise of the sink.
    """
    flat = dict(_flat(written, ""))
    settings = {
        name if name.startswith("index.") else f"index.{name}": value
        for name, value in flat.items()
    }
    for name in settings:
        for refused, reason in _REFUSED.items():
            if name == refused or name.startswith(f"{refused}."):
                raise Refusal(
                    f"settings.{name.removeprefix('index.')} cannot be set: {reason}",
                    hint="leave it out",
                )
    return settings


def _flat(table: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{name}.")
        else:
            out.append((f"{prefix}{name}", value))
    return out


def building(settings: Mapping[str, Any], *, fields: int, depth: int) -> dict[str, Any]:
    """The settings to create an index with, for a mapping of so many fields."""
    limits: dict[str, Any] = {}
    if fields > FIELDS_LIMIT:
        limits["index.mapping.total_fields.limit"] = fields
    if depth > DEPTH_LIMIT:
        limits["index.mapping.depth.limit"] = depth
    wanted = {k: v for k, v in settings.items() if k not in _ON_PUBLISHING}
    fixed = {k: v for k, v in _BUILDING.items() if v is not None}
    return {**limits, **wanted, **fixed}


def serving(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What to set when it is published; None is Elasticsearch's own default."""
    return {name: settings.get(name) for name in _ON_PUBLISHING}
