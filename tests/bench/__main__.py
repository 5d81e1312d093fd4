"""`make bench`: all parts, or those that are named: `python -m tests.bench build live`.

The one thing to know: read the ratio, not the rate. Where other work runs beside it,
read what each process spent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.bench import beside, ceilings, flat, joined
from tests.bench.stand import Stand, execute, servers

Part = Callable[[Stand], Awaitable[None]]
PARTS: dict[str, tuple[Part, ...]] = {
    "drain": tuple(
        partial(flat.drain, sink=sink) for sink in ("elasticsearch", "redis", "null")
    ),
    "build": (flat.build,),
    "latency": (flat.latency,),
    "beside": (beside.beside,),
    "joined": (joined.build,),
    "live": (joined.live,),
    "fanout": (joined.fan_out,),
}


async def _run(stand: Stand, parts: list[str]) -> None:
    await _warm(stand)
    for part in parts:
        for measure in PARTS[part]:
            await measure(stand)


async def _warm(stand: Stand) -> None:
    """Elasticsearch compiles while it takes its first documents, and again when they
    come otherwise than before: both sides are to find that done."""
    name, dsn = stand.database(flat.TABLE)
    execute(dsn, "call fill(50000)")
    rows = ceilings.documents(dsn, "orders")
    for _ in range(4):
        ceilings.bulk(stand.servers.elasticsearch.url, f"{name}-warm", rows)()
    with contextlib.redirect_stdout(io.StringIO()):
        await flat.drain(stand, "elasticsearch")
        await flat.build(stand)
        await flat.latency(stand)


def main() -> None:
    """Start the servers, measure, stop them."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench")
    arguments.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments.add_argument("--rows", type=int, default=200_000, help="default 200,000")
    given = arguments.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        arguments.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    with servers() as started, tempfile.TemporaryDirectory() as folder:
        stand = Stand(started, Path(folder), given.rows)
        asyncio.run(_run(stand, given.parts or list(PARTS)))


if __name__ == "__main__":
    main()
