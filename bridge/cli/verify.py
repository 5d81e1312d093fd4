"""`pgbridge verify`: every document of a view compared with the source.

The one thing to know: exit 1 when something differs; with `--repair` the daemon writes
it again through the normal path, and what differs then still is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, ViewName, known_view, load
from bridge.cli.output import note, say, say_json
from bridge.cli.words import count, duration

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.verify.compare import Comparison
    from bridge.verify.verify import Verified

_SHOWN_MAX = 20
_REPAIR_KEYS = 10_000


def verify(
    view: ViewName,
    config: ConfigFile = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="SINK[/NAME]", help="Default: every target of the view."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Compare only about N documents, others each time."
        ),
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
    for each, _ in found:
        if each.former:
            note(
                f"{each.sink}/{each.name} g{each.number} is not of the file's "
                "definition, and was compared with the one that it was built from; "
                "`pgbridge plan` shows what follows"
            )
    if as_json:
        say_json({"view": view, "targets": [_as_json(*each) for each in found]})
    else:
        _print(view, found, time.monotonic() - start, repair=repair)
    if any(
        each.found.foreign or repaired < len(each.found.wrong)
        for each, repaired in found
    ):
        raise typer.Exit(1)


async def _verify(
    config: Config,
    view: str,
    *,
    target: str | None,
    sample: int | None,
    repair: bool,
) -> Sequence[tuple[Verified, int]]:
    from bridge.cli.progress import progress
    from bridge.verify.verify import verify as compare

    done: dict[str, int] = {}
    totals: dict[str, int] = {}
    with progress(f"verify of {view}") as advance:

        def compared(name: str, checked: int, total: int) -> None:
            done[name], totals[name] = checked, total
            advance(sum(done.values()), sum(totals.values()))

        found = await compare(
            config, view, target=target, sample=sample, progress=compared
        )
    return [(each, await _repair(config, each) if repair else 0) for each in found]


async def _repair(config: Config, verified: Verified) -> int:
    """Have the daemon derive again what is wrong; how many of these keys are right
    then: a sink may refuse a document as it did before."""
    from bridge.cli.issue import outcome, require_daemon
    from bridge.cli.progress import progress
    from bridge.keys import key_text
    from bridge.store import Store
    from bridge.verify.verify import verify as compare

    wrong = verified.found.wrong
    if not wrong:
        return 0
    keys = [key_text(parts) for parts in wrong]
    target = f"{verified.sink}/{verified.name}"
    async with await Store.open(config.source.dsn) as store:
        with progress(f"repair of {target}") as advance:
            for start in range(0, len(keys), _REPAIR_KEYS):
                await require_daemon(store)
                command = await store.commands.backfill(
                    verified.view,
                    target=target,
                    keys=keys[start : start + _REPAIR_KEYS],
                )
                await outcome(store, command)
                advance(min(start + _REPAIR_KEYS, len(keys)), len(keys))
    again = await compare(config, verified.view, target=target, keys=wrong)
    return len(keys) - sum(len(each.found.wrong) for each in again)


def _print(
    view: str,
    found: Sequence[tuple[Verified, int]],
    elapsed_s: float,
    *,
    repair: bool,
) -> None:
    from bridge.keys import key_text

    differing = checked = mended = foreign = 0
    for each, repaired in found:
        comparison = each.found
        say(
            f"{each.sink}/{each.name}   at {each.position}   "
            f"{count(comparison.checked)} compared in {duration(elapsed_s)}"
        )
        different = [
            f"{wrong.key} ({', '.join(wrong.fields)})" if wrong.fields else wrong.key
            for wrong in comparison.different.values()
        ]
        for what, keys in (
            ("different", different),
            ("missing", [key_text(parts) for parts in comparison.missing]),
            ("extra", _extra(comparison)),
        ):
            more = f", and {count(len(keys) - _SHOWN_MAX)} more"
            shown = ", ".join(keys[:_SHOWN_MAX])
            say(
                f"  {what:<10}{count(len(keys)):>8}   {shown}"
                f"{more if len(keys) > _SHOWN_MAX else ''}".rstrip()
            )
        differing += len(comparison.wrong)
        foreign += len(comparison.foreign)
        checked += comparison.checked
        mended += repaired
    if foreign:
        are = "name is" if foreign == 1 else "names are"
        say(
            f"{count(foreign)} {are} no key of the view: somebody else wrote them; "
            f"`pgbridge backfill {view} --rebuild` leaves them behind"
        )
    if not differing and not foreign:
        say(f"no differences in {count(checked)} documents")
    elif differing and not repair:
        say(
            f"{count(differing)} of {count(checked)} differ. "
            f"`pgbridge verify {view} --repair` writes them again."
        )
    if mended:
        say(f"{count(mended)} of {count(checked)} differed and were written again")
    if repair and mended < differing:
        say(
            f"{count(differing - mended)} of {count(checked)} differ still: "
            f"`pgbridge dead-letters list {view}` shows what was refused."
        )


def _extra(found: Comparison) -> list[str]:
    """By key, with what nobody could derive again or remove."""
    from bridge.keys import key_text

    return [*(key_text(parts) for parts in found.extra), *found.foreign]


def _as_json(verified: Verified, repaired: int) -> dict[str, Any]:
    from bridge.keys import key_text

    found = verified.found
    return {
        "sink": verified.sink,
        "name": verified.name,
        "position": str(verified.position),
        "checked": found.checked,
        "missing": [key_text(parts) for parts in found.missing],
        "different": [
            {"key": wrong.key, "fields": list(wrong.fields)}
            for wrong in found.different.values()
        ],
        "extra": _extra(found),
        "repaired": repaired,
    }
