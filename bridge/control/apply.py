"""Carrying out the steps: schema, publication, slot, empty generations, and pruning.

The one thing to know: every part can be done again after a crash at any point. The
order is what makes it safe: the epoch is recorded before a slot of it exists, and a
new slot is not read from before its barrier is known. That of a table that was newly
published is the daemon's to take (`SchemaWatch`), whoever published it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

from bridge import probes
from bridge.capture.slot import Blocker, create_slot, drop_slot, take_barrier
from bridge.control import fitness
from bridge.control.cutoff import record_cut_off
from bridge.control.former import built_from
from bridge.control.history import History, sinks_ahead
from bridge.control.installing import (
    Permission,
    Tell,
    install_notices,
    install_schema,
    publish_tables,
)
from bridge.control.planning import sink_target, view_definition
from bridge.control.reconcile import Action, PartKind, Step, WantedTarget, gives_up
from bridge.control.remove import drop_generation, former_target, prune
from bridge.control.session import session
from bridge.control.survey import MISSED, Survey
from bridge.errors import BridgeError, Halt, Transient
from bridge.sink import Generation, Sink, Target
from bridge.store import Store
from bridge.store.rows import (
    BackfillKind,
    GenerationKey,
    GenerationRow,
    GenerationState,
    SourceRow,
)

UNKNOWN_BARRIER = 2**63 - 1
"""Recorded while a slot is being made: no snapshot reaches it, so that nothing is read
before the real one is known."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What holds now. `source` has the barrier before which nothing may be read;
    `left_out` are views that wait for a right, `away` sinks that could not be claimed,
    and why."""

    source: SourceRow
    left_out: Mapping[str, BridgeError]
    away: Mapping[str, BridgeError] = field(default_factory=dict)
    altered: Mapping[GenerationKey, Target] = field(default_factory=dict)
    """Generations that are to be altered in place, and what they are for by now."""


async def apply(looked: Survey, permission: Permission, tell: Tell) -> Applied:
    """Carry out `looked.steps`, telling each thing that was done in a sentence.

    Nobody else may be applying: the caller holds the lease, or knows that no daemon
    runs. Halt, with the command that goes on, where a right is missing or something
    is in the way; what was done until then stays and is found done the next time.
    """
    if looked.lacking and not permission.partial:
        raise next(iter(looked.lacking.values()))
    looked = replace(looked, history=await _history(looked, permission))
    if looked.remembered.generations:
        looked.history.require(
            rebuild=permission.rebuild_lost, take_over=permission.take_over
        )
    await fitness.require(looked, admin=permission.admin, partial=permission.partial)
    await install_schema(looked, permission, tell)
    await install_notices(looked, permission, tell)
    async with await Store.open(looked.config.source.dsn) as store:
        left_out: dict[str, BridgeError] = dict(looked.lacking)
        await publish_tables(looked, permission, left_out, tell)
        source = await begin_history(looked, store, tell)
        away = await _claim(looked, source.epoch, permission)
        looked = await _settle(looked, store, away)
        altered = await _targets(looked, store, left_out, away, permission, tell)
        if permission.prune:
            await prune(looked, store, tell)
    return Applied(source, left_out, away, altered)


async def prune_first(looked: Survey, permission: Permission, tell: Tell) -> None:
    """Drop what is no longer in the file, and where a daemon runs what it feeds no
    more, before anything is looked at: it may stand where something new is to be."""
    if looked.actual.schema_version != looked.wanted.schema_version:
        return  # brought up first, and pruned after
    if looked.remembered.generations:
        history = await _history(looked, permission)
        history.require(rebuild=permission.rebuild_lost, take_over=permission.take_over)
    daemon = looked.remembered.daemon
    runs = daemon is not None and daemon.alive
    async with await Store.open(looked.config.source.dsn) as store:
        await prune(looked, store, tell, stopped=runs)


async def _claim(
    looked: Survey, epoch: int, permission: Permission
) -> dict[str, BridgeError]:
    """Say to every sink whose it is; those that could not be told, and why."""
    away: dict[str, BridgeError] = {}
    for name, sink in looked.sinks.items():
        try:
            await sink.claim(looked.owner, epoch)
        except (Transient, Halt) as error:
            if not permission.partial:
                raise
            away[name] = error
    return away


async def _settle(looked: Survey, store: Store, away: Collection[str]) -> Survey:
    """Record switches of readers that a crash has cut off: what they see is not to be
    dropped as something that is still being built."""
    for identity, row in looked.remembered.targets.items():
        sink = looked.sinks.get(row.sink)
        if sink is not None and row.sink not in away:
            known = list(looked.remembered.of(*identity).values())
            target = former_target(row.view, GenerationKey(*identity, 0))
            with suppress(Transient, Halt):  # tried again before anything is written
                await record_cut_off(store, sink, target, known)
    rows = {row.key: row for row in await store.generations.all()}
    return replace(looked, remembered=replace(looked.remembered, generations=rows))


async def _history(looked: Survey, permission: Permission) -> History:
    """What the source tells of it, and the sinks: one may follow a later epoch."""
    known = looked.remembered.source
    if known is None or looked.history.is_new:
        return looked.history
    for name, sink in looked.sinks.items():
        try:
            highest = await sink.highest_epoch(looked.owner)
        except (Transient, Halt):
            if not permission.partial:
                raise
            continue  # it is claimed before anything is written to it
        if highest > known.epoch:
            return sinks_ahead(known, highest, name)
    return looked.history


async def begin_history(looked: Survey, store: Store, tell: Tell) -> SourceRow:
    """The slot, and the epoch that it is read in; made, or as they are."""
    known = await store.read_source()
    config, history = looked.config.source, looked.history
    if known is not None and not history.is_new and looked.slot is not None:
        if known.barrier == UNKNOWN_BARRIER:  # a crash while the slot was made
            async with session(config.dsn, read_only=False) as connection:
                barrier = await take_barrier(connection)
            known = replace(known, barrier=barrier)
            await store.save_source(known)
        return known
    await _forget_history(looked, store)
    kept = known is not None and history.in_place
    epochs = [known.epoch if known else 0]
    epochs += [await sink.highest_epoch(looked.owner) for sink in looked.sinks.values()]
    source = SourceRow(
        system_identifier=looked.system_identifier,
        timeline=looked.timeline,
        database=looked.owner.database,
        slot=config.slot,
        epoch=max(epochs) + 1,
        barrier=UNKNOWN_BARRIER,
        owner=_known_as(known),
    )
    await store.save_source(source)
    async with AsyncExitStack() as stack:
        connection, watch = [
            await stack.enter_async_context(session(config.dsn, read_only=False))
            for _ in range(2)
        ]
        if kept:
            barrier = await take_barrier(connection)
        else:
            if looked.slot is not None:
                await drop_slot(connection, config.slot)
            made = await create_slot(
                connection, watch, config.slot, failover=True, waiting=_teller(tell)
            )
            barrier = made.barrier_xid
    source = replace(source, barrier=barrier)
    await store.save_source(source)
    if kept:
        tell(
            f"{history.changed}; slot {config.slot} is read on in epoch "
            f"{source.epoch}, and every document is derived again"
        )
    else:
        tell(f"slot {config.slot} holds the log from now on, in epoch {source.epoch}")
    return source


def _known_as(known: SourceRow | None) -> str | None:
    """By which cluster's identifier the sinks go on to know the bridge."""
    return None if known is None else known.owner or known.system_identifier


async def _forget_history(looked: Survey, store: Store) -> None:
    """What was built is not what this history says: noted before it begins, since a
    crash may come before everything is begun again.

    Where the slot is read on, what is complete needs only be derived again in place.
    """
    generations = store.generations
    for row in looked.remembered.generations.values():
        if row.state is GenerationState.DROPPED:
            continue
        if looked.history.in_place and row.state is not GenerationState.BUILDING:
            await generations.set_sweep(row.key, sweep=True)
        else:
            await generations.set_view_fingerprint(row.key, MISSED)


def _teller(tell: Tell) -> Callable[[Sequence[Blocker]], None]:
    told: set[int] = set()

    def waiting(blockers: Sequence[Blocker]) -> None:
        for blocker in blockers:
            if blocker.pid not in told:
                told.add(blocker.pid)
                tell(f"the new slot waits for {blocker}")

    return waiting


async def _targets(
    looked: Survey,
    store: Store,
    left_out: Collection[str],
    away: Collection[str],
    permission: Permission,
    tell: Tell,
) -> dict[GenerationKey, Target]:
    """Views and targets as they are wanted, and an empty generation where one is
    missing; what is no longer in the file is fed no more. Gives those to be altered."""
    config, altered = looked.config, dict[GenerationKey, Target]()
    for name, sink in config.sinks.items():
        await store.save_sink(name, sink.type)
    for name, plan in looked.planned.plans.items():
        if name not in left_out:
            await store.generations.save_view(
                name, view_definition(config.views[name]), plan.fingerprint
            )
    steps = {step.name: step for step in looked.steps if step.kind is PartKind.TARGET}
    for target in looked.wanted.targets:
        if target.view in left_out:
            continue
        options = next(
            found.options
            for found in config.targets()
            if (found.sink, found.name) == (target.sink, target.name)
        )
        await store.generations.save_target(
            target.sink,
            target.name,
            view=target.view,
            definition=dict(options),
            fingerprint=target.sink_fingerprint,
        )
        altered |= await _arrange(
            looked,
            store,
            target,
            steps[str(target)],
            permission,
            tell,
            reachable=target.sink not in away,
        )
    for step in steps.values():
        if step.action is Action.DROP:
            sink_name, _, name = step.name.partition("/")
            for row in looked.remembered.of(sink_name, name).values():
                # Should it be wanted again, it is to be known what it missed.
                await store.generations.set_view_fingerprint(row.key, MISSED)
            await store.generations.unwant_target(sink_name, name)
            tell(f"target {step.name} is fed no more; `apply --prune` drops it")
    return altered


async def _arrange(
    looked: Survey,
    store: Store,
    wanted: WantedTarget,
    step: Step,
    permission: Permission,
    tell: Tell,
    *,
    reachable: bool,
) -> dict[GenerationKey, Target]:
    """What one target's step says. Gives what is to be altered."""
    identity = (wanted.sink, wanted.name)
    found = looked.actual.targets.get(identity)
    begins = step.action in (Action.CREATE, Action.REBUILD)
    if step.action is Action.UPDATE and found is not None and gives_up(wanted, found):
        row = looked.remembered.of(*identity).get(GenerationState.BUILDING)
        if row is not None:
            target = _target(looked, wanted.view, *identity)
            await _drop_building(
                looked, store, row, target, permission, reachable=reachable
            )
            tell(f"target {wanted}: {step.why}")
            return {}
        begins = True  # readers see it, though a crash came before that was recorded
    if begins:
        await _begin(
            looked, store, wanted.view, step, permission, tell, reachable=reachable
        )
    elif step.action is Action.UPDATE:
        return await _alter(looked, store, wanted, tell)
    elif reachable:
        await _prepare_again(looked, store, wanted.view, identity, permission)
    return {}


async def _drop_building(
    looked: Survey,
    store: Store,
    row: GenerationRow,
    target: Target,
    permission: Permission,
    *,
    reachable: bool,
) -> None:
    """What was begun for another definition than the file has now."""
    if permission.partial or not reachable:
        await store.generations.drop(row.key)  # a daemon removes what is dropped
    else:
        await drop_generation(store, looked.sinks[target.sink], row, target)


async def _alter(
    looked: Survey, store: Store, wanted: WantedTarget, tell: Tell
) -> dict[GenerationKey, Target]:
    """Note that the live generation is for something else from now on; a daemon
    alters it, and writes every document again where that is needed."""
    identity = (wanted.sink, wanted.name)
    row = looked.remembered.of(*identity)[GenerationState.LIVE]
    target = _target(looked, wanted.view, *identity)
    plan = looked.planned.plans[wanted.view]
    if wanted.rewrites:
        kind = BackfillKind.SWEEP
        sweep = await store.backfills.create(row.key, view=wanted.view, kind=kind)
        await store.backfills.restart(sweep)  # one that was under way is not enough
    await probes.reach("generation.altering")
    await store.generations.alter(
        row.key,
        fingerprint=wanted.sink_fingerprint,
        definition=built_from(plan, looked.config.views[wanted.view], target.options),
    )
    tell(f"target {wanted}: {wanted.what}: that is to be done in place")
    return {row.key: target}


async def _begin(
    looked: Survey,
    store: Store,
    view: str,
    step: Step,
    permission: Permission,
    tell: Tell,
    *,
    reachable: bool,
) -> None:
    """A new generation, empty; one that was building something else is dropped.

    In a sink that is not `reachable` its place is made later, before it is filled.
    """
    sink_name, _, name = step.name.partition("/")
    plan = looked.planned.plans[view]
    sink = looked.sinks[sink_name]
    target = _target(looked, view, sink_name, name)
    wanted = sink.fingerprint(target), plan.fingerprint
    for row in looked.remembered.of(sink_name, name).values():
        if row.state is not GenerationState.BUILDING:
            continue
        same = (row.fingerprint, row.view_fingerprint) == wanted
        if same and not looked.history.is_new:
            continue
        await _drop_building(
            looked, store, row, target, permission, reachable=reachable
        )
    key = await store.generations.create(
        sink_name,
        name,
        fingerprint=wanted[0],
        view_fingerprint=wanted[1],
        definition=built_from(plan, looked.config.views[view], target.options),
    )
    if not reachable:
        return
    if not await _prepared(sink, Generation(target, key.number), looked, permission):
        return
    await probes.reach("generation.prepared")
    await store.generations.set_prepared(key)
    tell(f"target {step.name}: g{key.number} is there, empty")


async def _prepare_again(
    looked: Survey,
    store: Store,
    view: str,
    identity: tuple[str, str],
    permission: Permission,
) -> None:
    """A generation begun and never prepared, since a crash came between."""
    for row in looked.remembered.of(*identity).values():
        if row.prepared_at is None and row.state is GenerationState.BUILDING:
            target = _target(looked, view, *identity)
            sink = looked.sinks[identity[0]]
            generation = Generation(target, row.key.number)
            if await _prepared(sink, generation, looked, permission):
                await store.generations.set_prepared(row.key)


async def _prepared(
    sink: Sink, generation: Generation, looked: Survey, permission: Permission
) -> bool:
    """Make the place of a generation. False where it cannot be made now and the rest
    goes on: whoever fills it tries again, and halts that target alone."""
    try:
        await sink.prepare(generation, looked.owner)
    except (Transient, Halt):
        if not permission.partial:
            raise
        return False
    return True


def _target(looked: Survey, view: str, sink: str, name: str) -> Target:
    found = next(
        target
        for target in looked.config.targets()
        if (target.sink, target.name) == (sink, name)
    )
    return sink_target(found, looked.planned.plans[view])
