"""What applications and operators may call, and what they may not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from bridge.errors import Refusal
from bridge.store import Store
from bridge.store.rows import GenerationKey
from tests.integration.store.conftest import add_target

DENIED = errors.InsufficientPrivilege


@pytest.fixture
def admin(database: str, store: Store) -> Iterator[psycopg.Connection]:
    """The daemon's own role."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def stranger(database: str, admin: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A role that was granted nothing."""
    role = f"stranger_{secrets.token_hex(4)}"
    admin.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    try:
        with psycopg.connect(
            make_conninfo(database, user=role), autocommit=True
        ) as connection:
            yield connection
    finally:
        admin.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def grant(admin: psycopg.Connection, function: str, to: psycopg.Connection) -> None:
    admin.execute(
        sql.SQL("grant execute on function bridge.{} to {}").format(
            sql.SQL(function),
            sql.Identifier(to.info.user),
        )
    )


# — rights —


@pytest.mark.parametrize(
    "statement",
    [
        "select bridge.backfill('product')",
        "select bridge.backfill_v1('product', null, null, null, false)",
        "select bridge.promote('product')",
        "select bridge.rollback('product')",
        "select bridge.pause('es')",
        "select bridge.resume('es')",
        "select bridge.cancel(1)",
        "select bridge.retry('product')",
        "select bridge.issue_v1('pause', '{}')",
        "select * from bridge.status()",
        "select * from bridge.status_v1()",
        "select bridge.wait_for_v2('0/1', 'product', '0')",
        "select bridge.acknowledged_v1()",
        "insert into bridge.command (kind, arguments) values ('pause', '{}')",
        "select * from bridge.command",
        "update bridge.source set epoch = 9",
        "create table bridge.mine ()",
    ],
)
async def test_a_role_without_grants_may_do_nothing_but_wait(
    stranger: psycopg.Connection, building: GenerationKey, statement: str
) -> None:
    with pytest.raises(DENIED):
        stranger.execute(statement)


async def test_waiting_needs_no_grant(
    stranger: psycopg.Connection, building: GenerationKey
) -> None:
    row = stranger.execute("select bridge.wait_for('0/1', 'product', '0')").fetchone()
    assert row == (False,)


async def test_a_granted_role_commands_under_its_own_name(
    stranger: psycopg.Connection,
    admin: psycopg.Connection,
    store: Store,
    building: GenerationKey,
) -> None:
    grant(admin, "backfill", stranger)
    row = stranger.execute("select bridge.backfill('product')").fetchone()
    assert row is not None
    command = await store.commands.read(row[0])
    assert command is not None
    assert command.issued_by == stranger.info.user
    with pytest.raises(DENIED):
        stranger.execute("select bridge.pause('es')")


async def test_a_condition_is_for_members_of_the_daemon_s_role_alone(
    stranger: psycopg.Connection,
    admin: psycopg.Connection,
    store: Store,
    building: GenerationKey,
) -> None:
    grant(admin, "backfill", stranger)
    with pytest.raises(DENIED, match="condition"):
        stranger.execute("select bridge.backfill('product', condition => 'id = 1')")
    assert await store.commands.open() == []
    number = await store.commands.backfill("product", condition="id = 1")
    command = await store.commands.read(number)
    assert command is not None
    assert command.arguments["condition"] == "id = 1"


async def test_the_caller_s_search_path_does_not_reach_the_functions(
    stranger: psycopg.Connection,
    admin: psycopg.Connection,
    building: GenerationKey,
) -> None:
    grant(admin, "backfill", stranger)
    admin.execute(
        sql.SQL("create schema trap authorization {}").format(
            sql.Identifier(stranger.info.user)
        )
    )
    for name, given in (("cardinality", "text[]"), ("to_jsonb", "text[]")):
        stranger.execute(
            f"create function trap.{name}({given}) returns int language plpgsql as"
            " $$ begin raise exception 'trapped'; end $$"
        )
    stranger.execute("set search_path = trap, pg_catalog")
    with pytest.raises(errors.RaiseException, match="trapped"):
        stranger.execute("select cardinality(array['1'])")
    stranger.execute("select bridge.backfill('product', keys => array['1'])")


# — commands —


async def test_a_command_addresses_the_generation_that_it_was_issued_for(
    store: Store, building: GenerationKey
) -> None:
    redis = await add_target(store, "redis", "product")
    await store.generations.promote(building)
    number = await store.commands.backfill("product", keys=["1", "ü:2"])
    command = await store.commands.read(number)
    assert command is not None
    assert command.arguments == {
        "view": "product",
        "keys": ["1", "ü:2"],
        "rebuild": False,
        "generations": [building._asdict(), redis._asdict()],
    }
    for target, found in (("redis", redis), ("es/products", building)):
        number = await store.commands.backfill("product", target=target)
        command = await store.commands.read(number)
        assert command is not None
        assert command.arguments["generations"] == [found._asdict()]


async def test_promote_and_rollback_name_what_is_there(
    store: Store, building: GenerationKey
) -> None:
    with pytest.raises(Refusal, match="no previous generation"):
        await store.commands.roll_back("product")
    number = await store.commands.promote("product", force=True)
    command = await store.commands.read(number)
    assert command is not None
    assert command.arguments == {
        "view": "product",
        "force": True,
        "generations": [building._asdict()],
    }
    await store.generations.promote(building)
    with pytest.raises(Refusal, match="no building generation"):
        await store.commands.promote("product")


async def test_wrong_commands_are_refused_with_what_there_is(
    store: Store, building: GenerationKey
) -> None:
    commands = store.commands
    with pytest.raises(Refusal, match="no view") as refused:
        await commands.backfill("nosuch")
    assert refused.value.hint == "The views are: product"
    with pytest.raises(Refusal, match="no target redis") as refused:
        await commands.backfill("product", target="redis")
    assert refused.value.hint == "Its targets are: es/products"
    with pytest.raises(Refusal, match="no sink") as refused:
        await commands.pause("nosuch")
    assert refused.value.hint == "The sinks are: es"
    with pytest.raises(Refusal, match="no backfill"):
        await commands.cancel(17)
    with pytest.raises(Refusal, match="no view"):
        await commands.retry("nosuch")
    for keys, condition, rebuild in (
        ([], None, False),
        (["1"], "true", False),
        (["1"], None, True),
        (["1"] * 100_001, None, False),
        (None, "x" * 70_000, False),
    ):
        with pytest.raises(Refusal):
            await commands.backfill(
                "product", keys=keys, condition=condition, rebuild=rebuild
            )
    assert await commands.open() == []


async def test_a_target_that_is_no_longer_wanted_is_not_addressed(
    store: Store, building: GenerationKey
) -> None:
    await store.generations.unwant_target("es", "products")
    with pytest.raises(Refusal, match="no target"):
        await store.commands.backfill("product")


async def test_a_cancelled_backfill_is_named_by_its_command(
    store: Store, building: GenerationKey
) -> None:
    backfill = await store.commands.backfill("product")
    number = await store.commands.cancel(backfill)
    command = await store.commands.read(number)
    assert command is not None
    assert command.arguments == {"id": backfill}


async def test_a_command_stands_in_the_log_with_its_transaction(
    database: str, store: Store, admin: psycopg.Connection, building: GenerationKey
) -> None:
    """Committed, its message is where the commit is; rolled back, it is nowhere."""
    admin.execute("create publication p")
    slot = f"s_{secrets.token_hex(6)}"
    admin.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    try:
        with psycopg.connect(database) as connection:
            connection.execute("select bridge.backfill('product')")
            connection.rollback()
            row = connection.execute("select bridge.backfill('product')").fetchone()
            connection.commit()
        assert row is not None
        messages = admin.execute(
            "select data from pg_logical_slot_peek_binary_changes("
            "%s, null, null, 'proto_version', '1', 'publication_names', 'p',"
            " 'messages', 'true')",
            [slot],
        ).fetchall()
    finally:
        admin.execute("select pg_drop_replication_slot(%s)", [slot])
    contents = [bytes(data) for (data,) in messages if bytes(data)[:1] == b"M"]
    assert len(contents) == 1
    assert contents[0].endswith(f"command:{row[0]}".encode())
    assert [command.id for command in await store.commands.open()] == [row[0]]


# — both versions —


async def test_the_functions_work_on_every_version(migrated: str) -> None:
    async with await Store.open(migrated) as store:
        await add_target(store)
        assert await store.commands.backfill("product") == 1
        assert await store.commands.pause("es") == 2
    with psycopg.connect(migrated, autocommit=True) as connection:
        rows = connection.execute("select view, state from bridge.status()").fetchall()
        assert rows == [("product", "building")]
        assert connection.execute(
            "select bridge.wait_for(pg_current_wal_flush_lsn(), 'product', '10 ms')"
        ).fetchone() == (False,)
