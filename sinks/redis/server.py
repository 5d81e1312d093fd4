"""Connections to one server: for writing in order, and for all else.

The one thing to know: RESP2 is spoken, since the newer protocol adds messages that
come unasked; nothing is retried here, since the bridge does; and whoever is cancelled
while he sends is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge.sink import Halt, Transient
from sinks.redis import failures
from sinks.redis.options import Options

CONNECT_TIMEOUT_S = 5.0
CLIENT_NAME = "pgbridge"
CONNECTIONS_MAX = 16


class _Heeding(AbstractConnection):
    """A connection that no cancellation gets lost on.

    The client sends below `asyncio.wait_for`, which before Python 3.12 swallows a
    cancellation that comes as the sending ends: a task that asks in a loop goes on
    for ever then, and whoever waits for its end with it (python/cpython#86296).
    """

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002 - as the client's
    ) -> None:
        """Send; CancelledError when that was asked for meanwhile."""
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        await super().send_packed_command(command, check_health)
        if task and task.cancelling() > asked:
            await self.disconnect(nowait=True)
            raise asyncio.CancelledError


class _Tcp(_Heeding, Connection):
    pass


class _Tls(_Heeding, SSLConnection):
    pass


class _Unix(_Heeding, UnixDomainSocketConnection):
    pass


_CONNECTIONS: dict[str, type[AbstractConnection]] = {
    "redis": _Tcp,
    "rediss": _Tls,
    "unix": _Unix,
}


class Server:
    """How to reach it. Connects nowhere until asked."""

    def __init__(self, options: Options) -> None:
        keywords: dict[str, Any] = {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": options.request_timeout_s,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "client_name": CLIENT_NAME,
            "max_connections": CONNECTIONS_MAX,
            "timeout": options.request_timeout_s,  # to wait for a free connection
        }
        if not options.url.startswith("unix:"):
            keywords["socket_keepalive"] = True
        if options.username:
            keywords["username"] = options.username
        if options.password:
            keywords["password"] = options.password
        if options.url.startswith("rediss:"):
            keywords["ssl_cert_reqs"] = "required" if options.verify else "none"
            keywords["ssl_check_hostname"] = options.verify
            if options.ca_file:
                keywords["ssl_ca_certs"] = options.ca_file
        self._url = options.url
        self._pool: Any = BlockingConnectionPool.from_url(options.url, **keywords)
        self._pool.connection_class = _CONNECTIONS[options.url.partition(":")[0]]
        self.client: Any = Redis(connection_pool=self._pool)
        """For everything but writes."""

    def connection(self) -> AbstractConnection:
        """A new connection outside of the pool."""
        made: AbstractConnection = self._pool.make_connection()
        return made

    def sort(self, error: Exception) -> Transient | Halt:
        """An error of the client as the bridge knows it, naming this server."""
        return failures.sort(error, self._url)

    def sorting(self) -> AbstractContextManager[None]:
        """Wrap what the client raises inside."""
        return failures.sorting(self._url)

    async def renew(self) -> None:
        """Connect anew from here on: the address may lead to another server now."""
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Release every connection."""
        await self.client.aclose()
        await self._pool.disconnect()
