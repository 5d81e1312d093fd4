"""`pgbridge run`: the daemon in the foreground.

The one thing to know: logs go to stderr, as JSON lines where that is no terminal; the
exit code says why it ended.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.cli.options import ConfigFile, load

_COLLECT_AFTER = 50_000
"""Objects made and not yet freed before cycles are looked for. At the usual 700 a
third of the daemon's time goes into walking operations that wait, which are in none."""


def run(
    config: ConfigFile = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Build, promote, and stop when everything committed before the start "
            "is in every target.",
        ),
    ] = False,
) -> None:
    """Build what is missing, then keep every target current until SIGTERM."""
    import asyncio
    import gc

    from bridge import daemon
    from bridge.cli import failures
    from bridge.errors import Exit, Halt, QueryRefusal
    from bridge.observe import logs

    loaded = load(config)
    logs.configure(loaded.secrets(), debug=failures.tracebacks_shown())
    gc.freeze()  # modules and the configuration stay for good
    gc.set_threshold(_COLLECT_AFTER)
    try:
        outcome = asyncio.run(daemon.run(loaded, once=once))
    except (Halt, QueryRefusal) as error:
        if isinstance(error, QueryRefusal) and not error.denied:
            raise
        failures.tell(error)
        raise typer.Exit(Exit.HALTED) from None
    raise typer.Exit(int(outcome))
