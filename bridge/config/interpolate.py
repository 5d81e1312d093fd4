"""`${NAME}` and `${NAME:-default}` in the strings of the file; `$${` is literal.

The one thing to know: as in a shell, the default of `:-` is taken for a variable that
is empty as well as for one that is not set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridge.errors import Refusal

_PLACE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def interpolate(value: Any, environ: Mapping[str, str], place: str = "") -> Any:
    """`value` with every variable in every string of it replaced.

    `place` is where the value stands, for the message. Refusal for a variable that is
    not set and has no default, and for what opens like one and is none.
    """
    match value:
        case str():
            return _PLACE.sub(lambda found: _replace(found, environ, place), value)
        case dict():
            return {
                name: interpolate(item, environ, f"{place}.{name}" if place else name)
                for name, item in value.items()
            }
        case list():
            return [
                interpolate(item, environ, f"{place}[{index}]")
                for index, item in enumerate(value)
            ]
        case _:
            return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that Python carries through
        return False
    return True


def _replace(found: re.Match[str], environ: Mapping[str, str], place: str) -> str:
    if found[0] == "$${":
        return "${"
    name, default = found[1], found[2]
    if name is None:
        raise Refusal(
            f"{place}: `${{` does not begin a variable such as ${{NAME}}",
            hint="write $${ for the characters themselves",
        )
    if default is not None and "${" in default:
        raise Refusal(
            f"{place}: the default of ${{{name}:-…}} has a variable in it",
            hint="write a text as default, or set the variable",
        )
    value = environ.get(name)
    if value is not None and not _is_text(value):
        raise Refusal(
            f"{place}: the environment variable {name} is not UTF-8",
            hint="set it to a text; what is no text can stand in a file: NAME_file",
        )
    if default is not None:
        return value or default
    if value is None:
        raise Refusal(
            f"{place}: the environment variable {name} is not set",
            hint=f"set it, or give a default as in ${{{name}:-…}}",
        )
    return value
