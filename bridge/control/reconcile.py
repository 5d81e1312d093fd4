"""What there is to do: from what is wanted and what is, a list of steps.

The one thing to know: this is pure, and the only place that decides it: `plan` prints
the steps, `apply` and the daemon carry out the very same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Action(StrEnum):
    """What happens to a part."""

    CREATE = "create"
    UPDATE = "update"
    REBUILD = "rebuild"
    KEEP = "keep"
    DROP = "drop"


class PartKind(StrEnum):
    """What a step is about."""

    SCHEMA = "schema"
    PUBLICATION = "publication"
    SLOT = "slot"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a plan. `name` of a target is `SINK/NAME`."""

    action: Action
    kind: PartKind
    name: str
    why: str

    left_over: bool = False
    """Nothing is done by it, and the file has no such target."""

    @property
    def does_something(self) -> bool:
        """Whether anything changes by it."""
        return self.action is not Action.KEEP


@dataclass(frozen=True, slots=True)
class WantedTarget:
    """A target of the file, planned."""

    view: str
    sink: str
    name: str
    view_fingerprint: str
    """Of the planned view: what documents depend on."""
    sink_fingerprint: str
    """Of the sink's storage for it: mappings, settings, key template."""
    side_by_side: bool = True
    """Whether a rebuild can stand beside what is live."""
    documents: int | None = None
    """About how many there will be, where somebody has asked."""
    what: str = ""
    """What of the storage of its newest generation is not as it is wanted."""
    in_place: bool = False
    """Whether that generation can be given it."""
    rewrites: bool = False
    """Whether every document is to be written again for it."""

    def __str__(self) -> str:
        return f"{self.sink}/{self.name}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The configuration, planned."""

    schema_version: int
    publication: str
    tables: frozenset[str]
    """Every table that a view reads, as `schema.name` with quotes where needed."""
    slot: str
    targets: tuple[WantedTarget, ...]
    waiting: frozenset[tuple[str, str]] = frozenset()
    """Sink and name of targets whose view cannot be kept for the moment."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A newer generation than the live one, kept and fed, that readers saw before."""

    number: int
    view_fingerprint: str
    sink_fingerprint: str


@dataclass(frozen=True, slots=True)
class ActualTarget:
    """A target as the store knows it."""

    view: str
    sink: str
    name: str
    view_fingerprint: str
    """Of its newest generation, live or building."""
    sink_fingerprint: str
    live: int | None
    building: int | None
    stopped: bool = False
    """No longer fed, since it is not in the file."""
    rolled_back: RolledBack | None = None
    """What the live one was rolled back from."""
    lives: tuple[str, str] = ("", "")
    """The fingerprints of the live one, of view and sink, where it is fed."""

    def __str__(self) -> str:
        return f"{self.sink}/{self.name}"


@dataclass(frozen=True, slots=True)
class ActualPublication:
    """A publication as it is; `complete` when it carries every kind of change and
    partitioned tables as their root."""

    tables: frozenset[str]
    complete: bool = True
    all_tables: bool = False


@dataclass(frozen=True, slots=True)
class ActualSlot:
    """A replication slot as it is."""

    lost: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Actual:
    """The source and the store, as they were found."""

    schema_version: int | None = None
    publication: ActualPublication | None = None
    slot: ActualSlot | None = None
    targets: Mapping[tuple[str, str], ActualTarget] = field(default_factory=dict)
    """By sink and name."""
    moved: str = ""
    """How the source has come to go on in another history, in which the slot is read
    on; empty: it has not."""


def reconcile(wanted: Wanted, actual: Actual) -> list[Step]:
    """The steps from `actual` to `wanted`, in the order in which they are done.

    Every part is in it, those that stay as they are as `keep`.
    """
    return [
        _schema(wanted, actual),
        _publication(wanted, actual),
        _slot(wanted, actual),
        *(
            _target(target, actual.targets.get((target.sink, target.name)), actual)
            for target in wanted.targets
        ),
        *_leftovers(wanted, actual.targets),
    ]


def _schema(wanted: Wanted, actual: Actual) -> Step:
    version = wanted.schema_version
    match actual.schema_version:
        case None:
            action, why = Action.CREATE, "the bridge keeps its own state there"
        case found if found < version:
            action, why = Action.UPDATE, f"from version {found} to {version}"
        case found if found > version:
            action = Action.KEEP
            why = f"version {found} is newer than this pgbridge knows ({version})"
        case _:
            action, why = Action.KEEP, "unchanged"
    return Step(action, PartKind.SCHEMA, "bridge", why)


def _publication(wanted: Wanted, actual: Actual) -> Step:
    def step(action: Action, why: str) -> Step:
        return Step(action, PartKind.PUBLICATION, wanted.publication, why)

    found = actual.publication
    if found is None:
        return step(Action.CREATE, f"for {_listed(wanted.tables)}")
    if found.all_tables:
        return step(Action.REBUILD, "it publishes all tables, not those of the views")
    changes = []
    if added := wanted.tables - found.tables:
        changes.append(f"add {_listed(added)}")
    if removed := found.tables - wanted.tables:
        changes.append(f"remove {_listed(removed)}")
    if not found.complete:
        changes.append(
            "publish insert, update, delete, truncate, and partitions as their root"
        )
    if changes:
        return step(Action.UPDATE, "; ".join(changes))
    return step(Action.KEEP, "unchanged")


def _slot(wanted: Wanted, actual: Actual) -> Step:
    if actual.slot is None:
        return Step(
            Action.CREATE,
            PartKind.SLOT,
            wanted.slot,
            "it holds the log from now on, until everything is read",
        )
    if actual.slot.lost:
        return Step(
            Action.REBUILD,
            PartKind.SLOT,
            wanted.slot,
            f"{actual.slot.reason or 'it is lost'}; everything is built again in a new "
            "epoch",
        )
    if actual.moved:
        why = f"{actual.moved}; it is read on in a new epoch"
        return Step(Action.UPDATE, PartKind.SLOT, wanted.slot, why)
    return Step(Action.KEEP, PartKind.SLOT, wanted.slot, "unchanged")


def _target(target: WantedTarget, found: ActualTarget | None, actual: Actual) -> Step:
    def step(action: Action, why: str) -> Step:
        return Step(action, PartKind.TARGET, str(target), why)

    size = "" if target.documents is None else f" about {target.documents:,} documents"
    if found is None or (found.live is None and found.building is None):
        return step(Action.CREATE, f"build{size or ' every document'}, then live")
    if actual.slot is None or actual.slot.lost:
        return step(Action.REBUILD, _how(target, found, "the slot is new"))
    if reason := _rollback_holds(target, found, actual):
        return step(Action.KEEP, reason)
    if gives_up(target, found) and not actual.moved:
        why = f"g{found.building} is given up: g{found.live} is as the file says"
        return step(Action.UPDATE, why)
    if target.in_place and found.building is None and not _other_view(target, found):
        then = "; every document is written again" if target.rewrites else ""
        return step(Action.UPDATE, f"{target.what}, in place{then}")
    if reason := _difference(target, found):
        return step(Action.REBUILD, _how(target, found, reason))
    if actual.moved and found.building is not None:
        return step(Action.REBUILD, _how(target, found, "the epoch is new"))
    if actual.moved:
        return step(Action.UPDATE, "every document is derived again in place")
    if found.live is None:
        return step(Action.KEEP, f"building g{found.building}")
    return step(Action.KEEP, "unchanged")


def _rollback_holds(target: WantedTarget, found: ActualTarget, actual: Actual) -> str:
    """Why readers stay with an older generation than the file asks for; empty: they
    do not. They have been rolled back from the very one that it asks for: to build
    that again is what nobody has asked for. Anything else that is asked is done."""
    newer = found.rolled_back
    if newer is None or found.building is not None or found.stopped or actual.moved:
        return ""
    asked = target.view_fingerprint, target.sink_fingerprint
    if target.view != found.view or asked == _fingerprints(found):
        return ""
    if not found.view_fingerprint:
        return ""  # it missed changes
    if asked != (newer.view_fingerprint, newer.sink_fingerprint):
        return ""
    return (
        f"rolled back to g{found.live}; g{newer.number}, as the file says, is kept up "
        f"to date and shown by `pgbridge rollback {target.view}`"
    )


def gives_up(target: WantedTarget, found: ActualTarget) -> bool:
    """Whether what is being built is for an edit that was taken back."""
    asked = target.view_fingerprint, target.sink_fingerprint
    return (
        found.building is not None
        and found.live is not None
        and not found.stopped
        and target.view == found.view
        and asked == found.lives
        and asked != _fingerprints(found)
    )


def _fingerprints(found: ActualTarget) -> tuple[str, str]:
    return found.view_fingerprint, found.sink_fingerprint


def _difference(target: WantedTarget, found: ActualTarget) -> str:
    if reason := _other_view(target, found):
        return f"{reason}: {target.what}" if target.what else reason
    if target.sink_fingerprint != found.sink_fingerprint:
        return target.what or "its mapping, settings or options changed"
    return ""


def _other_view(target: WantedTarget, found: ActualTarget) -> str:
    """Why its documents are not what they were."""
    if target.view != found.view:
        return f"it is of view {target.view}, not {found.view} any more"
    if not found.view_fingerprint:
        return "it missed changes"
    if target.view_fingerprint != found.view_fingerprint:
        return "the view's query, or a type it depends on, changed"
    if found.stopped:
        return "it was not fed for a while"
    return ""


def _how(target: WantedTarget, found: ActualTarget, reason: str) -> str:
    if target.side_by_side and found.live is not None:
        return f"{reason}; g{found.live} serves until the new one is complete"
    return f"{reason}; every document is derived again in place"


def _leftovers(
    wanted: Wanted, found: Mapping[tuple[str, str], ActualTarget]
) -> list[Step]:
    """Targets that the file no longer has: fed no more at first, dropped when asked."""
    kept = {(target.sink, target.name) for target in wanted.targets} | wanted.waiting
    steps = []
    for identity, target in found.items():
        if identity in kept:
            continue
        if target.stopped:
            action = Action.KEEP
            why = "no longer in the file; `apply --prune` drops what was built"
        else:
            action = Action.DROP
            why = "no longer in the file; fed no more, kept until `apply --prune`"
        steps.append(Step(action, PartKind.TARGET, str(target), why, target.stopped))
    return steps


def _listed(names: Iterable[str]) -> str:
    """A few names, or a few and how many more."""
    first = sorted(names)
    if len(first) <= 6:
        return ", ".join(first) or "no table"
    return f"{', '.join(first[:5])} and {len(first) - 5} more"
