"""What a target's index is to be: names, mapping, settings, fingerprint. Pure.

The one thing to know: everything that a generation's storage is decided by is here, and
its digest is the fingerprint; another fingerprint means a new generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from bridge.sink import Generation, Refusal, Target, refuse_unknown
from sinks.elasticsearch.mapping import VECTORS, build_mapping, depth, paths, types
from sinks.elasticsearch.settings import building, read_settings, serving

OPTIONS = ("mappings", "settings")
SCHEME = 1
"""Raised when what is inferred changes, so that targets are built anew."""


def index_name(generation: Generation) -> str:
    """The index of a generation: `products--g3`."""
    return f"{generation.target.name}--g{generation.number}"


def write_alias(generation: Generation) -> str:
    """The hidden alias through which, and only through which, a generation is written.

    No index can have this name, since it is not lower-case: a write (or a delete, to
    which `require_alias` does not apply) that comes after somebody has deleted the
    index fails, and cannot create another.
    """
    return f"{index_name(generation)}.Write"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """One target's index."""

    mapping: dict[str, Any]
    building: dict[str, Any]
    serving: dict[str, Any]
    fingerprint: str
    fields: frozenset[str]
    """Names that a reason may tell: they come from the view, not from a row."""
    keeps_vectors: bool
    """Whether Elasticsearch 9.2 must be told to leave vectors in `_source`."""

    @property
    def copies(self) -> int:
        """How often each document is stored once the index serves."""
        replicas = self.serving["index.number_of_replicas"]
        return 2 if replicas is None else 1 + int(replicas)

    @property
    def shards(self) -> int:
        """How many shards the index has then, replicas too."""
        return int(self.building.get("index.number_of_shards", 1)) * self.copies


def read_target(options: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The mappings and the settings among a target's options. Refusal: unknown ones,
    wrong ones, and settings that would break a promise."""
    refuse_unknown(options, OPTIONS)
    mappings, settings = options.get("mappings", {}), options.get("settings", {})
    for name, value in (("mappings", mappings), ("settings", settings)):
        if not isinstance(value, Mapping):
            raise Refusal(
                f"`{name}` is not a table", hint=f"{name} = {{ … }}, or leave it out"
            )
    for field, override in mappings.items():
        if not isinstance(override, Mapping):
            raise Refusal(
                f"mappings.{field} is not a table",
                hint=f'for example mappings = {{ {field} = {{ type = "text" }} }}',
            )
    return mappings, read_settings(settings)


def plan(target: Target) -> IndexPlan:
    """The index of a target. Refusal when it cannot have one."""
    overrides, settings = read_target(target.options)
    mapping = build_mapping(target.shape, overrides)
    fields = mapping["properties"]
    names = frozenset(paths(fields))
    created = building(settings, fields=len(names), depth=depth(fields))
    served = serving(settings)
    decided = orjson.dumps(
        [SCHEME, mapping, created, served], option=orjson.OPT_SORT_KEYS
    )
    return IndexPlan(
        mapping=mapping,
        building=created,
        serving=served,
        fingerprint=sha256(decided).hexdigest()[:32],
        fields=names,
        keeps_vectors=any(kind in VECTORS for kind in types(fields)),
    )
