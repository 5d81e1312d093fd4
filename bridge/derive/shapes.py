"""The output types of a view as sinks see them.

The one thing to know: domains are resolved here, once; a sink never meets one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge.catalog import FIRST_USER_OID, Type
from bridge.shape import Kind, TypeShape

_JSON = ("json", "jsonb")


def type_shape(types: Mapping[int, Type], oid: int, modifier: int = -1) -> TypeShape:
    """The shape of one type; KeyError when the catalog was not asked for it."""
    found = types[oid]
    while found.kind == "d":
        modifier = found.base_modifier if modifier == -1 else modifier
        found = types[found.base]
    if found.is_array:
        element = type_shape(types, found.element, modifier)
        return TypeShape(Kind.ARRAY, found.name, found.oid, modifier, element)
    match found.kind:
        case "e":
            return TypeShape(Kind.ENUM, found.name, found.oid)
        case "c":
            members = tuple(
                (name, type_shape(types, member, of))
                for name, member, of in found.members
            )
            return TypeShape(Kind.OBJECT, found.name, found.oid, members=members)
        case "r" | "m":
            kind = Kind.RANGE if found.kind == "r" else Kind.MULTIRANGE
            element = type_shape(types, found.element)
            return TypeShape(kind, found.name, found.oid, element=element)
    if found.schema == "pg_catalog" and found.name in _JSON:
        return TypeShape(Kind.JSON, found.name, found.oid)
    return TypeShape(Kind.SCALAR, found.name, found.oid, modifier)


def made_of(types: Mapping[int, Type], oid: int) -> Iterator[Type]:
    """The type and all that it is made of: bases, elements, members."""
    waiting, seen = [oid], set[int]()
    while waiting:
        at = waiting.pop()
        if at in seen or at not in types:
            continue
        seen.add(at)
        found = types[at]
        yield found
        waiting += [
            found.base,
            found.element,
            *(member for _, member, _ in found.members),
        ]


def digest_types(types: Mapping[int, Type]) -> dict[int, TypeShape]:
    """What the stream's digester is to know of types that are not built in.

    Domains, enums and arrays of them; what an extension brought is left out, since
    Postgres may make its JSON through a cast (`citext` never has one).
    """
    return {
        oid: type_shape(types, oid)
        for oid, found in types.items()
        if oid >= FIRST_USER_OID
        and (found.kind in "de" or found.is_array)
        and _plain(types, found)
    }


def _plain(types: Mapping[int, Type], found: Type) -> bool:
    while found.kind == "d" or found.is_array:
        if found.json_cast is not None:
            return False
        below = types.get(found.base if found.kind == "d" else found.element)
        if below is None:
            return False
        found = below
    if found.json_cast is not None:
        return False
    return found.extension in (None, "citext") and found.kind in "be"
