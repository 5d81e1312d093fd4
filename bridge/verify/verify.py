"""Verifying a view's targets from outside the daemon: the command, the demo, tests.

The one thing to know: it reads source and sinks by itself, and asks the daemon for
nothing but how far each target is; repairs are ordered like any other command. What
readers see is compared with what it was built from, which may not be what the file asks
for by now: another one is being built, or readers were rolled back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bridge.config import Config, TargetConfig
from bridge.control.planning import sink_target
from bridge.control.status import absence
from bridge.control.survey import Survey, survey
from bridge.derive.view import ViewPlan
from bridge.errors import Halt, Refusal, TimedOut, Transient
from bridge.keys import Parts
from bridge.position import Position
from bridge.sink import Generation
from bridge.source.postgres import PostgresSource, ServerIdentity
from bridge.store import Store
from bridge.store.rows import GenerationKey, GenerationRow, GenerationState
from bridge.verify.compare import Comparer, Comparison, keeps_documents

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Verified:
    """One target, compared."""

    view: str
    sink: str
    name: str
    position: Position
    """What had been applied when the comparison began."""
    found: Comparison
    number: int
    """Of the generation that readers see."""
    former: bool = False
    """Whether that was built from another definition than the file has now."""


class _Live(NamedTuple):
    """What readers see of a target, and the plan that makes its documents."""

    generation: Generation
    plan: ViewPlan
    former: bool


async def verify(
    config: Config,
    view: str | None = None,
    *,
    target: str | None = None,
    sample: int | None = None,
    keys: Sequence[Parts] | None = None,
    timeout_s: float = 60.0,
    progress: Callable[[str, int, int], None] = lambda _target, _count, _of: None,
) -> list[Verified]:
    """Compare the live targets of a view (None: of all), or those of SINK or SINK/NAME.

    `sample` compares about that many documents, or all of fewer, others each time;
    `keys` the documents of these alone.
    `progress` is told of a target how many are compared, of about how many.
    Refusal when there is no such view or target; Halt when nothing is live, or the
    daemon does not come on within `timeout_s`; Transient when a server is away, as
    TimedOut when it has gone while a target was compared.
    """
    if view is not None and view not in config.views:
        raise Refusal(
            f"there is no view {view} in the file",
            hint=f"the views are {', '.join(config.views)}",
        )
    async with survey(config) as looked:
        source = PostgresSource(
            config.source.dsn,
            config.source.search_path,
            ServerIdentity(looked.system_identifier, looked.timeline),
        )
        try:
            async with await Store.open(config.source.dsn) as store:
                waiter = _Waiter(store, timeout_s)
                return [
                    await _verify(
                        looked, source, waiter, live, progress, sample=sample, keys=keys
                    )
                    for each in (config.views if view is None else [view])
                    for live in _live(looked, each, target)
                ]
        finally:
            await source.close()


def _live(looked: Survey, view: str, target: str | None) -> list[_Live]:
    """What readers see of a view's targets that can be verified."""
    found = []
    for configured in looked.config.views[view].targets:
        if target not in {None, configured.sink, str(configured)}:
            continue
        if not keeps_documents(looked.config, configured.sink, configured.options):
            continue
        rows = looked.remembered.of(configured.sink, configured.name)
        live = rows.get(GenerationState.LIVE)
        if live is None:
            raise Halt(
                f"target {configured} is not built yet",
                hint="`pgbridge status` shows how far it is",
            )
        built = _as_built(looked, configured, live)
        if keeps_documents(
            looked.config, configured.sink, built.generation.target.options
        ):
            found.append(built)
    if not found and target is not None:
        targets = ", ".join(map(str, looked.config.views[view].targets))
        raise Refusal(
            f"view {view} has no target {target} that can be verified",
            hint=f"its targets are {targets or 'none'}",
        )
    return found


def _as_built(looked: Survey, configured: TargetConfig, row: GenerationRow) -> _Live:
    """A generation as it was built. Halt when its query cannot be asked any more."""
    former, plans = looked.former, looked.planned.plans
    plan = {**former.plans, **plans}.get(former.names.get(row.key, configured.view))
    if plan is None or row.key in former.refused:
        raise Halt(
            f"target {configured}: {former.refused.get(row.key, 'it cannot be kept')}",
            hint="`pgbridge status` shows what comes in its stead",
        )
    wanted = sink_target(configured, plan)
    made = former.targets.get(row.key, wanted)
    sink = looked.sinks[configured.sink]
    now = plans.get(configured.view)
    other = now is None or now.fingerprint != plan.fingerprint
    other = other or sink.fingerprint(made) != sink.fingerprint(wanted)
    return _Live(Generation(made, row.key.number), plan, other)


async def _verify(
    looked: Survey,
    source: PostgresSource,
    waiter: _Waiter,
    live: _Live,
    progress: Callable[[str, int, int], None],
    *,
    sample: int | None,
    keys: Sequence[Parts] | None,
) -> Verified:
    generation, target = live.generation, live.generation.target
    key = GenerationKey(target.sink, target.name, generation.number)
    position = await waiter.position(key)
    comparer = Comparer(
        source,
        looked.sinks[target.sink],
        generation,
        live.plan,
        lambda lsn: waiter.applied(key, lsn),
    )
    async with source.read() as reader:
        total = await reader.estimate(live.plan)

    def compared(count: int) -> None:
        progress(str(target), count, min(total, sample or total))

    try:
        if keys is not None:
            found = await comparer.keys(keys)
        elif sample is None:
            found = await comparer.run(progress=compared)
        else:
            dice = random.Random()  # noqa: S311 - a sample, not a secret
            found = await comparer.sample(sample, dice, progress=compared)
    except Transient as error:
        raise TimedOut(
            f"{target} could not be compared to the end: {error.message}",
            hint="nothing is known of what differs; verify it again when all answers",
        ) from None
    return Verified(
        target.view,
        target.sink,
        target.name,
        position,
        found,
        generation.number,
        live.former,
    )


class _Waiter:
    """Asks the bridge's tables how far a generation is."""

    def __init__(self, store: Store, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s

    async def position(self, key: GenerationKey) -> Position:
        """What is applied now."""
        rows = await self._store.positions.load()
        return rows[key].position if key in rows else Position(0, 0)

    async def applied(self, key: GenerationKey, lsn: int) -> None:
        """Wait until everything up to `lsn` is applied. Halt when it does not come."""
        daemon = await self._store.read_daemon()
        if daemon is None or not daemon.alive:
            raise Halt(
                absence(daemon),
                hint="what differs is judged while one runs: `pgbridge run`",
            )
        # An idle source would never say that it has passed `lsn`.
        await self._store.emit_marker("verify")
        try:
            async with asyncio.timeout(self._timeout_s):
                while (reached := await self.position(key)).lsn < lsn:
                    if reached == Position(0, 0):
                        await self._must_be_kept(key)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Halt(
                f"{key} does not come on: it has not applied what was compared",
                hint="`pgbridge status` tells what holds it up",
            ) from None

    async def _must_be_kept(self, key: GenerationKey) -> None:
        """Halt when the generation was dropped: readers see another one by now."""
        for row in await self._store.generations.all():
            if row.key == key and row.state is not GenerationState.DROPPED:
                return
        raise Halt(
            f"{key} was dropped while it was compared: readers see another one",
            hint="verify that one",
        )


async def differences(config: Config) -> Mapping[str, Comparison]:
    """Every verifiable target of every view, compared: what demo and tests end with.

    Transient when a server is away, Halt when a target is not live.
    """
    return {f"{each.sink}/{each.name}": each.found for each in await verify(config)}
