"""Names as they stand in the SQL that is shown to people.

The one thing to know: what is run goes through psycopg.sql; this is for statements to
be read and pasted, quoted only where they must be.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = frozenset(
    "all analyse analyze and any array as asc asymmetric authorization binary both "
    "case cast check collate collation column concurrently constraint create cross "
    "current_catalog current_date current_role current_schema current_time "
    "current_timestamp current_user default deferrable desc distinct do else end "
    "except false fetch for foreign freeze from full grant group having ilike in "
    "initially inner intersect into is isnull join lateral leading left like limit "
    "localtime localtimestamp natural not notnull null offset on only or order outer "
    "overlaps placing primary references returning right select session_user similar "
    "some symmetric system_user table tablesample then to trailing true union unique "
    "user using variadic verbose when where window with".split()
)


def quoted(name: str) -> str:
    """A name as SQL takes it, quoted only where it must be."""
    if is_plain(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def is_plain(name: str) -> bool:
    """Whether SQL takes the name without quotes."""
    return bool(_PLAIN.fullmatch(name)) and name not in _RESERVED
