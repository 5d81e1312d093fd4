"""Taking away what was built: of targets no longer wanted, or all of it.

The one thing to know: a generation is fed no more before its place in the sink goes,
and forgotten only after, so that a crash between leaves it to be dropped again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from psycopg.sql import SQL, Identifier

from bridge import probes
from bridge.capture.failures import SlotActive
from bridge.capture.slot import describe_slot, drop_slot
from bridge.config import SourceConfig
from bridge.control.quoting import quoted
from bridge.control.session import Session, session, wrapped
from bridge.control.survey import Remembered, Survey
from bridge.errors import BridgeError, Halt
from bridge.sink import Generation, Owner, Shape, Sink, Target
from bridge.store import Store, migrate
from bridge.store.rows import GenerationKey, GenerationRow, SourceRow, TargetRow

Tell = Callable[[str], None]


async def prune(
    looked: Survey, store: Store, tell: Tell, *, stopped: bool = False
) -> None:
    """Drop what was built for targets that are no longer in the file; with `stopped`
    only those that are fed no more already.

    One whose sink is gone from the file as well is forgotten, and the sink's own copy
    stays: nobody knows its address any more, unless it was renamed and the copy stands
    in the way of another one.
    """
    wanted = {(target.sink, target.name) for target in looked.wanted.targets}
    wanted |= looked.wanted.waiting
    for row in await store.generations.targets():
        identity = (row.sink, row.name)
        if identity in wanted or (stopped and row.wanted):
            continue
        source = await store.read_source()
        keeper = await _keeper(row, looked.sinks, looked.owner, source)
        for generation in await store.generations.all():
            if generation.key[:2] == identity:
                if isinstance(keeper, str):
                    tell(f"{generation.key} stays: {keeper}")
                    continue
                target = former_target(row.view, generation.key)
                await drop_generation(store, keeper, generation, target)
        await store.generations.remove_target(row.sink, row.name)
        tell(f"target {row} is dropped")
    for view in await store.generations.views():
        if view.name not in looked.config.views:
            await store.generations.remove_view(view.name)
    for known in await store.sinks():
        if known.name not in looked.config.sinks:
            await store.remove_sink(known.name)


async def _keeper(
    row: TargetRow, sinks: Mapping[str, Sink], owner: Owner, source: SourceRow | None
) -> Sink | str:
    """The sink to drop a target from, which knows from now on whose that is; or why
    nothing is to be dropped: it is another bridge's, or nobody knows where it is."""
    sink = await _builder(row, sinks, owner)
    if sink is None:
        return f"sink {row.sink} is no longer in the file"
    epoch = max(source.epoch if source else 0, await sink.highest_epoch(owner))
    try:
        await sink.claim(owner, epoch)
    except Halt as refusal:
        return refusal.message
    return sink


async def _builder(
    row: TargetRow, sinks: Mapping[str, Sink], owner: Owner
) -> Sink | None:
    """Where a target was built, as far as the file still tells: a sink that is not in
    it any more may have been renamed."""
    if (own := sinks.get(row.sink)) is not None:
        return own
    target = former_target(row.view, GenerationKey(row.sink, row.name, 0))
    for sink in sinks.values():
        if await sink.inherits(target, owner):
            return sink
    return None


async def drop_generation(
    store: Store, sink: Sink, row: GenerationRow, target: Target
) -> None:
    """Feed it no more, remove it from the sink, forget it."""
    await store.generations.drop(row.key)
    await sink.drop(Generation(target, row.key.number))
    await probes.reach("generation.dropped")
    await store.generations.forget(row.key)


def former_target(view: str, key: GenerationKey) -> Target:
    """A target that is no longer planned, as far as dropping it needs: its name.

    How it was built, the sink has written down beside it.
    """
    return Target(view=view, sink=key.sink, name=key.name, shape=Shape((), ()))


async def drop_targets(
    remembered: Remembered,
    sinks: Mapping[str, Sink],
    owner: Owner,
    tell: Tell,
) -> None:
    """Remove every generation from every sink that the file still names, and with the
    last one the record of whose the sink is.

    Halt while a daemon runs.
    """
    refuse_running(remembered)
    for identity, row in remembered.targets.items():
        keeper = await _keeper(row, sinks, owner, remembered.source)
        if isinstance(keeper, str):
            tell(f"target {row} stays: {keeper}")
            continue
        for key in remembered.generations:
            if key[:2] == identity:
                target = former_target(row.view, key)
                await keeper.drop(Generation(target, key.number))
                await probes.reach("generation.dropped")
        tell(f"target {row} is dropped")
    for sink in sinks.values():
        await sink.release(owner)


def refuse_running(remembered: Remembered) -> None:
    """Halt when a daemon holds the lease."""
    daemon = remembered.daemon
    if daemon is not None and daemon.alive:
        raise Halt(
            f"a daemon is running on {daemon.host} (pid {daemon.pid})",
            hint="stop it first, with SIGTERM",
        )


async def may_drop_publication(own: Session, config: SourceConfig) -> None:
    """Before anything is removed: Halt when the role may not drop the publication, and
    nobody else is named who may."""
    with wrapped():
        found = await own.execute(
            "select from pg_publication where pubname = %s"
            " and not pg_has_role(pubowner, 'usage')",
            [config.publication],
        )
        if config.admin_dsn is None and await found.fetchone() is not None:
            raise _not_ours(config, "it belongs to another role")


def _not_ours(config: SourceConfig, why: str) -> Halt:
    name = quoted(config.publication)
    return Halt(
        f"publication {config.publication} cannot be dropped: {why}",
        hint=f"as its owner: drop publication {name}; then drop again",
    )


async def drop_source(own: Session, config: SourceConfig, tell: Tell) -> bool:
    """Remove slot, publication and schema; False when none of them was there.

    Halt while the slot is read; Transient.
    """
    removed = []

    def gone(what: str) -> None:  # at once: a later part may be refused
        removed.append(what)
        tell(f"{what} is dropped")

    slot = await describe_slot(own, config.slot)
    try:
        if slot is not None and not slot.ours:  # names are the server's
            tell(f"slot {config.slot} stays: it is not pgbridge's")
        elif await drop_slot(own, config.slot):
            gone(f"slot {config.slot}")
    except SlotActive as error:
        raise Halt(
            f"slot {config.slot} is in use: a daemon is running",
            hint="stop it first, with SIGTERM",
        ) from error
    if await _drop_publication(own, config):
        gone(f"publication {config.publication}")
    if await migrate.remove(config.dsn):
        gone("schema bridge")
    return bool(removed)


async def _drop_publication(own: Session, config: SourceConfig) -> bool:
    statement = SQL("drop publication if exists {}").format(
        Identifier(config.publication)
    )
    with wrapped():
        found = await own.execute(
            "select 1 from pg_publication where pubname = %s", [config.publication]
        )
        if not await found.fetchone():
            return False
    try:
        with wrapped():
            await own.execute(statement)
    except BridgeError as refusal:
        if config.admin_dsn is None:
            raise _not_ours(config, refusal.message) from refusal
        async with session(
            config.admin_dsn, read_only=False, key="source.admin_dsn"
        ) as admin:
            with wrapped():
                await admin.execute(statement)
    return True
