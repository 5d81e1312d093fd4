"""`pgbridge drop`: leave the source as it was before.

The one thing to know: it asks; where nobody can answer, it needs `--yes`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import ConfigFile, load
from bridge.cli.output import note, say

if TYPE_CHECKING:
    from bridge.config import Config


def drop(
    config: ConfigFile = None,
    targets: Annotated[
        bool, typer.Option("--targets", help="Also drop what was built in the sinks.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove slot, publication and schema from the source."""
    import asyncio

    from bridge.errors import Refusal

    loaded = load(config)
    source = loaded.source
    what = f"slot {source.slot}, publication {source.publication}, schema bridge"
    if targets:
        what += ", and every index and key that was built"
    if not yes:
        if not sys.stdin.isatty():
            raise Refusal(
                "drop asks before it removes anything, and nobody can answer here",
                hint="add --yes",
            )
        note(f"this removes {what}")
        if not typer.confirm("go on?", err=True):
            raise typer.Exit(1)
    asyncio.run(_drop(loaded, targets=targets))


async def _drop(config: Config, *, targets: bool) -> None:
    from bridge.control.check import owner
    from bridge.control.lease import no_daemon
    from bridge.control.planning import open_sinks
    from bridge.control.remove import (
        drop_source,
        drop_targets,
        may_drop_publication,
        refuse_running,
    )
    from bridge.control.session import session
    from bridge.control.survey import remember

    remembered = await remember(config)
    refuse_running(remembered)
    async with (
        no_daemon(config.source.dsn),
        session(config.source.dsn, read_only=False) as connection,
    ):
        await may_drop_publication(connection, config.source)
        if targets:
            async with open_sinks(config) as sinks:
                whose = await owner(connection, config)
                await drop_targets(remembered, sinks, whose, say)
        removed = await drop_source(connection, config.source, say)
    if not removed and not remembered.targets:
        say("nothing of pgbridge is there")
