"""The statements of the `.sql` files in this folder, by name.

A file holds statements, each after a line `-- name: NAME` and a sentence that says
what it does, ended by a semicolon.

The one thing to know: a name that is missing or given twice fails at import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def parse(text: str, file: str) -> dict[str, LiteralString]:
    """Name → statement, without the semicolon. ValueError for a malformed file."""
    head, *pieces = _NAME.split(text)
    if head.strip():
        raise ValueError(f"{file}: text before the first name")
    found: dict[str, LiteralString] = {}
    for name, piece in zip(pieces[::2], pieces[1::2], strict=True):
        comment, _, statement = piece.strip().partition("\n")
        if not re.fullmatch(r"-- [A-Z].*", comment):
            raise ValueError(f"{file}: {name} lacks its sentence")
        if name in found or statement.count(";") != 1 or statement[-1] != ";":
            raise ValueError(f"{file}: {name} is not one statement under one name")
        # From a file of this package: as literal as if it stood in the code.
        found[name] = cast("LiteralString", statement[:-1])
    return found


def load() -> Mapping[str, LiteralString]:
    """Every statement of the package."""
    found: dict[str, LiteralString] = {}
    for file in sorted(files(__package__).iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        for name, statement in parse(file.read_text("utf-8"), file.name).items():
            if name in found:
                raise ValueError(f"{file.name}: {name} is there twice")
            found[name] = statement
    return found


QUERIES = load()
