"""Which statement puts the old values that views need into the log.

The one thing to know: `full` is never advised for a table with generated columns: the
log may leave them out, and Postgres would then refuse the application's own updates.
An index over non-null columns always works, unless a value may be too long for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import count
from typing import Any

from bridge.control.quoting import quoted

_NAME_BYTES_MAX = 63


def advice(leaf: Mapping[str, Any], wanted: Collection[str]) -> str:
    """The statement after which the log carries the old values of `wanted`.

    `leaf` is one of `sql/used_tables.sql`.
    """
    table, key, generated = leaf["name"], leaf["primary_key"], leaf["generated"]
    if key and set(wanted) <= set(key):
        return f"alter table {table} replica identity default;"
    keys = sorted(leaf["keys"], key=lambda each: len(each["columns"]))
    for each in keys:
        if set(wanted) <= set(each["columns"]):
            return _using(table, each["name"])
    base: Sequence[str] = key or next((each["columns"] for each in keys), ())
    unfit = sorted(set(wanted) & set(leaf["unfit"]))
    missing = sorted(set(wanted) & set(leaf["nullable"]))
    if base and not unfit and not missing and not set(wanted) & set(generated):
        return _with_index(leaf, base, wanted)
    if not generated:
        return f"alter table {table} replica identity full;"
    if unfit:
        return (
            f"/* no index may hold {', '.join(unfit)}, and beside the generated "
            f"{', '.join(generated)} `full` would make updates fail: link by another "
            "column */"
        )
    return (
        "".join(
            f"alter table {table} alter column {quoted(column)} set not null; "
            for column in missing
        )
        + _with_index(leaf, base, wanted)
        + "  /* not `full`: a generated column would make updates fail */"
    )


def usable(leaf: Mapping[str, Any]) -> str:
    """The statement after which Postgres takes the application's updates of a
    published table that had no identity."""
    if leaf["primary_key"]:
        return f"alter table {leaf['name']} replica identity default;"
    for each in sorted(leaf["keys"], key=lambda each: len(each["columns"])):
        return _using(leaf["name"], each["name"])
    return f"alter table {leaf['name']} add primary key (…);"


def _with_index(
    leaf: Mapping[str, Any], key: Sequence[str], columns: Iterable[str]
) -> str:
    """A unique index over the key and `columns`, and an identity that uses it."""
    wanted = [*key, *sorted(column for column in columns if column not in key)]
    index = _index_name(leaf, wanted)
    return (
        f"create unique index concurrently {quoted(index)} on {leaf['name']} "
        f"({', '.join(map(quoted, wanted))}); {_using(leaf['name'], index)}"
    )


def _using(table: str, index: str) -> str:
    return f"alter table {table} replica identity using index {quoted(index)};"


def _index_name(leaf: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The table's name with `_bridge`; a digest in it where that is cut, or taken."""
    name = leaf["table"]
    for attempt in count():
        digest = sha256(repr((name, columns, attempt)).encode()).hexdigest()[:8]
        suffix = f"_{digest}_bridge" if attempt else "_bridge"
        stem = name.encode()[: _NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
        cut = stem != name and not attempt
        if not cut and stem + suffix not in leaf["taken"]:
            return str(stem + suffix)
    raise AssertionError
