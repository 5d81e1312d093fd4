"""What of another mapping and other settings an index can be given as it is. Pure.

The one thing to know: in place is only what Elasticsearch takes and what makes nothing
mean something else. A field that is added finds the documents that are written from
then on, so that every document is to be written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bridge.sink import Alteration
from sinks.elasticsearch.plan import IndexPlan

_TOLD_MAX = 3
_UPDATABLE = {"ignore_above": True, "meta": False, "search_analyzer": False}
"""Parameters of a field that may change, and whether documents are written again."""
_DYNAMIC = (
    "analyze.max_token_count",
    "auto_expand_replicas",
    "highlight.max_analyzed_offset",
    "indexing.slowlog.",
    "mapping.depth.limit",
    "mapping.nested_fields.limit",
    "mapping.nested_objects.limit",
    "mapping.total_fields.limit",
    "max_docvalue_fields_search",
    "max_inner_result_window",
    "max_ngram_diff",
    "max_regex_length",
    "max_rescore_window",
    "max_result_window",
    "max_script_fields",
    "max_shingle_diff",
    "max_terms_count",
    "merge.",
    "number_of_replicas",
    "priority",
    "query.default_field",
    "refresh_interval",
    "requests.cache.enable",
    "routing.allocation.",
    "search.idle.after",
    "search.slowlog.",
    "translog.flush_threshold_size",
    "unassigned.node_left.delayed_timeout",
    "write.wait_for_active_shards",
)
"""Settings that an open index takes; those that end in a dot, and all below them."""


class _Difference(NamedTuple):
    what: str
    in_place: bool
    rewrites: bool = False


def alteration(before: IndexPlan, after: IndexPlan) -> Alteration | None:
    """What an index of the one would need to be one of the other; None: nothing."""
    found = [
        *_fields(before.mapping["properties"], after.mapping["properties"], ""),
        *_settings(before, after),
    ]
    if after.keeps_vectors != before.keeps_vectors:
        found.append(_Difference("vectors are kept from then on", in_place=False))
    if not found:
        return None
    # What stands in the way of doing it in place is told first.
    found.sort(key=lambda one: one.in_place)
    told = "; ".join(one.what for one in found[:_TOLD_MAX])
    more = f"; and {len(found) - _TOLD_MAX} more" if len(found) > _TOLD_MAX else ""
    return Alteration(
        what=told + more,
        in_place=all(one.in_place for one in found),
        rewrites=any(one.rewrites for one in found),
    )


def dynamic(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that an open index takes."""
    return {name: value for name, value in settings.items() if is_dynamic(name)}


def is_dynamic(name: str) -> bool:
    """Whether an open index takes this setting."""
    bare = name.removeprefix("index.")
    return any(
        bare.startswith(known) if known.endswith(".") else bare == known
        for known in _DYNAMIC
    )


def _fields(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str
) -> Iterator[_Difference]:
    for name in before.keys() - after.keys():
        yield _Difference(f"field {prefix}{name} is removed", in_place=False)
    for name, field in after.items():
        path = f"{prefix}{name}"
        known = before.get(name)
        if known is None:
            fills = field.get("type") != "alias"
            yield _Difference(f"field {path} is added", in_place=True, rewrites=fills)
        else:
            yield from _field(known, field, path)


def _field(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str
) -> Iterator[_Difference]:
    old, new = before.get("type", "object"), after.get("type", "object")
    if old != new:
        what = f"field {path} changes from {old} to {new}"
        yield _Difference(what, in_place=False)
        return
    for inner in ("properties", "fields"):
        yield from _fields(before.get(inner) or {}, after.get(inner) or {}, f"{path}.")
    for name in sorted(before.keys() | after.keys()):
        if name in ("type", "properties", "fields"):
            continue
        if before.get(name) != after.get(name):
            yield _Difference(
                f"field {path} has another {name}",
                in_place=name in _UPDATABLE and name in after,
                rewrites=_UPDATABLE.get(name, False),
            )


def _settings(before: IndexPlan, after: IndexPlan) -> Iterator[_Difference]:
    for old, new in (
        (before.building, after.building),
        (before.serving, after.serving),
    ):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) == new.get(name):
                continue
            bare = name.removeprefix("index.")
            value = new.get(name)
            what = f"setting {bare} is " + ("unset" if value is None else str(value))
            yield _Difference(what, in_place=is_dynamic(name) and name in new)
