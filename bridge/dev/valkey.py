"""A Valkey (or Redis) server of one's own.

The one thing to know: nothing is saved to disk unless an option says so, so a restart
comes back empty; `options=("--appendonly", "yes")` keeps the keys.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.dev.local import LocalServer
from bridge.dev.packages import valkey_binary
from bridge.dev.place import Place, Port
from bridge.dev.process import Process

DATABASES = 1024  # so that each test has one of its own


@dataclass(slots=True)
class ValkeyServer(LocalServer):
    """One Valkey on a port of its own, without a password.

    `options` are words of its command line and come last, so they win. `replica_of`
    makes it a replica of another. `directory` is where it keeps files (default: a new
    one, removed by `close`). All calls block: in a coroutine use `asyncio.to_thread`.
    """

    place: Place
    options: Sequence[str] = ()
    directory: Path | None = None
    wanted_port: int | None = None
    detached: bool = False
    replica_of: ValkeyServer | None = None
    port: int = field(init=False)
    _binary: Path = field(init=False)
    _held: list[Port] = field(init=False)
    _home: Path = field(init=False)
    _process: Process | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._binary = valkey_binary(self.place)
        self._home = self._settle("valkey")
        self._held = [self.place.port(self.wanted_port)]
        self.port = self._held[0].number

    @property
    def url(self) -> str:
        """The address of its database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The address of one of its databases, 0 to `DATABASES` - 1."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> ValkeyServer:
        """Run it and wait until it answers."""
        if self.running:
            return self
        primary = self.replica_of
        follow = ("--replicaof", "127.0.0.1", str(primary.port)) if primary else ()
        self._run(
            self._binary,
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", self._home, "--save", ""),
            *("--databases", str(DATABASES), "--protected-mode", "no"),
            *("--repl-diskless-sync-delay", "0"),
            *follow,
            *self.options,
        )
        return self

    def stop(self) -> None:
        """Stop it in order: what its options say is saved, is saved."""
        self._end()

    def restart(self) -> None:
        """`stop`, then `start`, on the same port and files."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it, remove its files, give its port back."""
        self.kill()
        self._remove()

    def _answers(self) -> bool:
        return answers(self.port)


def answers(port: int) -> bool:
    """Whether a server on loopback `port` has loaded its data and answers PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
