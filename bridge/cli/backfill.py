"""`pgbridge backfill`: derive a view, or a part of it, again.

The one thing to know: the daemon does it, and goes on with it whatever happens to this
command; ending the command ends only the looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import ConfigFile, ViewName, known_view, load
from bridge.cli.output import note, say

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.store import Store


def backfill(
    view: ViewName,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="K", help="Further keys after --keys.", hidden=True),
    ] = None,
    config: ConfigFile = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="SINK[/NAME]", help="Default: every target of the view."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="A condition on the view's output columns."),
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--keys", metavar="K…", help="Just these keys, as in `_id`."),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Build a new generation beside the live one, and promote it when it "
            "is complete and level.",
        ),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for the end.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Stop all backfills of the view instead.")
    ] = False,
) -> None:
    """Derive documents again in place, and remove what no longer exists."""
    loaded = load(config)
    known_view(loaded, view)
    if cancel:
        if target or where or keys or more or rebuild or detach:
            raise typer.BadParameter("--cancel stands alone")
        asyncio.run(_cancel(loaded, view))
        return
    if where is not None and not where.strip():
        raise typer.BadParameter("--where is empty: leave it out for the whole view")
    wanted = [*(keys or []), *(more or [])] or None
    if more and not keys:
        raise typer.BadParameter(f"{more[0]!r}: give keys after --keys")
    if (wanted is not None) + (where is not None) + rebuild > 1:
        raise typer.BadParameter("--keys, --where and --rebuild exclude each other")
    asyncio.run(
        _backfill(
            loaded,
            view,
            target=target,
            keys=wanted,
            where=where,
            rebuild=rebuild,
            detach=detach,
        )
    )


async def _backfill(
    config: Config,
    view: str,
    *,
    target: str | None,
    keys: Sequence[str] | None,
    where: str | None,
    rebuild: bool,
    detach: bool,
) -> None:
    from bridge.cli.issue import is_running, require_daemon
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        if not detach:
            await require_daemon(store)
        command = await store.commands.backfill(
            view, target=target, keys=keys, condition=where, rebuild=rebuild
        )
        if detach:
            running = await is_running(store)
            state = "under way" if running else "noted"
            say(f"backfill {command} of view {view} is {state}")
            return
        try:
            message = await _follow(store, command, view)
        except asyncio.CancelledError:
            note(
                f"backfill {command} goes on without this command; "
                f"`pgbridge backfill {view} --cancel` stops it"
            )
            raise
    say(f"view {view}: {message}")


async def _follow(store: Store, command: int, view: str) -> str:
    """Wait for the end, showing how far it is; what the daemon says of it."""
    from bridge.cli.issue import outcome
    from bridge.cli.progress import progress

    with progress(f"backfill of {view}") as advance:

        async def look() -> None:
            rows = await store.backfills.of_command(command)
            estimates = [row.estimate for row in rows if row.estimate]
            total = sum(estimates) if len(estimates) == len(rows) and rows else None
            advance(sum(row.documents for row in rows), total)

        row = await outcome(store, command, look)
    return row.message or "derived again"


async def _cancel(config: Config, view: str) -> None:
    from bridge.cli.issue import outcome, require_daemon
    from bridge.store import Store

    async with await Store.open(config.source.dsn) as store:
        await require_daemon(store)
        found = [
            row.id
            for row in await store.commands.open()
            if row.kind == "backfill" and row.arguments.get("view") == view
        ]
        for command in found:
            await outcome(store, await store.commands.cancel(command))
    if not found:
        say(f"view {view} has no backfill under way")
    for command in found:
        say(f"backfill {command} of view {view} is cancelled")
