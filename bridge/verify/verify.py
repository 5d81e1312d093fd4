"""Verifying a view's targets from outside the daemon: the command, the demo, tests.

The one thing to know: it reads source and sinks by itself, and asks the daemon for
nothing but how far each target is; repairs are ordered like any other command.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.config import Config
from bridge.control.planning import sink_target
from bridge.control.survey import Survey, survey
from bridge.errors import Halt, Refusal
from bridge.position import Position
from bridge.sink import Generation
from bridge.source.postgres import PostgresSource, ServerIdentity
from bridge.store import Store
from bridge.store.rows import GenerationKey, GenerationState
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


async def verify(
    config: Config,
    view: str,
    *,
    target: str | None = None,
    sample: int | None = None,
    timeout_s: float = 60.0,
    progress: Callable[[str, int], None] = lambda _target, _count: None,
) -> list[Verified]:
    """Compare every live target of a view, or those of SINK or SINK/NAME.

    `sample` compares about that many documents, or all of fewer, others each time.
    Refusal when there is no such view or target; Halt when nothing is live, or the
    daemon does not come on within `timeout_s`; Transient when a server is away.
    """
    if view not in config.views:
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
                    await _verify(looked, source, waiter, generation, sample, progress)
                    for generation in _live(looked, view, target)
                ]
        finally:
            await source.close()


def _live(looked: Survey, view: str, target: str | None) -> list[Generation]:
    """The live generations of a view's targets that can be verified."""
    found = []
    plan = looked.planned.plans[view]
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
        found.append(Generation(sink_target(configured, plan), live.key.number))
    if not found and target is not None:
        targets = ", ".join(map(str, looked.config.views[view].targets))
        raise Refusal(
            f"view {view} has no target {target} that can be verified",
            hint=f"its targets are {targets or 'none'}",
        )
    return found


async def _verify(
    looked: Survey,
    source: PostgresSource,
    waiter: _Waiter,
    generation: Generation,
    sample: int | None,
    progress: Callable[[str, int], None],
) -> Verified:
    target = generation.target
    key = GenerationKey(target.sink, target.name, generation.number)
    position = await waiter.position(key)
    plan = looked.planned.plans[target.view]
    comparer = Comparer(
        source,
        looked.sinks[target.sink],
        generation,
        plan,
        lambda lsn: waiter.applied(key, lsn),
    )

    def compared(count: int) -> None:
        progress(str(target), count)

    if sample is None:
        found = await comparer.run(progress=compared)
    else:
        dice = random.Random()  # noqa: S311 - a sample, not a secret
        found = await comparer.sample(sample, dice, progress=compared)
    return Verified(target.view, target.sink, target.name, position, found)


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
        # An idle source would never say that it has passed `lsn`.
        await self._store.emit_marker("verify")
        try:
            async with asyncio.timeout(self._timeout_s):
                while (await self.position(key)).lsn < lsn:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Halt(
                f"{key} does not come on: it has not applied what was compared",
                hint="see `pgbridge status`; is the daemon running?",
            ) from None


async def differences(config: Config) -> Mapping[str, Comparison]:
    """Every verifiable target of every view, compared: what demo and tests end with.

    Transient when a server is away, Halt when a target is not live.
    """
    found: dict[str, Comparison] = {}
    for view in config.views:
        for result in await verify(config, view):
            found[f"{result.sink}/{result.name}"] = result.found
    return found
