"""`pgbridge promote`, `rollback`, `pause` and `resume`.

The one thing to know: the daemon carries them out, in order with the data.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.cli.options import (
    ConfigFile,
    SinkName,
    ViewName,
    known_sink,
    known_view,
    load,
)
from bridge.cli.output import say

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="SINK[/NAME]",
        help="Only this sink or target; default all of the view.",
        show_default=False,
    ),
]


def promote(
    view: ViewName,
    config: ConfigFile = None,
    target: TargetOption = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="In spite of dead letters the live one has not."),
    ] = False,
) -> None:
    """Let readers see the generation being built, once it is complete; atomically."""
    from bridge.cli.issue import carry_out

    loaded = load(config)
    known_view(loaded, view)
    message = carry_out(
        loaded,
        lambda store: store.commands.promote(view, target=target, force=force),
    )
    say(message or f"view {view} is promoted")


def rollback(
    view: ViewName, config: ConfigFile = None, target: TargetOption = None
) -> None:
    """Let readers see the previous generation again; atomically."""
    from bridge.cli.issue import carry_out

    loaded = load(config)
    known_view(loaded, view)
    message = carry_out(
        loaded, lambda store: store.commands.roll_back(view, target=target)
    )
    say(message or f"view {view} is rolled back")


def pause(sink: SinkName, config: ConfigFile = None) -> None:
    """Stop writing to one sink; the others are unaffected. Survives restarts."""
    from bridge.cli.issue import carry_out

    loaded = load(config)
    known_sink(loaded, sink)
    message = carry_out(loaded, lambda store: store.commands.pause(sink), later=True)
    if message is None:
        say(f"sink {sink} will be paused from the daemon's start on")
    else:
        say(message or f"sink {sink} is paused")


def resume(sink: SinkName, config: ConfigFile = None) -> None:
    """Go on writing to a sink that was paused, or that was halted."""
    from bridge.cli.issue import carry_out

    loaded = load(config)
    known_sink(loaded, sink)
    message = carry_out(loaded, lambda store: store.commands.resume(sink), later=True)
    if message is None:
        say(f"sink {sink} goes on when the daemon does")
    else:
        say(message or f"sink {sink} goes on")
