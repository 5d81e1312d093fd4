"""`pgbridge check`: every finding with the command that mends it.

The one thing to know: exit 1 when there is an error, 0 with warnings alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bridge.cli.options import AsJson, ConfigFile, load
from bridge.cli.output import console, say_json
from bridge.cli.words import plural

if TYPE_CHECKING:
    from bridge.control.check import Part

_STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}


def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Connect everywhere and list what stands in the way; changes nothing."""
    import asyncio

    from bridge.control.check import check as look

    parts = asyncio.run(look(load(config)))
    if as_json:
        say_json(
            [
                {
                    "part": part.name,
                    "level": finding.level.value,
                    "what": finding.what,
                    "fix": finding.fix,
                }
                for part in parts
                for finding in part.findings
            ]
        )
    else:
        _print(parts)
    if any(part.has_errors for part in parts):
        raise typer.Exit(1)


def _print(parts: Sequence[Part]) -> None:
    from rich.text import Text

    out = console()
    width = max(len(part.name) for part in parts)
    for part in parts:
        out.print(Text.assemble((part.name.ljust(width), "bold"), f"   {part.title}"))
        for finding in part.findings:
            level = finding.level.value
            out.print(
                Text.assemble(
                    "  ", (level.ljust(7), _STYLES[level]), f"  {finding.what}"
                )
            )
            for line in _lines(finding.fix):
                out.print(Text(f"             {line}", "dim"))
    counts = [
        plural(sum(f.level == level for part in parts for f in part.findings), level)
        for level in ("error", "warning")
    ]
    out.print(f"\n{counts[0]}, {counts[1]}")


def _lines(fix: str) -> list[str]:
    """A remedy of several statements, a line each."""
    return re.sub(r"; (?=[a-z])", ";\n", fix).splitlines()
