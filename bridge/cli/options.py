"""Options and arguments that several commands share.

The one thing to know: they are types (`Annotated`), so that a command's signature
reads as its usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from bridge.config import Config

ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration; default $PGBRIDGE_CONFIG, else pgbridge.toml.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
ViewName: TypeAlias = Annotated[
    str, typer.Argument(metavar="VIEW", help="A view of the file.", show_default=False)
]
SinkName: TypeAlias = Annotated[
    str, typer.Argument(metavar="SINK", help="A sink of the file.", show_default=False)
]


def load(config: Path | None) -> Config:
    """The configuration that a command was given. Refusal as `bridge.config.load`.

    Its secrets are kept out of everything that is printed from now on.
    """
    from bridge.cli import failures
    from bridge.config import load

    loaded = load(config)
    failures.hide(loaded.secrets())
    return loaded


def known_view(config: Config, view: str) -> str:
    """The view's name. Refusal, naming the nearest, when there is no such view."""
    from bridge.config.nearest import nearest
    from bridge.errors import Refusal

    if view in config.views:
        return view
    raise Refusal(
        f"there is no view {view!r} in {config.path}"
        + (f"; the nearest is {nearest(view, config.views)!r}" if config.views else ""),
        hint=f"views are {', '.join(config.views) or 'none'}",
    )


def known_sink(config: Config, sink: str) -> str:
    """The sink's name. Refusal, naming the nearest, when there is no such sink."""
    from bridge.config.nearest import nearest
    from bridge.errors import Refusal

    if sink in config.sinks:
        return sink
    raise Refusal(
        f"there is no sink {sink!r} in {config.path}"
        + (f"; the nearest is {nearest(sink, config.sinks)!r}" if config.sinks else ""),
        hint=f"sinks are {', '.join(config.sinks) or 'none'}",
    )


def duration(text: str, option: str) -> float:
    """The seconds of an option such as `90s`. BadParameter when it is none."""
    from bridge.config import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text!r} {error}") from None
