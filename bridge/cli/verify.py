"""`pgbridge verify`: every document of a view compared with the source.

The one thing to know: exit 1 when something differs; with `--repair` the daemon writes
it again through the normal path.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, ViewName, known_view, load
from bridge.cli.output import say, say_json
from bridge.cli.words import count, duration

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.verify import Comparison

_SHOWN_MAX = 20


def verify(
    view: ViewName,
    config: ConfigFile = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="SINK[/NAME]", help="Default: every target of the view."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Compare about N documents only."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Derive again what differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every document with the source: missing, different, extra."""
    loaded = load(config)
    known_view(loaded, view)
    start = time.monotonic()
    found = asyncio.run(
        _verify(loaded, view, target=target, sample=sample, repair=repair)
    )
    if as_json:
        say_json({"view": view, "targets": [_as_json(each) for each in found]})
    else:
        _print(view, found, time.monotonic() - start)
    if any(each.differences and not each.repaired for each in found):
        raise typer.Exit(1)


async def _verify(
    config: Config,
    view: str,
    *,
    target: str | None,
    sample: int | None,
    repair: bool,
) -> Sequence[Comparison]:
    from bridge.cli.progress import progress
    from bridge.verify import verify as compare

    with progress(f"verify of {view}") as advance:
        return await compare(
            config, view, target=target, sample=sample, repair=repair, advance=advance
        )


def _print(view: str, found: Sequence[Comparison], elapsed_s: float) -> None:
    differing = checked = 0
    for each in found:
        say(
            f"{each.sink}/{each.name}   at {each.position}   {count(each.checked)} "
            f"compared in {duration(elapsed_s)}"
        )
        different = [
            f"{key} ({', '.join(fields)})" if fields else key
            for key, fields in each.different
        ]
        for what, keys in (
            ("different", different),
            ("missing", each.missing),
            ("extra", each.extra),
        ):
            more = f", and {count(len(keys) - _SHOWN_MAX)} more"
            shown = ", ".join(keys[:_SHOWN_MAX])
            say(
                f"  {what:<10}{count(len(keys)):>8}   {shown}"
                f"{more if len(keys) > _SHOWN_MAX else ''}".rstrip()
            )
        differing += each.differences
        checked += each.checked
        if each.repaired:
            say(f"  repaired  {count(each.repaired):>8}")
    if not differing:
        say(f"no differences in {count(checked)} documents")
    elif not any(each.repaired for each in found):
        say(
            f"{count(differing)} of {count(checked)} differ. "
            f"`pgbridge verify {view} --repair` writes them again."
        )


def _as_json(found: Comparison) -> dict[str, Any]:
    return {
        "sink": found.sink,
        "name": found.name,
        "position": str(found.position),
        "checked": found.checked,
        "missing": list(found.missing),
        "different": [
            {"key": key, "fields": list(fields)} for key, fields in found.different
        ],
        "extra": list(found.extra),
        "repaired": found.repaired,
    }
