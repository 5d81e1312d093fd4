"""What is installed in the source, and with whose rights: the schema, the publication.

The one thing to know: the daemon's own role comes first; `source.admin_dsn` is used
where that may not, and only by whoever was allowed to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from psycopg.sql import SQL, Identifier

from bridge.capture.publication import change_publication
from bridge.control.check import one
from bridge.control.check_tables import create_statement
from bridge.control.session import session, sql, wrapped
from bridge.control.survey import Survey, published, shown
from bridge.errors import BridgeError, Halt
from bridge.store import migrate

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Permission:
    """What the one who applies has asked for, beside the configuration."""

    admin: bool = False
    """Use `source.admin_dsn` where the role may not."""
    prune: bool = False
    """Drop what is no longer in the file."""
    rebuild_lost: bool = False
    """Begin a new history when the slot is gone, or cannot be read on."""
    take_over: bool = False
    """Go on with a database in the place of the one that the sinks have followed."""
    partial: bool = False
    """Leave out the views whose tables cannot be published and the sinks that are
    away or refuse, and do the rest: a daemon's other targets go on."""


async def install_schema(looked: Survey, permission: Permission, tell: Tell) -> None:
    """The schema `bridge`, as the role of the daemon; `admin_dsn` makes it for it."""
    config = looked.config.source
    try:
        done = await migrate.migrate(config.dsn)
    except Halt:
        if not (permission.admin and config.admin_dsn):
            raise
        async with session(
            config.admin_dsn, read_only=False, key="source.admin_dsn"
        ) as admin:
            role = looked.session.info.user
            with wrapped():
                await admin.execute(
                    SQL("create schema if not exists bridge authorization {}").format(
                        Identifier(role)
                    )
                )
        done = await migrate.migrate(config.dsn)
    if done:
        tell(f"schema bridge is at version {done[-1].number}")


async def install_notices(looked: Survey, permission: Permission, tell: Tell) -> None:
    """Event triggers that tell in the log where something was altered, if the role may
    install them, or whoever `admin_dsn` names. Without them the daemon looks each
    second, which is all that is needed.
    """
    config = looked.config.source
    found = await one(looked.session, "notices")
    if found["there"]:
        return
    if found["may"]:
        await _install(config.dsn, "source.dsn", tell)
    elif permission.admin and config.admin_dsn:
        await _install(config.admin_dsn, "source.admin_dsn", tell)


async def _install(dsn: str, key: str, tell: Tell) -> None:
    async with session(dsn, read_only=False, key=key) as connection:
        if not (await one(connection, "notices"))["may"]:
            return
        try:
            with wrapped():
                async with connection.transaction():
                    await connection.execute(sql("install_notices").encode())
        except Halt as refusal:
            tell(f"no event triggers tell of altered tables: {refusal.message}")
        else:
            tell("event triggers tell in the log where tables are altered")


async def publish_tables(
    looked: Survey, permission: Permission, left_out: dict[str, BridgeError], tell: Tell
) -> None:
    """Make the publication hold what views read.

    With `permission.partial`, views whose tables could not be added are put into
    `left_out`.
    """
    changes, config = looked.publication_changes, looked.config.source
    if not changes:
        return
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(session(config.dsn, read_only=False))
        try:
            await change_publication(own, changes)
        except Halt as refusal:
            if not (permission.admin and config.admin_dsn):
                halt = _may_not_publish(looked, refusal.message)
                if not permission.partial or looked.publication is None:
                    raise halt from refusal
                left_out.update(dict.fromkeys(_unread(looked), halt))
                return
            admin = await stack.enter_async_context(
                session(config.admin_dsn, read_only=False, key="source.admin_dsn")
            )
            await change_publication(admin, changes)
    tell(
        f"publication {config.publication} holds "
        f"{', '.join(sorted(looked.wanted.tables)) or 'no table'}"
    )


def _unread(looked: Survey) -> list[str]:
    """The views some of whose tables are not published, or only in part."""
    assert looked.publication is not None
    if not (looked.publication.all_kinds and looked.publication.via_root):
        return list(looked.planned.plans)
    have = {
        each.table
        for each in looked.publication.tables
        if not each.filtered and each.columns is None
    }
    return [
        name
        for name, plan in looked.planned.plans.items()
        if not published({name: plan}) <= have
    ]


def unpublished(looked: Survey) -> dict[str, BridgeError]:
    """The views that wait for their tables to be published, and what does that."""
    halt = _may_not_publish(looked, "the publication lacks tables of the view")
    return dict.fromkeys(_unread(looked) if looked.publication else [], halt)


def _may_not_publish(looked: Survey, message: str) -> Halt:
    config = looked.config.source
    tables = sorted(map(shown, published(looked.planned.plans)))
    if config.admin_dsn is not None:
        hint = "`pgbridge apply` does it with source.admin_dsn"
    elif looked.publication is None:
        hint = f"as the owner: {create_statement(config.publication, tables)}"
    else:
        hint = "as the owner: " + "; ".join(map(str, looked.publication_changes)) + ";"
    if config.admin_dsn is None:
        hint += "  -- or set source.admin_dsn and use `pgbridge apply`"
    return Halt(message, hint=hint)
