"""What the sink keeps where: the names of all its keys. `docs/redis.md` shows them.

The one thing to know: generations that share the names of their values (no
`{generation}` in the template) share their versions and their count too; what is
shared is called a *place*. Everything here is stored by servers: names never change.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from bridge.sink import Generation, Target
from sinks.redis.options import Encoding, TargetOptions, read_target_options
from sinks.redis.template import Naming, has_generation, naming, pattern, pieces

VERSION_DIGITS = 19
"""63 bits, zero-padded: compared as strings, since Lua's numbers hold only 53."""
_NUMBER = re.compile(rb"[0-9]{1,15}")
"""As many digits as Lua's numbers are exact to."""
DELETED = b"-"
NAMED = b"="
"""After the digits of a version whose value's name cannot be told from the key's text:
the name follows."""

OWNER = "pgbridge:owner"
"""Hash: `owner` and the highest `epoch` that wrote here."""

NAMES = "pgbridge:names"
"""Hash: how the values of a place are named → the target that has them: no two may."""


def mark_key(sink: str) -> str:
    """The number of the last request that was carried out."""
    return f"pgbridge:{sink}:mark"


def lost_key(sink: str) -> str:
    """Is there from when a loss was seen until it has been repaired."""
    return f"pgbridge:{sink}:lost"


def beat_key(sink: str) -> str:
    """Written before WAITAOF, which speaks only of its own connection's writes."""
    return f"pgbridge:{sink}:beat"


def evicted_key(sink: str) -> str:
    """What the server had evicted when all that it evicted had been derived again."""
    return f"pgbridge:{sink}:evicted"


@dataclass(frozen=True, slots=True)
class TargetKeys:
    """Names of what is kept for all generations of one target."""

    name: str

    @property
    def live(self) -> str:
        """The number of the live generation."""
        return f"pgbridge:{self.name}:live"

    @property
    def generations(self) -> str:
        """Hash: number → what is to be known to remove it."""
        return f"pgbridge:{self.name}:generations"

    @property
    def dropping(self) -> str:
        """The same of generations that are being removed."""
        return f"pgbridge:{self.name}:dropping"

    @property
    def positions(self) -> str:
        """Hash: number → position recorded."""
        return f"pgbridge:{self.name}:positions"

    def count(self, place: str) -> str:
        """How many documents are in a place."""
        return f"pgbridge:{self.name}:{place}:count"

    def versions(self, place: str) -> str:
        """What the name of a version begins with; the key's text follows."""
        return f"pgbridge:v:{self.name}:{place}:"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one generation is kept."""

    keys: TargetKeys
    place: str
    number: int
    naming: Naming
    options: TargetOptions
    view: str
    sink: str
    key_columns: tuple[str, ...]

    @property
    def versions(self) -> str:
        """What the names of its versions begin with."""
        return self.keys.versions(self.place)

    @property
    def count(self) -> str:
        """The key of its count."""
        return self.keys.count(self.place)

    @property
    def names(self) -> str:
        """How its values are named; another target's must be named otherwise."""
        columns = len(self.key_columns)
        return pattern(self.options.template, self.keys.name, columns, self.number)

    @property
    def held(self) -> bool:
        """Whether there are values and versions at all."""
        return self.options.encoding is not Encoding.NONE

    @property
    def mirrors(self) -> bool:
        """Whether every document is to stay until the bridge removes it."""
        return self.held and not self.options.ttl_ms

    def described(self) -> str:
        """What is stored of a generation: enough to remove it when the configuration
        has long changed."""
        return json.dumps(
            {
                "view": self.view,
                "sink": self.sink,
                "place": self.place,
                "template": self.options.template,
                "encoding": self.options.encoding.value,
                "key": self.key_columns,
            }
        )


def layout_of(generation: Generation, sink: str = "") -> Layout:
    """Where the generation is kept, in the sink of that name (default: the target's).

    Refusal when its options are wrong.
    """
    target = generation.target
    options = read_target_options(target.options)
    return Layout(
        keys=TargetKeys(target.name),
        place=place_of(target, options, generation.number),
        number=generation.number,
        naming=naming(
            options.template, target.name, target.shape.key, generation.number
        ),
        options=options,
        view=target.view,
        sink=sink or target.sink,
        key_columns=target.shape.key,
    )


def place_of(target: Target, options: TargetOptions, number: int) -> str:
    """`gN`, or a digest of how values are named where generations share that.

    A key's columns count by their order: what they are called is in no name.
    """
    if has_generation(options.template):
        return f"g{number}"
    key = target.shape.key
    named: list[tuple[str, int | str | None]] = [(f"{target.name}:", None)]
    if options.template:
        named = [
            (literal, key.index(column) if column in key else column)
            for literal, column in pieces(options.template)
        ]
    text = json.dumps([named, len(key)])
    return "p" + sha256(text.encode()).hexdigest()[:8]


def naming_described(described: dict[str, Any], name: str, number: int) -> Naming:
    """The naming of a generation as `Layout.described` told it."""
    return naming(described["template"], name, tuple(described["key"]), number)


def names_described(described: dict[str, Any], name: str, number: int) -> str:
    """`Layout.names` of a generation as `Layout.described` told it."""
    return pattern(described["template"], name, len(described["key"]), number)


def version_text(version: int) -> bytes:
    """A version as it is stored."""
    return b"%019d" % version


def number_of(stored: bytes | None) -> int | None:
    """A number as it is stored; None for what is none, whoever wrote it: as good as
    lost. `write.lua` and `claim.lua` read it just so."""
    is_number = stored is not None and _NUMBER.fullmatch(stored)
    return int(stored) if stored is not None and is_number else None


def parse_version(stored: bytes) -> tuple[int, bool, str | None]:
    """(version, deleted, the value's name where it is stored) of a stored version."""
    digits, sign = stored[:VERSION_DIGITS], stored[VERSION_DIGITS : VERSION_DIGITS + 1]
    name = stored[VERSION_DIGITS + 1 :].decode() if sign == NAMED else None
    return int(digits), sign == DELETED, name
