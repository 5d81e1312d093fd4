"""What options of plug-ins are asked, the same way everywhere.

The one thing to know: the refusal names the nearest valid key, since most unknown keys
are misspelt ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any

from bridge.errors import Refusal


class UnknownOption(Refusal):
    """An option that is none of the plug-in's; `valid` are those that are."""

    def __init__(self, option: str, valid: Iterable[str]) -> None:
        known = sorted(valid)
        near = get_close_matches(option, known, n=1, cutoff=0.0)
        hint = f"did you mean `{near[0]}`? " if near else ""
        super().__init__(
            f"unknown option `{option}`",
            hint=f"{hint}Valid ones are {', '.join(known) or 'none'}",
        )
        self.option = option
        self.valid = tuple(known)


def refuse_unknown(options: Mapping[str, Any], valid: Iterable[str]) -> None:
    """Refusal when `options` has a key that is not one of `valid`.

    `type`, which found the plug-in, is passed over.
    """
    known = set(valid)
    for option in options:
        if option not in known and option != "type":
            raise UnknownOption(option, known)


def is_loopback(host: str) -> bool:
    """Whether only this machine answers under that name or address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
