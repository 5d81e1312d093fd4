"""What one life of the daemon shares: parts that were made together.

The one thing to know: `daemon.py` makes it, the jobs and commands use it, and nothing
in it is replaced while it lives; another configuration means another assembly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.backfill.pace import Pace
from bridge.config import Config
from bridge.control.former import Former
from bridge.control.letters import Letters
from bridge.deliver import Lane
from bridge.derive.view import ViewPlan
from bridge.observe.metrics import Metrics
from bridge.pipeline import Pipeline
from bridge.sink import Generation, Owner, Sink, Target
from bridge.store import Store
from bridge.store.rows import GenerationKey


@dataclass(slots=True)
class Assembly:
    """The parts of one running bridge."""

    config: Config
    owner: Owner
    epoch: int
    store: Store
    sinks: Mapping[str, Sink]
    lanes: Mapping[str, Lane]
    plans: Mapping[str, ViewPlan]
    pipeline: Pipeline
    letters: Letters
    pace: Pace
    metrics: Metrics
    group: asyncio.TaskGroup
    targets: Mapping[tuple[str, str], Target] = field(default_factory=dict)
    """The wanted targets by sink and name."""
    former: Former = field(default_factory=Former)
    """How generations of another definition are fed."""
    halted: dict[tuple[str, str], str] = field(default_factory=dict)
    """Targets that have stopped, and why."""
    stale: dict[tuple[str, str], str] = field(default_factory=dict)
    """Targets whose readers see what is not fed any more, until another generation is
    live; and why."""

    def generation(self, key: GenerationKey) -> Generation | None:
        """The generation as its sink knows it; None where the target is unwanted."""
        target = self.targets.get((key.sink, key.name))
        target = self.former.targets.get(key, target)
        return None if target is None else Generation(target, key.number)

    def plan(self, generation: Generation) -> ViewPlan | None:
        """The plan that makes a generation's documents; None: it is not fed."""
        name = self.pipeline.fan_out.plan(generation)
        return None if name is None else self.plans.get(name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Have something run beside the rest; what it raises ends this life."""
        return self.group.create_task(work, name=name)
