"""Names as they stand in the SQL that is shown to people.

The one thing to know: what is run goes through psycopg.sql; this is for statements to
be read and pasted, quoted only where they must be.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = re.compile(
    "all|analyse|analyze|and|any|array|as|asc|asymmetric|both|case|cast|check|collate|"
    "column|constraint|create|current_date|default|desc|distinct|do|else|end|except|"
    "false|fetch|for|foreign|from|grant|group|having|in|initially|intersect|into|"
    "lateral|leading|limit|not|null|offset|on|only|or|order|placing|primary|references|"
    "returning|select|session_user|some|symmetric|table|then|to|trailing|true|union|"
    "unique|user|using|variadic|when|where|window|with"
)


def quoted(name: str) -> str:
    """A name as SQL takes it, quoted only where it must be."""
    if is_plain(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def is_plain(name: str) -> bool:
    """Whether SQL takes the name without quotes."""
    return bool(_PLAIN.fullmatch(name)) and not _RESERVED.fullmatch(name)
