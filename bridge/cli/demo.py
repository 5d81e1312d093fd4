"""`pgbridge demo`: the whole thing on local servers, with live traffic.

The one thing to know: it needs nothing but this package, and leaves nothing behind.
"""

from __future__ import annotations

import typer


def demo() -> None:
    """Watch documents and cached keys change as rows change, for half a minute."""
    import asyncio
    import inspect

    from bridge.dev import demo as show

    outcome = show.run()
    if inspect.isawaitable(outcome):

        async def wait() -> int:
            return int(await outcome)

        outcome = asyncio.run(wait())
    raise typer.Exit(int(outcome or 0))
