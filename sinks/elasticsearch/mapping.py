"""The mapping of an index: inferred from a view's types, merged with the user's. Pure.

The one thing to know: the mapping is strict. A document with a field that is not in it
is refused and told of, instead of the index growing a field of a guessed type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, TypeAlias

from bridge.sink import Refusal, Shape
from sinks.elasticsearch.fieldtypes import field_of

Field: TypeAlias = dict[str, Any]
Fields: TypeAlias = dict[str, Field]

METADATA = frozenset(
    {
        "_id",
        "_index",
        "_type",
        "_source",
        "_size",
        "_doc_count",
        "_field_names",
        "_ignored",
        "_ignored_source",
        "_nested_path",
        "_routing",
        "_routing_hash",
        "_seq_no",
        "_primary_term",
        "_version",
        "_tier",
        "_tsid",
        "_meta",
        "_uid",
        "_all",
        "_parent",
        "_feature",
        "_data_stream_timestamp",
        "_inference_fields",
    }
)
"""Names of Elasticsearch's own, which no document may have at its top."""

_NUMBERS = frozenset(
    "byte short integer long unsigned_long half_float float double scaled_float".split()
)
_KEPT_BY: dict[str, frozenset[str]] = {
    "ignore_malformed": _NUMBERS
    | {"date", "date_nanos", "ip", "geo_point", "geo_shape", "point", "shape"},
    "ignore_above": frozenset({"keyword", "wildcard", "flattened"}),
    "properties": frozenset({"object", "nested"}),
}
"""Inferred parameters that outlive a change of the type, and for which types."""

VECTORS = frozenset({"dense_vector", "sparse_vector", "rank_vectors"})
"""Types that Elasticsearch 9.2 takes out of `_source` unless it is told not to."""


def build_mapping(shape: Shape, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `mappings` for a view, without `_meta`.

    Refusal when a column cannot be a field, or an override names no column.
    """
    inferred: Fields = {}
    for column in shape.columns:
        _refuse_name(column.name)
        inferred[column.name] = field_of(column.type)
    _refuse_members(inferred, "")
    fields = _expanded(inferred)
    for name, override in overrides.items():
        _merge_named(fields, inferred, name, override)
    _refuse_strangers(fields, inferred, overrides)
    return {
        "dynamic": "strict",
        # as they are by default, whatever templates of the cluster say
        "_source": {"enabled": True},
        "_routing": {"required": False},
        "properties": fields,
    }


def paths(fields: Mapping[str, Field], prefix: str = "") -> Iterator[str]:
    """Every field and object of a mapping by its full name, multi-fields too."""
    for name, field in fields.items():
        yield f"{prefix}{name}"
        for inner in ("properties", "fields"):
            if isinstance(field.get(inner), Mapping):
                yield from paths(field[inner], f"{prefix}{name}.")


def depth(fields: Mapping[str, Field]) -> int:
    """How many objects the deepest field stands in, itself included."""
    below = [depth(field.get("properties") or {}) for field in fields.values()]
    return 1 + max(below) if below else 0


def types(fields: Mapping[str, Field]) -> Iterator[str]:
    """The type of every field and object."""
    for field in fields.values():
        yield str(field.get("type", "object"))
        yield from types(field.get("properties") or {})
        yield from types(field.get("fields") or {})


def _refuse_name(name: str) -> None:
    """Refusal for a column name that cannot be a field's."""
    if name in METADATA:
        raise Refusal(
            f'column "{name}" has the name of a field of Elasticsearch\'s own',
            hint=f"give it another name: select … as {name.lstrip('_')}",
        )
    _refuse_text(name, f'column "{name}"')


def _refuse_text(name: str, what: str) -> None:
    if not name.strip() or any(not part.strip() for part in name.split(".")):
        raise Refusal(
            f"{what} cannot be a field: a name, or a part of it between dots, is empty",
            hint="give it another name: select … as name",
        )


def _refuse_members(fields: Mapping[str, Field], prefix: str) -> None:
    for name, field in fields.items():
        if prefix:
            _refuse_text(name, f'member "{name}" of {prefix.rstrip(".")}')
        _refuse_members(field.get("properties") or {}, f"{prefix}{name}.")


def _expanded(fields: Mapping[str, Field]) -> Fields:
    """Names with dots as Elasticsearch reads them: `a.b` is `b` in the object `a`."""
    out: Fields = {}
    for name, field in fields.items():
        inner = field.get("properties")
        if isinstance(inner, Mapping):
            _place(out, name, {**field, "properties": _expanded(inner)})
        else:
            _place(out, name, field)
    return out


def _place(fields: Fields, name: str, field: Field) -> None:
    *objects, last = name.split(".")
    for part in objects:
        holder = fields.setdefault(part, {"type": "object", "properties": {}})
        if "properties" not in holder:
            raise _clash(name, part)
        fields = holder["properties"]
    known = fields.get(last)
    if known is None:
        fields[last] = field
    elif "properties" in known and "properties" in field:
        for inner, inner_field in field["properties"].items():
            _place(known["properties"], inner, inner_field)
    else:
        raise _clash(name, last)


def _clash(name: str, part: str) -> Refusal:
    other = f'"{part}"' if part != name else f'one whose name begins with "{name}."'
    return Refusal(
        f'columns "{name}" and {other} would be one field: Elasticsearch reads a dot'
        " in a name as a step into an object",
        hint="give one another name: select … as a_b in the place of a.b",
    )


def _merge_named(fields: Fields, inferred: Fields, name: str, override: object) -> None:
    """Merge the override of one column, or of a field inside it by its full name."""
    if not isinstance(override, Mapping):
        raise Refusal(
            f"mappings.{name} is not a table",
            hint=f'for example mappings = {{ {name} = {{ type = "text" }} }}',
        )
    holder, *inner = name.split(".")
    while inner and isinstance(fields.get(holder, {}).get("properties"), dict):
        fields = fields[holder]["properties"]
        holder, *inner = inner
    if inner:
        raise Refusal(
            f"mappings.{name}: there is no object that it could be in",
            hint=_nearest(name, [*inferred, *paths(inferred)]),
        )
    fields[holder] = merge_field(fields.get(holder), override)


def merge_field(inferred: Field | None, override: Mapping[str, Any]) -> Field:
    """One field: the user's parameters over the inferred ones that still fit."""
    if inferred is None:
        return deepcopy(dict(override))
    kind = override.get("type", inferred.get("type", "object"))
    opened = inferred.get("enabled") is False and "enabled" not in override
    if inferred.get("type", "object") != kind:
        kept = {
            name: deepcopy(value)
            for name, value in inferred.items()
            if kind in _KEPT_BY.get(name, ())
        }
    else:
        kept = deepcopy(inferred)
    if opened and kind in ("object", "nested"):
        # JSON that the user maps: what he names is indexed, the rest is not refused.
        kept.pop("enabled", None)
        kept["dynamic"] = False
    return _deep(kept, override)


def _deep(base: Field, override: Mapping[str, Any]) -> Field:
    for name, value in override.items():
        known = base.get(name)
        if name == "properties" and isinstance(value, Mapping):
            members = known if isinstance(known, dict) else {}
            for member, given in value.items():
                if not isinstance(given, Mapping):
                    raise Refusal(f"mappings: properties.{member} is not a table")
                members[member] = merge_field(members.get(member), given)
            base[name] = members
        elif isinstance(known, dict) and isinstance(value, Mapping):
            base[name] = _deep(known, value)
        else:
            base[name] = deepcopy(value)
    return base


def _refuse_strangers(
    fields: Fields, inferred: Fields, overrides: Mapping[str, Any]
) -> None:
    """Refusal for an override that no value could ever come to: mostly misspelt."""
    targets = set(_copy_targets(fields))
    for name, override in overrides.items():
        root = name.partition(".")[0]
        fed = name in inferred or any(
            column == root or column.startswith(f"{root}.") for column in inferred
        )
        if not fed and name not in targets and override.get("type") != "alias":
            raise Refusal(
                f"mappings.{name}: the view has no column of that name",
                hint=_nearest(name, inferred),
            )


def _copy_targets(fields: Mapping[str, Field]) -> Iterator[str]:
    for field in fields.values():
        targets = field.get("copy_to", ())
        yield from [targets] if isinstance(targets, str) else targets
        yield from _copy_targets(field.get("properties") or {})


def _nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"its columns are {', '.join(sorted(known)[:20])}"
