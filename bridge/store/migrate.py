"""Installs the schema `bridge`, by numbered files that are never edited.

The one thing to know: every migration is one transaction, all run under one lock, and
a database that a newer or an edited version has touched is left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from bridge.errors import Halt
from bridge.store.locks import LOCK_CLASS, MIGRATION
from bridge.store.queries import QUERIES
from bridge.store.session import connect, wrapped

_FILE = re.compile(r"(\d{4})_([a-z]+(?:_[a-z]+)+)\.sql")
_LOCK = {"lock_class": LOCK_CLASS, "lock_object": MIGRATION}
_INSTALLED = "share/pgbridge/migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    """As in the file's name, without number and suffix: `create_state`."""
    text: LiteralString

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return sha256(self.text.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04d}_{self.name}"


def directory() -> Path:
    """Where the migrations are: beside a checkout's `bridge`, or where the installer
    put the distribution's shared files. Halt when they are nowhere."""
    candidates = [Path(__file__).resolve().parents[2] / "migrations"]
    with suppress(PackageNotFoundError):
        candidates.extend(
            Path(str(file.locate())).resolve().parent
            for file in distribution("pgbridge").files or ()
            if file.as_posix().endswith(f"{_INSTALLED}/schema.sql")
        )
    candidates.append(Path(sys.prefix) / _INSTALLED)
    for candidate in candidates:
        # Users have a `migrations` of their own: ours is known by its sum.
        if (candidate / "schema.sql").is_file() and (
            candidate / "0001_create_state.sql"
        ).is_file():
            return candidate
    raise Halt(
        "the migrations that belong to pgbridge are not installed",
        hint="install the package pgbridge again",
    )


def read(folder: Path | None = None) -> list[Migration]:
    """The migrations of a folder in order. AssertionError: a gap or a wrong name."""
    found = []
    for path in sorted((folder or directory()).glob("[0-9]*.sql")):
        match = _FILE.fullmatch(path.name)
        assert match, f"{path.name} is not NNNN_verb_object.sql"
        text = path.read_text("utf-8")
        found.append(Migration(int(match[1]), match[2], text))
    numbers = [migration.number for migration in found]
    assert numbers == list(range(1, len(found) + 1)), numbers
    return found


async def pending(
    dsn: str, migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """What `migrate` would apply; changes nothing. Errors as there."""
    async with await connect(dsn, application_name="pgbridge migrate") as connection:
        try:
            return await _pending(connection, migrations or read())
        except psycopg.Error as error:
            raise wrapped(error) from error


async def migrate(
    dsn: str, migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """Apply what is missing and give what was applied; none when all was there.

    Needs `create` on the database the first time, nothing but the schema afterwards.
    Halt when the role may not, when a schema `bridge` of somebody else's is in the
    way, or when the database was migrated by a newer version or with other files.
    Transient when the source is away, or somebody else migrates for over 10 s.
    """
    wanted = migrations or read()
    async with await connect(dsn, application_name="pgbridge migrate") as connection:
        try:
            # Of the session: released with the connection, whatever happens.
            await connection.execute(QUERIES["lock"], _LOCK)
            missing = await _pending(connection, wanted)
            # All or none: what is half there, no version of pgbridge can read.
            async with connection.transaction():
                for migration in missing:
                    await _apply(connection, migration)
            return missing
        except psycopg.Error as error:
            raise wrapped(error) from error


@asynccontextmanager
async def rehearsed(
    dsn: str, missing: Sequence[Migration]
) -> AsyncIterator[AsyncConnection[DictRow]]:
    """A connection that sees the tables of an earlier version as they will be once what
    is missing is applied. Nothing of it stays. Errors as of `migrate`."""
    async with await connect(dsn, application_name="pgbridge migrate") as connection:
        try:
            async with connection.transaction(force_rollback=True):
                for migration in missing:
                    await _apply(connection, migration)
                yield connection
        except psycopg.Error as error:
            raise wrapped(error) from error


async def _apply(connection: AsyncConnection[DictRow], migration: Migration) -> None:
    # From a file of the distribution; without parameters it may hold many statements.
    await connection.execute(migration.text)
    await connection.execute(
        QUERIES["record_migration"],
        {
            "number": migration.number,
            "name": migration.name,
            "digest": migration.digest,
        },
    )


async def _pending(
    connection: AsyncConnection[DictRow], wanted: Sequence[Migration]
) -> list[Migration]:
    applied = await _applied(connection)
    known = {migration.number: migration for migration in wanted}
    for number, (name, digest) in sorted(applied.items()):
        if number not in known:
            raise Halt(
                f"the schema bridge was migrated by a newer version of pgbridge"
                f" ({number:04d}_{name})",
                hint="install that version; schemas are not migrated back",
            )
        if known[number].digest != digest:
            raise Halt(
                f"migration {number:04d}_{name} is not the one that was applied",
                hint="install a released version of pgbridge: migrations are never"
                " edited",
            )
    return [migration for migration in wanted if migration.number not in applied]


async def _applied(
    connection: AsyncConnection[DictRow],
) -> dict[int, tuple[str, str]]:
    cursor = await connection.execute(QUERIES["look_at_schema"])
    found = await cursor.fetchone()
    assert found is not None
    if not found["ours"]:
        if found["used"]:
            raise Halt(
                "the database has a schema bridge that is not pgbridge's",
                hint="rename it: `alter schema bridge rename to ...`",
            )
        return {}
    cursor = await connection.execute(QUERIES["list_migrations"])
    return {
        row["number"]: (row["name"], row["digest"]) for row in await cursor.fetchall()
    }


async def remove(dsn: str) -> bool:
    """Drop the schema `bridge` with everything in it; False when there is none.

    Halt when it is not pgbridge's, or belongs to another role.
    """
    async with await connect(dsn, application_name="pgbridge migrate") as connection:
        try:
            await connection.execute(QUERIES["lock"], _LOCK)
            there = bool(await _applied(connection))
            if there:
                await connection.execute(QUERIES["drop_schema"])
            return there
        except psycopg.Error as error:
            raise wrapped(error) from error
