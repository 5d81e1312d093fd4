"""What is wanted and what is, side by side, and the steps between them.

The one thing to know: it changes nothing. `plan` prints its steps; `apply` begins with
the very same survey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bridge.capture.publication import (
    PublicationState,
    QualifiedName,
    Statement,
    describe_publication,
    statements,
)
from bridge.capture.slot import SlotState, describe_slot
from bridge.config import Config
from bridge.control import check_tables
from bridge.control.check import one, owner, placed, rows
from bridge.control.former import Former, plan_former
from bridge.control.history import History, compare
from bridge.control.planning import (
    Planned,
    build,
    estimate,
    open_sinks,
    plan,
    sink_target,
    view_definition,
)
from bridge.control.quoting import quoted
from bridge.control.reconcile import (
    Action,
    Actual,
    ActualPublication,
    ActualSlot,
    ActualTarget,
    RolledBack,
    Step,
    Wanted,
    WantedTarget,
    reconcile,
)
from bridge.control.session import Session, session
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, Halt, Refusal, Transient
from bridge.position import parse_lsn
from bridge.sink import Alteration, Finding, Level, Owner, Sink, Target
from bridge.store import Store, migrate
from bridge.store.rows import (
    DaemonRow,
    GenerationKey,
    GenerationRow,
    GenerationState,
    SourceRow,
    TargetRow,
    ViewRow,
)

MISSED = ""
"""The view fingerprint of a generation that missed changes: no plan has it."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store knows; all of it empty where there is no schema yet."""

    schema_version: int | None = None
    source: SourceRow | None = None
    daemon: DaemonRow | None = None
    views: Mapping[str, ViewRow] = field(default_factory=dict)
    targets: Mapping[tuple[str, str], TargetRow] = field(default_factory=dict)
    generations: Mapping[GenerationKey, GenerationRow] = field(default_factory=dict)

    def of(self, sink: str, name: str) -> dict[GenerationState, GenerationRow]:
        """The generations of one target by state, without the dropped."""
        return {
            row.state: row
            for key, row in self.generations.items()
            if key[:2] == (sink, name) and row.state is not GenerationState.DROPPED
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """One look at everything. `steps` are what there is to do."""

    config: Config
    session: Session
    planned: Planned
    sinks: Mapping[str, Sink]
    owner: Owner
    timeline: int
    lsn: int
    """Where the log ended before the views were planned."""
    remembered: Remembered
    publication: PublicationState | None
    publication_changes: tuple[Statement, ...]
    slot: SlotState | None
    wanted: Wanted
    actual: Actual
    steps: tuple[Step, ...]
    system_identifier: str
    history: History
    lacking: Mapping[str, BridgeError] = field(default_factory=dict)
    """Views that cannot be kept as their tables are: a right or a replica identity
    is missing, and which statement mends it."""
    former: Former = field(default_factory=Former)


@asynccontextmanager
async def survey(
    config: Config,
    *,
    sinks: Mapping[str, Sink] | None = None,
    count: bool = False,
    partial: bool = False,
) -> AsyncIterator[Survey]:
    """Look at source, store and sinks; the connection stays open for the block.

    `sinks` are those already open, else they are opened and closed here. `count` asks
    Postgres about how many documents each target will have. With `partial`, a view that
    was applied as it is and cannot be kept any more is no error, but stands in
    `planned.refused`. Refusal, Transient, Halt.
    """
    async with AsyncExitStack() as stack:
        if sinks is None:
            sinks = await stack.enter_async_context(open_sinks(config))
        connection = await stack.enter_async_context(session(config.source.dsn))
        remembered = await remember(config)
        end = await one(connection, "log_end")
        applied = _applied(config, remembered) if partial else ()
        planned = await plan(connection, config, applied=applied)
        former = await plan_former(
            connection, config, planned.plans, remembered.generations.values()
        )
        former = former.without(await _lacking(connection, former.plans))
        whose = await owner(connection, config)
        here = await one(connection, "identity")
        timeline = await one(connection, "timeline")
        if timeline["in_recovery"]:
            raise Transient(
                "the source is a standby: it can show a past that the stream has left",
                hint="let source.dsn name the primary",
            )
        publication = await describe_publication(connection, config.source.publication)
        slot = await describe_slot(connection, config.source.slot)
        if slot is not None and not (slot.ours and slot.lost):
            slot.require_usable()
        lacking = await _lacking(connection, planned.plans)
        tables = _publishable(planned.plans, lacking, publication)
        tables |= published(former.plans)
        changes = tuple(statements(config.source.publication, tables, publication))
        before = _before(remembered, former)
        wanted = await _wanted(
            config, connection, planned, sinks, tables, before, count=count
        )
        history = compare(
            remembered.source,
            slot,
            system_identifier=here["system_identifier"],
            timeline=timeline["timeline"],
            end_lsn=parse_lsn((await one(connection, "log_end"))["lsn"]),
        )
        actual = _actual(remembered, publication, slot, history)
        yield Survey(
            config=config,
            session=connection,
            planned=planned,
            sinks=sinks,
            owner=whose,
            timeline=timeline["timeline"],
            lsn=parse_lsn(end["lsn"]),
            remembered=remembered,
            publication=publication,
            publication_changes=changes,
            slot=slot,
            system_identifier=here["system_identifier"],
            history=history,
            wanted=wanted,
            actual=actual,
            steps=tuple(reconcile(wanted, actual)),
            lacking=lacking,
            former=former,
        )


async def examine(looked: Survey) -> None:
    """Ask each sink whether what is wanted of it could be made.

    Refusal when what the file asks for cannot be made at all, Halt with the first
    error found else; Transient when a sink is away.
    """
    for target in looked.config.targets():
        asked = sink_target(target, looked.planned.plans[target.view])
        with placed(looked.config, target):
            found = await looked.sinks[target.sink].examine(asked, looked.owner)
        _require(f"target {target}", found)
    begun = {
        step.name
        for step in looked.steps
        if step.action in (Action.CREATE, Action.REBUILD)
    }
    for name, sink in looked.sinks.items():
        builds = [
            await build(looked.session, target, looked.planned.plans[target.view])
            for target in looked.config.targets()
            if target.sink == name and str(target) in begun
        ]
        _require(f"sink {name}", await sink.room(builds))


def _require(what: str, found: Sequence[Finding]) -> None:
    for finding in found:
        if finding.level is Level.ERROR:
            raise Halt(f"{what}: {finding.what}", hint=finding.fix)


async def remember(config: Config) -> Remembered:
    """What the store holds. Halt when the schema is another's or of a newer version."""
    dsn = config.source.dsn
    every = migrate.read()
    missing = await migrate.pending(dsn, every)
    version = len(every) - len(missing)
    if not version:
        return Remembered()
    async with _tables(dsn, missing) as store:
        return Remembered(
            schema_version=version,
            source=await store.read_source(),
            daemon=await store.read_daemon(),
            views={row.name: row for row in await store.generations.views()},
            targets={
                (row.sink, row.name): row for row in await store.generations.targets()
            },
            generations={row.key: row for row in await store.generations.all()},
        )


@asynccontextmanager
async def _tables(
    dsn: str, missing: Sequence[migrate.Migration]
) -> AsyncIterator[Store]:
    """The store; where an earlier version has left it, as it will be."""
    if not missing:
        async with await Store.open(dsn) as store:
            yield store
        return
    async with migrate.rehearsed(dsn, missing) as connection:
        yield Store.over(connection)


def _applied(config: Config, remembered: Remembered) -> set[str]:
    """Views of the file that were applied just as they stand there."""
    return {
        name
        for name, view in config.views.items()
        if name in remembered.views
        and remembered.views[name].definition == view_definition(view)
    }


def published(plans: Mapping[str, ViewPlan]) -> set[QualifiedName]:
    """The tables that the publication has to hold."""
    return {
        QualifiedName(use.table.schema, use.table.name)
        for plan in plans.values()
        for use in plan.tables
    }


async def _lacking(
    connection: Session, plans: Mapping[str, ViewPlan]
) -> dict[str, BridgeError]:
    """Which views cannot be kept as their tables are, and what mends them."""
    oids = {use.table.oid for view in plans.values() for use in view.tables}
    found = await rows(connection, "used_tables", oids=list(oids))
    role = connection.info.user
    read = {row["oid"] for row in found if check_tables.is_read(row)}
    lacking: dict[str, BridgeError] = {}
    for name, view in plans.items():
        if findings := check_tables.lacking(found, view, role):
            # The source refuses, or the view asks for what cannot be.
            may = all(use.table.oid in read for use in view.tables)
            kind = Refusal if may else Halt
            fixes = " ".join(finding.fix for finding in findings)
            lacking[name] = kind(f"view {name}: {findings[0].what}", hint=fixes)
    return lacking


def _publishable(
    plans: Mapping[str, ViewPlan],
    lacking: Mapping[str, BridgeError],
    publication: PublicationState | None,
) -> set[QualifiedName]:
    """The tables to publish: not those of a view that cannot be kept, since once they
    are published Postgres might refuse the application's updates; what is published
    already stays."""
    ready = {name: plans[name] for name in plans if name not in lacking}
    waiting = {name: plans[name] for name in plans if name in lacking}
    have = {each.table for each in publication.tables} if publication else set()
    return published(ready) | (published(waiting) & have)


async def _wanted(
    config: Config,
    connection: Session,
    planned: Planned,
    sinks: Mapping[str, Sink],
    tables: set[QualifiedName],
    before: Mapping[tuple[str, str], Target],
    *,
    count: bool,
) -> Wanted:
    targets = []
    for target in config.targets():
        if target.view in planned.refused:
            continue
        view = planned.plans[target.view]
        sink = sinks[target.sink]
        asked = sink_target(target, view)
        was = before.get((target.sink, target.name))
        with placed(config, target):
            fingerprint = sink.fingerprint(asked)
            side_by_side = sink.side_by_side(asked, was)
            altered = _alteration(sink, was, asked)
        targets.append(
            WantedTarget(
                view=target.view,
                sink=target.sink,
                name=target.name,
                view_fingerprint=view.fingerprint,
                sink_fingerprint=fingerprint,
                side_by_side=side_by_side,
                documents=await _documents(connection, view) if count else None,
                what=altered.what if altered else "",
                in_place=altered.in_place if altered else False,
                rewrites=altered.rewrites if altered else False,
            )
        )
    return Wanted(
        schema_version=len(migrate.read()),
        publication=config.source.publication,
        tables=frozenset(map(shown, tables)),
        slot=config.source.slot,
        targets=tuple(targets),
        waiting=frozenset(
            (target.sink, target.name)
            for target in config.targets()
            if target.view in planned.refused
        ),
    )


def _before(remembered: Remembered, former: Former) -> dict[tuple[str, str], Target]:
    """What the newest generation of each target was made for."""
    found = {}
    for identity in remembered.targets:
        rows = remembered.of(*identity)
        newest = rows.get(GenerationState.BUILDING) or rows.get(GenerationState.LIVE)
        if newest is not None and newest.key in former.targets:
            found[identity] = former.targets[newest.key]
    return found


def _alteration(sink: Sink, before: Target | None, after: Target) -> Alteration | None:
    if before is None:
        return None
    try:
        return sink.alteration(before, after)
    except Refusal:
        return None  # an earlier release took what this one does not


async def _documents(connection: Session, plan: ViewPlan) -> int | None:
    documents, _ = await estimate(connection, plan)
    return documents or None  # 0: nobody has counted yet


def _actual(
    remembered: Remembered,
    publication: PublicationState | None,
    slot: SlotState | None,
    history: History,
) -> Actual:
    found = None
    if slot is not None:
        lost = slot.lost or not history.keeps_slot
        found = ActualSlot(lost, history.changed or slot.wal_status)
    return Actual(
        schema_version=remembered.schema_version,
        publication=None if publication is None else _publication(publication),
        slot=found,
        moved=history.changed if history.in_place else "",
        targets={
            identity: _target(row, remembered.of(*identity))
            for identity, row in remembered.targets.items()
        },
    )


def _publication(found: PublicationState) -> ActualPublication:
    return ActualPublication(
        tables=frozenset(shown(each.table) for each in found.tables),
        complete=found.via_root
        and found.all_kinds
        and not any(each.filtered or each.columns for each in found.tables),
        all_tables=found.all_tables or found.whole_schemas,
    )


def _target(
    row: TargetRow, generations: Mapping[GenerationState, GenerationRow]
) -> ActualTarget:
    live = generations.get(GenerationState.LIVE)
    building = generations.get(GenerationState.BUILDING)
    previous = generations.get(GenerationState.PREVIOUS)
    newest = building or live
    rolled_back = None
    if live and previous and previous.key.number > live.key.number:
        rolled_back = RolledBack(
            previous.key.number, previous.view_fingerprint, previous.fingerprint
        )
    return ActualTarget(
        view=row.view,
        sink=row.sink,
        name=row.name,
        view_fingerprint=newest.view_fingerprint if newest else "",
        sink_fingerprint=newest.fingerprint if newest else "",
        live=live.key.number if live else None,
        building=building.key.number if building else None,
        stopped=not row.wanted,
        rolled_back=rolled_back,
        lives=(live.view_fingerprint, live.fingerprint) if live else ("", ""),
    )


def shown(table: QualifiedName) -> str:
    """A table as a statement to be read names it."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"
