"""`pgbridge dead-letters`: documents that were refused for good.

The one thing to know: a letter goes away by itself when a later version of its
document is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, ViewName, known_view, load
from bridge.cli.output import note, say, say_json, say_table
from bridge.cli.words import count, plural
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.store.rows import DeadLetterRow

app = typer.Typer(
    no_args_is_help=True,
    help="Documents that were refused for good: list, show, retry, drop.",
    epilog="Example: [bold]pgbridge dead-letters list product[/bold]",
)
_All = Annotated[bool, typer.Option("--all", help="Every letter (of the view).")]
_View = Annotated[
    str | None,
    typer.Argument(metavar="VIEW", help="A view of the file.", show_default=False),
]
_Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY", help="Keys, as in `_id`.", show_default=False),
]


@app.command("list", epilog="Example: [bold]pgbridge dead-letters list --json[/bold]")
def list_letters(
    view: _View = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List them, of all views or of one."""
    loaded = load(config)
    if view is not None:
        known_view(loaded, view)
    letters, total = asyncio.run(_listed(loaded, view))
    if total > len(letters):
        note(f"{count(len(letters))} of {plural(total, 'letter')} are listed")
    if as_json:
        say_json([_as_json(letter) for letter in letters])
    elif not letters:
        say("no dead letters")
    else:
        say_table(
            ("VIEW", "KEY", "TARGET", "STAGE", "ATTEMPTS", "SINCE", "REASON"),
            [
                (
                    letter.view,
                    letter.key,
                    str(letter.generation),
                    letter.stage.value,
                    count(letter.attempts),
                    f"{letter.first_seen:%Y-%m-%d %H:%M:%S}",
                    letter.reason,
                )
                for letter in letters
            ],
            right=(4,),
        )


@app.command(epilog="Example: [bold]pgbridge dead-letters show product 55[/bold]")
def show(
    view: ViewName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As in `_id`.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one."""
    loaded = load(config)
    known_view(loaded, view)
    letters = asyncio.run(_read(loaded, view, [key]))
    if not letters:
        raise BridgeError(
            f"there is no dead letter of {view} {key}",
            hint=f"`pgbridge dead-letters list {view}` shows those that there are",
        )
    if as_json:
        say_json([_as_json(letter) for letter in letters])
        return
    for letter in letters:
        for name, value in _as_json(letter).items():
            say(f"{name:<12} {value}")


@app.command(epilog="Example: [bold]pgbridge dead-letters retry product --all[/bold]")
def retry(
    view: _View = None,
    keys: _Keys = None,
    every: _All = False,
    config: ConfigFile = None,
) -> None:
    """Derive them again, after what refused them was mended."""
    loaded = load(config)
    views = _asked(loaded, view, keys, every=every)
    done, left = asyncio.run(_retry(loaded, views, view, keys or None))
    if not done:
        say("no dead letter to try again")
        return
    say(
        f"{plural(done, 'letter')} tried again, "
        + (f"{count(left)} left: `pgbridge dead-letters list`" if left else "none left")
    )


@app.command(epilog="Example: [bold]pgbridge dead-letters drop product 55 56[/bold]")
def drop(
    view: _View = None,
    keys: _Keys = None,
    every: _All = False,
    config: ConfigFile = None,
) -> None:
    """Forget them; the documents stay as they are."""
    loaded = load(config)
    _asked(loaded, view, keys, every=every)
    say(f"{plural(asyncio.run(_drop(loaded, view, keys or None)), 'letter')} dropped")


def _asked(
    config: Config, view: str | None, keys: Sequence[str] | None, *, every: bool
) -> list[str]:
    """The views meant. BadParameter unless it is either keys of a view or all."""
    if every == bool(keys) or (keys and view is None):
        raise typer.BadParameter("give VIEW and KEY…, or --all")
    return [known_view(config, view)] if view is not None else list(config.views)


async def _read(config: Config, view: str, keys: Sequence[str]) -> list[DeadLetterRow]:
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        return await store.letters.list(view, keys)


async def _listed(config: Config, view: str | None) -> tuple[list[DeadLetterRow], int]:
    """The first letters, and how many there are."""
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        letters = await store.letters.list(view)
        return letters, await store.letters.total(view) if letters else 0


async def _retry(
    config: Config,
    views: Sequence[str],
    view: str | None,
    keys: Sequence[str] | None,
) -> tuple[int, int]:
    """How many letters of these views there were; and how many there are then."""
    from bridge.cli.issue import outcome, require_daemon
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        await require_daemon(store)
        letters = {view: await store.letters.total(view, keys) for view in views}
        asked = [view for view in views if letters[view]]
        commands = [await store.commands.retry(view, keys) for view in asked]
        for command in commands:
            await outcome(store, command)
        return sum(letters.values()), await store.letters.total(view, keys)


async def _drop(config: Config, view: str | None, keys: Sequence[str] | None) -> int:
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        return await store.letters.drop(view, keys)


def _as_json(letter: DeadLetterRow) -> dict[str, Any]:
    return {
        "view": letter.view,
        "key": letter.key,
        "sink": letter.generation.sink,
        "name": letter.generation.name,
        "generation": letter.generation.number,
        "stage": letter.stage.value,
        "reason": letter.reason,
        "version": str(letter.version),
        "first_seen": letter.first_seen.isoformat(),
        "last_seen": letter.last_seen.isoformat(),
        "attempts": letter.attempts,
    }
