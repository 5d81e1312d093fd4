"""`pgbridge demo`: the whole thing on local servers, with live traffic.

The one thing to know: it needs nothing but this package, and leaves nothing behind.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.cli.options import ConfigFile


def demo(
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="How long the shop stays open.")
    ] = 30,
    _config: ConfigFile = None,
) -> None:
    """Watch documents and cached keys change as rows change, for half a minute.

    It runs on servers and a configuration of its own, and ends by comparing
    everything with SQL.
    """
    from bridge.dev import demo as show

    raise typer.Exit(show.run(seconds))
