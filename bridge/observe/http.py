"""What the daemon tells over HTTP: /live, /ready, /status, /metrics; read-only.

The one thing to know: it runs in the daemon's own loop, so that an answer of `/live`
means that the loop turns. An address that is taken is tried again every second, since
a standby on the same machine must live beside the daemon it waits for.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.config import HttpAddress
from bridge.errors import Halt
from bridge.observe.logs import logger
from bridge.observe.metrics import Metrics

_RETRY_S = 1.0
_BACKLOG = 64
_log = logger("bridge.observe")


class Readiness(NamedTuple):
    """Whether all is level, and if not, what is not, in one sentence."""

    ready: bool
    reason: str = ""


Status = Callable[[], Mapping[str, Any]]
Ready = Callable[[], Readiness]


def application(status: Status, ready: Ready, metrics: Metrics) -> Starlette:
    """The four pages. `status` and `ready` are asked at each request, in the loop."""

    async def live(_request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def readiness(_request: Request) -> Response:
        answer = ready()
        if answer.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {answer.reason}\n", status_code=503)

    async def status_document(_request: Request) -> Response:
        body = orjson.dumps(
            status(), default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        )
        return Response(body + b"\n", media_type="application/json")

    async def metrics_text(_request: Request) -> Response:
        metrics.take_status(status())
        return Response(
            metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return Starlette(
        routes=[
            Route("/live", live),
            Route("/ready", readiness),
            Route("/status", status_document),
            Route("/metrics", metrics_text),
        ]
    )


@asynccontextmanager
async def serving(
    address: HttpAddress | None, *, status: Status, ready: Ready, metrics: Metrics
) -> AsyncIterator[Callable[[], HttpAddress | None]]:
    """Answer on `address` while the block runs; with None nothing is listened on.

    Gives a callable that tells the address bound (its real port), None until then.
    Halt when the address can never be bound: not of this machine, not permitted.
    """
    if address is None:
        yield lambda: None
        return
    listener = _bind(address)
    bound: list[HttpAddress] = []
    app = application(status, ready, metrics)
    task = asyncio.create_task(_serve(address, listener, app, bound), name="http")
    try:
        yield lambda: bound[0] if bound else None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _serve(
    address: HttpAddress,
    listener: socket.socket | None,
    app: Starlette,
    bound: list[HttpAddress],
) -> None:
    if listener is None:
        _log.warning(
            "the HTTP address is taken; trying again every second",
            address=str(address),
            hint="a daemon this one waits for may hold it; else set [daemon] http",
        )
    while listener is None:
        await asyncio.sleep(_RETRY_S)
        listener = _bind(address)
    with listener:
        bound.append(HttpAddress(address.host, listener.getsockname()[1]))
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                limit_concurrency=64,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=16 * 1024,
            )
        )
        try:
            await server.serve(sockets=[listener])
        except asyncio.CancelledError:
            await server.shutdown(sockets=[listener])
            raise
        finally:
            bound.clear()


class _Server(uvicorn.Server):
    """A server that leaves the signals to the daemon."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(address: HttpAddress) -> socket.socket | None:
    """A listening socket; None when the address is taken for the moment."""
    try:
        family, *_, sockaddr = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        raise Halt(
            f"cannot listen on {address}: {address.host} is no address "
            f"({error.strerror})",
            hint="set [daemon] http to an address of this machine",
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(sockaddr)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise Halt(
            f"cannot listen on {address}: {(error.strerror or 'refused').lower()}",
            hint="set [daemon] http to an address and port that this user may use",
        ) from error
    return listener
