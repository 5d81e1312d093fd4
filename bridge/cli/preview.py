"""`pgbridge preview`: documents of a view as they would be, from the source alone.

The one thing to know: these are the bytes that a sink would be given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import ConfigFile, ViewName, known_view, load
from bridge.cli.output import note
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.config import Config

_LIMIT = 10


def preview(
    view: ViewName,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="K", help="Further keys after --key.", hidden=True),
    ] = None,
    config: ConfigFile = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", "-k", metavar="KEY", help="As in `_id`; may be repeated."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many, without --key.")
    ] = _LIMIT,
    _as_json: Annotated[
        bool, typer.Option("--json", help="Changes nothing: documents are JSON.")
    ] = False,
) -> None:
    """Print documents of a view, one a line; needs no daemon and no sink."""
    import asyncio

    loaded = load(config)
    known_view(loaded, view)
    if more and not key:
        raise typer.BadParameter(f"{more[0]!r}: give keys after --key")
    asyncio.run(_preview(loaded, view, [*(key or []), *(more or [])], limit))


async def _preview(config: Config, view: str, texts: Sequence[str], limit: int) -> None:
    from dataclasses import replace

    from bridge.control.explain import documents_of, keys_of
    from bridge.control.planning import plan
    from bridge.control.session import session
    from bridge.source import QueryFailed
    from bridge.source.postgres import PostgresSource, connect, identify

    dsn = config.source.dsn
    only = replace(config, views={view: config.views[view]})
    async with session(dsn) as connection:
        planned = (await plan(connection, only)).plans[view]
    looking = await connect(dsn)
    async with looking:
        identity = await identify(looking)
    source = PostgresSource(dsn, config.source.search_path, identity, readers=1)
    try:
        async with source.read(scanning=not texts) as reader:
            if texts:
                keys = await keys_of(reader, planned, texts)
                rows, failures = await documents_of(reader, planned, keys)
                found = {row.parts for row in rows}
                _write([row.document for row in rows])
                failed = {failure.parts: failure.reason for failure in failures}
                for text, parts in keys.items():
                    if parts in failed:
                        note(f"view {view} has no document {text}: {failed[parts]}")
                    elif parts not in found:
                        note(f"view {view} has no document {text}")
                if failures:
                    raise typer.Exit(1)
                return
            left = limit
            async for page in reader.scan(planned, None, None):
                _write([row.document for row in page[:left]])
                left -= len(page)
                if left <= 0:
                    break
    except QueryFailed as error:
        raise BridgeError(
            f"view {view}: {error}",
            hint="--key KEY finds out for which rows; such keys are dead letters",
        ) from error
    finally:
        await source.close()


def _write(documents: Sequence[bytes]) -> None:
    sys.stdout.flush()
    for document in documents:
        sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()
