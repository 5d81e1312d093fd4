"""Refusing options that a plug-in does not know, the same way everywhere.

The one thing to know: the refusal names the nearest valid key, since most unknown keys
are misspelt ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from bridge.errors import Refusal


def refuse_unknown(options: Mapping[str, Any], valid: Iterable[str]) -> None:
    """Refusal when `options` has a key that is not one of `valid`.

    `type` is always valid: it is what found the plug-in.
    """
    known = sorted({*valid, "type"})
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1, cutoff=0.0)
            raise Refusal(
                f"unknown option `{option}`",
                hint=f"did you mean `{near[0]}`? Valid ones are {', '.join(known)}",
            )
