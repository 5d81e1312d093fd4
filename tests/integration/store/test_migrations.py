"""The schema: installed once, in order, under a lock, equal to its sum."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from bridge.config import load
from bridge.control.survey import remember
from bridge.dev.postgres import create_database, drop_database
from bridge.errors import Halt
from bridge.store.migrate import (
    Migration,
    directory,
    migrate,
    pending,
    read,
    remove,
)

ROOT = Path(__file__).resolve().parents[3]
CATALOGS = {
    "relations": """
        select c.relname, c.relkind, c.relacl::text, c.reloptions
        from pg_class c where c.relnamespace = 'bridge'::regnamespace""",
    "columns": """
        select c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
            a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'bridge'::regnamespace and a.attnum > 0""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'bridge'::regnamespace""",
    "indexes": """
        select indexname, indexdef from pg_indexes where schemaname = 'bridge'""",
    "functions": """
        select pg_get_functiondef(p.oid), p.proacl::text, obj_description(p.oid)
        from pg_proc p where p.pronamespace = 'bridge'::regnamespace""",
    "schema": """
        select nspacl::text, obj_description(oid)
        from pg_namespace where nspname = 'bridge'""",
}


def catalog(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the schema, as Postgres says it."""
    with psycopg.connect(dsn) as connection:
        return {
            name: sorted(connection.execute(query).fetchall(), key=repr)
            for name, query in CATALOGS.items()
        }


async def test_the_migrations_add_up_to_schema_sql(any_database: str) -> None:
    applied = await migrate(any_database)
    assert [m.number for m in applied] == [m.number for m in read()]
    other = create_database(any_database, "t_schema_sum")
    try:
        with psycopg.connect(other) as connection:
            connection.execute((directory() / "schema.sql").read_text())
        summed, migrated = catalog(other), catalog(any_database)
    finally:
        drop_database(any_database, "t_schema_sum")
    assert all(migrated.values())
    assert summed == migrated


async def test_applying_again_changes_nothing(database: str) -> None:
    assert await pending(database) == read()
    await migrate(database)
    assert await pending(database) == []
    assert await migrate(database) == []


async def test_two_that_migrate_at_once_do_it_once(database: str) -> None:
    first, second = await asyncio.gather(migrate(database), migrate(database))
    assert sorted([len(first), len(second)]) == [0, len(read())]


async def test_a_failing_migration_leaves_nothing_half_done(database: str) -> None:
    broken = Migration(
        len(read()) + 1,
        "break_everything",
        "create table bridge.half (); select 1 / 0;",
    )
    with pytest.raises(Halt):
        await migrate(database, [*read(), broken])
    assert await pending(database) == read()


async def test_the_tables_of_every_earlier_version_can_be_read(
    database: str, tmp_path: Path
) -> None:
    """As they will be; they stay as they are until that version is installed."""
    file = tmp_path / "pgbridge.toml"
    file.write_text(f'[source]\ndsn = "{database}"\n')
    every = read()
    for version in range(1, len(every) + 1):
        await migrate(database, every[:version])
        found = await remember(load(file))
        assert found.schema_version == version
        assert await pending(database) == every[version:]


async def test_a_database_of_a_newer_version_is_left_alone(database: str) -> None:
    newer = Migration(len(read()) + 1, "add_future", "select 1;")
    await migrate(database, [*read(), newer])
    with pytest.raises(Halt, match="newer version") as halted:
        await migrate(database)
    assert halted.value.hint


async def test_an_edited_migration_is_found(database: str) -> None:
    first, *rest = read()
    await migrate(database, [replace(first, text=first.text + "\n-- edited\n"), *rest])
    with pytest.raises(Halt, match="0001_create_state"):
        await pending(database)


@pytest.mark.parametrize(
    "somebody_s",
    [
        "create table bridge.x ()",
        "create function bridge.f() returns int",
        "create table bridge.migration (version text)",
    ],
)
async def test_somebody_else_s_schema_is_left_alone(
    database: str, somebody_s: str
) -> None:
    body = " language sql as 'select 1'" if "function" in somebody_s else ""
    with psycopg.connect(database) as connection:
        connection.execute("create schema bridge")
        connection.execute(somebody_s + body)
    before = catalog(database)
    with pytest.raises(Halt, match="not pgbridge's"):
        await migrate(database)
    with pytest.raises(Halt, match="not pgbridge's"):
        await remove(database)
    assert catalog(database) == before


async def test_a_role_needs_create_on_the_database_and_no_more(
    any_database: str,
) -> None:
    role = f"daemon_of_{any_database.rpartition('/')[2]}"
    with psycopg.connect(any_database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"create role {role} login")
        dsn = psycopg.conninfo.make_conninfo(any_database, user=role)
        try:
            with pytest.raises(Halt) as halted:
                await migrate(dsn)
            assert "grant create on database" in halted.value.hint
            connection.execute(f'grant create on database "{name}" to {role}')
            assert await migrate(dsn) == read()
            assert await remove(dsn) is True
            assert await remove(dsn) is False
        finally:
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_files_are_named_for_what_they_do() -> None:
    assert {m.name.split("_")[0] for m in read()} <= {
        "add",
        "alter",
        "create",
        "drop",
        "grant",
        "replace",
    }


def test_an_installed_wheel_finds_its_migrations(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("pgbridge-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # Dependencies come from here; the wheel's own packages stand before them.
    (site / "dependencies.pth").write_text(f"{Path(psycopg.__file__).parents[1]}\n")
    program = (
        "import bridge.store.migrate as m;"
        "print(m.__file__); print(m.directory()); print(len(m.read()))"
    )
    module, folder, count = run(python, "-c", program, cwd=tmp_path).splitlines()
    assert Path(module).is_relative_to(site)
    assert Path(folder) == tmp_path / "venv/share/pgbridge/migrations"
    assert int(count) == len(read())


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
