"""A Postgres server of one's own.

The one thing to know: `postgres` runs in the foreground below its keeper, without
pg_ctl, so that it ends when the process that started it does. `fsync` is off unless
asked for; killing the process (not the machine) loses nothing that way.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bridge.dev.local import LocalServer
from bridge.dev.packages import postgres_binaries
from bridge.dev.place import Place, Port
from bridge.dev.process import Process
from bridge.errors import Halt

BUILTIN_LOCALE_SINCE = 17

Mode = Literal["smart", "fast", "immediate"]
SIGNALS: dict[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "fsync": "off",
    "full_page_writes": "off",
    "log_line_prefix": "%m [%p] %d ",
}


@dataclass(slots=True)
class PostgresServer(LocalServer):
    """One Postgres on a port of its own, superuser `postgres`, no password.

    `version` is the major version, `settings` are written over `SETTINGS`, `directory`
    is where the data lies (default: a new one, removed by `close`); a directory that
    holds a cluster is used as it is. Make one, then `start`, in the end `close`.
    All calls block: in a coroutine use `await asyncio.to_thread(server.restart)`.
    """

    place: Place
    version: int = 18
    settings: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    wanted_port: int | None = None
    detached: bool = False
    standby_of: PostgresServer | None = None
    copy_of: Path | None = None
    """A data directory that nobody uses, to begin with: a fifth of what a new cluster
    costs, and one with it to whoever asks for the system identifier."""
    bin: Path = field(init=False)
    port: int = field(init=False)
    _held: list[Port] = field(init=False)
    _home: Path = field(init=False)
    _process: Process | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.bin = postgres_binaries(self.place, self.version)
        self._home = self._settle(f"postgres{self.version}")
        self._held = [self.place.port(self.wanted_port)]
        self.port = self._held[0].number

    @property
    def dsn(self) -> str:
        """The address of its database `postgres`."""
        return self.dsn_of("postgres")

    @property
    def pgdata(self) -> Path:
        """The data directory."""
        return self._home / "data"

    def dsn_of(self, database: str) -> str:
        """The address of `database`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def start(self) -> PostgresServer:
        """Run it, with a new cluster if there is none, and wait until it answers."""
        if self.running:
            return self
        if not (self.pgdata / "PG_VERSION").exists():
            if self.standby_of:
                self._copy(self.standby_of)
            elif self.copy_of:
                self.place.run("cp", "-a", self.copy_of, self.pgdata, cwd=self._home)
            else:
                self.initialise()
        self._configure()
        postgres = self.bin / "postgres"
        self._run(postgres, "-D", self.pgdata, stop_signal=signal.SIGQUIT)
        return self

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it as `pg_ctl stop -m MODE` does; `immediate` is a crash."""
        self._end(SIGNALS[mode])

    def restart(self, mode: Mode = "fast") -> None:
        """`stop(mode)`, then `start`, on the same port and data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop it at once, remove its data, give its port back."""
        self.stop("immediate")
        _forget_shared_memory(self.pgdata / "postmaster.pid")
        self._remove()

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:  # type: ignore[type-arg]
        """Run one statement in a transaction of its own, as superuser; its rows."""
        with psycopg.connect(self.dsn_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def alter_system(self, **settings: str | None) -> None:
        """`alter system set` each of them (None: reset), and reload."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for name, value in settings.items():
                statement = (
                    sql.SQL("alter system reset {}").format(sql.Identifier(name))
                    if value is None
                    else sql.SQL("alter system set {} = {}").format(
                        sql.Identifier(name), sql.Literal(value)
                    )
                )
                connection.execute(statement)
            connection.execute("select pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby a primary of its own, on a new timeline."""
        self.execute("select pg_promote(true, 60)")

    def initialise(self) -> None:
        """Make a new cluster, which `start` does too where there is none."""
        locale = ["--locale=C"]
        if self.version >= BUILTIN_LOCALE_SINCE:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self.place.run(
            self.bin / "initdb",
            *("-D", self.pgdata, "-U", "postgres", "-A", "trust", "-E", "UTF8"),
            *("--no-sync", "--no-instructions", *locale),
            cwd=self._home,
        )

    def _copy(self, primary: PostgresServer) -> None:
        self.place.run(
            self.bin / "pg_basebackup",
            *("-D", self.pgdata, "-d", primary.dsn, "-R", "-X", "stream"),
            *("--no-sync", "--checkpoint=fast"),
            cwd=self._home,
        )

    def _configure(self) -> None:
        """Write our settings after initdb's, each time: the port may have changed."""
        wanted = {**SETTINGS, **self.settings, "port": str(self.port)}
        lines = [
            "{} = '{}'\n".format(name, value.replace("'", "''"))
            for name, value in wanted.items()
        ]
        ours = self.pgdata / "pgbridge.conf"
        ours.write_text("".join(lines))
        ours.chmod(0o644)
        main = self.pgdata / "postgresql.conf"
        include = "include 'pgbridge.conf'\n"
        if include not in main.read_text():
            with main.open("a") as conf:
                conf.write(include)

    def _answers(self) -> bool:
        return answers(self.dsn)


def answers(dsn: str) -> bool:
    """Whether a Postgres takes connections at `dsn`."""
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def database_of(dsn: str, database: str) -> str:
    """The same server, user and options as `dsn`, but another database."""
    if dsn.startswith(("postgresql://", "postgres://")):
        return urlunsplit(urlsplit(dsn)._replace(path=f"/{quote(database, safe='')}"))
    return make_conninfo(dsn, dbname=database)


def create_database(dsn: str, name: str) -> str:
    """Create database `name`, empty and in UTF-8, on the server of `dsn`; its dsn.

    Copied as files, which costs half as much where nothing is written through.
    """
    statement = sql.SQL(
        "create database {} encoding 'UTF8' template template0 strategy file_copy"
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name)))
    return database_of(dsn, name)


def drop_database(dsn: str, name: str) -> None:
    """Drop database `name` with its slots and whoever is connected to it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(active_pid, 10000)"
            "  from pg_replication_slots"
            " where database = %s and active_pid is not null",
            (name,),
        )
        connection.execute(
            "select pg_drop_replication_slot(slot_name)"
            "  from pg_replication_slots where database = %s",
            (name,),
        )
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(
                sql.Identifier(name)
            )
        )


def _forget_shared_memory(postmaster_pid: Path) -> None:
    """Remove the System V segment of a killed postmaster, which the kernel keeps."""
    try:
        lines = postmaster_pid.read_text().splitlines()
        segment = int(lines[6].split()[1])
    except (OSError, IndexError, ValueError):
        return
    if os.path.exists(f"/proc/{lines[0]}"):
        raise Halt("the server still runs", hint="stop it before its data goes")
    ipc_rmid = 0
    ctypes.CDLL(None).shmctl(segment, ipc_rmid, None)
