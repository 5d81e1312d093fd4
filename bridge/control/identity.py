"""Which statement puts the old values that views need into the log.

The one thing to know: `full` is never advised for a table with generated columns: the
log may leave them out, and Postgres would then refuse the application's own updates.
An index over non-null columns always works.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bridge.control.quoting import quoted

_NAME_BYTES_MAX = 63


def identity_statement(
    table: str, name: str, primary_key: Sequence[str], columns: Iterable[str]
) -> str:
    """A unique index over the primary key and `columns`, and an identity that uses it.

    `table` is as SQL names it, `name` the bare name that the index is called after.
    """
    wanted = [*primary_key]
    wanted += sorted(column for column in columns if column not in primary_key)
    suffix = "_bridge"
    stem = name.encode()[: _NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
    index = quoted(stem + suffix)
    return (
        f"create unique index concurrently {index} on {table} "
        f"({', '.join(map(quoted, wanted))}); "
        f"alter table {table} replica identity using index {index};"
    )


def advice(
    table: str,
    name: str,
    *,
    primary_key: Sequence[str],
    wanted: Collection[str],
    nullable: Collection[str],
    generated: Collection[str],
) -> str:
    """The statement after which the log carries the old values of `wanted`."""
    if primary_key and set(wanted) <= set(primary_key):
        return f"alter table {table} replica identity default;"
    without_null = not set(wanted) & set(nullable)
    if primary_key and without_null and not set(wanted) & set(generated):
        return identity_statement(table, name, primary_key, wanted)
    if not generated:
        return f"alter table {table} replica identity full;"
    missing = sorted(set(wanted) & set(nullable))
    return (
        "".join(
            f"alter table {table} alter column {quoted(column)} set not null; "
            for column in missing
        )
        + identity_statement(table, name, primary_key, wanted)
        + "  -- not `full`: a generated column would make updates fail"
    )
