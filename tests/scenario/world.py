"""A bridge over servers of the test's choice: its file, its daemon, what it shows.

The one thing to know: a view is its TOML (`table = "t"` or `query = "…"`), and gets a
target in each sink of the bridge unless the test says otherwise. On the shared Postgres
the daemon's role has what it needs and no more; the test itself is a superuser.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import psycopg
import redis
from psycopg.conninfo import make_conninfo

from tests.fixtures.waiting import DEADLINE_S, eventually
from tests.scenario.harness import Daemon, exact, unused_port

SINKS = ("search", "cache")
ROLE = "pgbridge_daemon"
GRANTS = (Path(__file__).parent / "least_role.sql").read_bytes()


class Found(NamedTuple):
    """A document in Elasticsearch, and the version that it has there."""

    source: dict[str, Any]
    version: int


@dataclass
class Bridge:
    """One configured bridge; `configure` writes its file, `daemon` runs it."""

    directory: Path
    dsn: str
    es: str
    redis: str
    prefix: str
    daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        http = f"127.0.0.1:{unused_port()}"
        self.daemon = Daemon(self.directory / "pgbridge.toml", http)
        self.slot = f"s_{self.prefix.strip('-')}"

    def configure(
        self,
        views: Mapping[str, str],
        *,
        sinks: Collection[str] = SINKS,
        options: Mapping[str, str] | None = None,
        only: Mapping[str, Collection[str]] | None = None,
        source: str = "",
        daemon: str = "",
        more: str = "",
        via: str | None = None,
    ) -> None:
        """Write the file. `options` are lines of TOML by SINK or VIEW/SINK, `only` the
        sinks of a view that is not in all; `source` and `daemon` are lines of those
        tables, `more` comes after the sinks. `via`: where the daemon has its source."""
        options = options or {}
        # Some configure while no standby answers that commits wait for.
        local = make_conninfo(self.dsn, options="-c synchronous_commit=local")
        with psycopg.connect(local, autocommit=True) as own:
            own.execute(GRANTS)
        dsn = make_conninfo(via or self.dsn, user=ROLE)
        parts = [
            f'[source]\ndsn = "{dsn}"\nslot = "{self.slot}"',
            f'publication = "{self.slot}"\n{source}\n',
            f'[daemon]\nhttp = "{self.daemon.http}"\n{daemon}\n',
        ]
        kinds = {
            "search": f'type = "elasticsearch"\nurl = "{self.es}"',
            "cache": f'type = "redis"\nurl = "{self.redis}"',
            "nowhere": 'type = "null"',
        }
        parts += [
            f"[sinks.{sink}]\n{kinds[sink]}\n{options.get(sink, '')}\n"
            for sink in sinks
        ]
        parts.append(more)
        for view, definition in views.items():
            parts.append(f"[views.{view}]\n{definition}\n")
            for sink in (only or {}).get(view, sinks):
                line = options.get(f"{view}/{sink}", "")
                parts.append(
                    f'[[views.{view}.targets]]\nsink = "{sink}"\n'
                    f'name = "{self.prefix}{view}"\n{line}\n'
                )
        # In one step, as editors do it: a daemon may be watching.
        fresh = self.daemon.config.with_suffix(".new")
        fresh.write_text("\n".join(parts))
        fresh.replace(self.daemon.config)

    async def document(self, view: str, key: str) -> Found | None:
        """The document of the live index, as a reader by id finds it."""
        path = f"/{self.prefix}{view}/_doc/{quote(key, safe='')}"
        async with httpx.AsyncClient(base_url=self.es, trust_env=False) as client:
            answer = await client.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        found = answer.json()
        return Found(found["_source"], found["_version"])

    def value(self, view: str, key: str) -> Any:
        """The value of a key of the view's default template, parsed; None: no key."""
        with redis.Redis.from_url(self.redis) as client:
            found = client.get(f"{self.prefix}{view}:{key}")
        return None if found is None else json.loads(found)  # type: ignore[arg-type]

    def execute(self, *statements: str) -> None:
        """Each in a transaction of its own."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(self._owned(statement))

    def transaction(self, *statements: str) -> None:
        """All in one transaction."""
        with psycopg.connect(self.dsn) as connection:
            for statement in statements:
                connection.execute(self._owned(statement))

    def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row; None without a row."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]

    async def ready(self) -> None:
        """Wait until every target is live."""
        await self.daemon.ready()

    async def settled(self, *, empty: bool = False, former: bool = False) -> None:
        """Wait until every document equals SQL; a view may be `empty` if said so, and
        a target of a `former` definition."""

        async def equal() -> bool:
            self.daemon.must_run()
            await exact(self.daemon.config, empty=empty, former=former)
            return True

        await eventually(equal, every_s=0.2)

    async def ends_exact(self, *, former: bool = False) -> None:
        """Every document equals SQL, and the daemon stops in order."""
        await exact(self.daemon.config, former=former)
        assert await self.daemon.stop() == 0, self.daemon.log.read_text()[-4000:]

    @asynccontextmanager
    async def committing(self, *statements: str) -> AsyncIterator[None]:
        """These statements in a transaction that hangs in its commit.

        They are in the log and not visible, since a synchronous standby does not
        answer; at the end of the block they must have been released.
        """
        async with await psycopg.AsyncConnection.connect(self.dsn) as own:
            for statement in statements:
                await own.execute(statement.encode())
            commit = asyncio.create_task(own.commit())
            await eventually(lambda: self._waits(own.info.backend_pid))
            try:
                yield
                await asyncio.wait_for(asyncio.shield(commit), DEADLINE_S)
            finally:
                await own.cancel_safe()  # for a test that failed: it waits no more
                await commit

    def _waits(self, pid: int) -> bool:
        event = self.one("select wait_event from pg_stat_activity where pid = %s", pid)
        return bool(event == "SyncRep")

    def _owned(self, statement: str) -> bytes:
        """Whoever makes a table in a test does it for the owner of them all."""
        own = statement.encode()
        made = statement.lstrip().lower().startswith("create table")
        if not made:
            return own
        return own.rstrip(b"; \n") + b";\n" + GRANTS
