"""Rules taken out of the daemon, one at a time, to show that a test needs them.

The one thing to know: `apply` runs in the daemon's own process before it starts, and
replaces one method; nothing in the daemon knows of it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import probes
from bridge.config.limits import Limits
from bridge.control.schema import SchemaWatch
from bridge.doubt import Doubt
from bridge.gate import Gate, Snapshot
from bridge.ledger import Ledger
from bridge.progress import Progress
from bridge.sink import Generation
from bridge.streams import Streams
from tests.fixtures.waiting import eventually


def apply(name: str) -> None:
    """Take the rule of that name out. KeyError: no such mutant."""
    MUTANTS[name]()


def _reads_at_once() -> None:
    """Whatever was streamed is taken for visible as soon as somebody looks."""

    def passes(self: Gate, snapshot: Snapshot, lsn: int, *_: Any) -> bool:
        if snapshot.xmin < self._barrier:
            return False
        self._unseen.clear()
        return True

    Gate.passes = passes  # type: ignore[method-assign]


def _no_barrier() -> None:
    """What was running when the slot was made is not waited for, nor when its tables
    were published."""
    real = Gate.__init__

    def init(self: Gate, _barrier: int = 0, *rest: Any) -> None:
        real(self, 0, *rest)

    Gate.__init__ = init  # type: ignore[method-assign]
    Gate.raise_barrier = lambda *_: None  # type: ignore[method-assign]


def _acknowledges_invisible() -> None:
    """What is kept is acknowledged, whether or not it was seen to be visible."""
    real = Ledger.__init__

    def init(self: Ledger, _invisible_from: Any) -> None:
        real(self, lambda: None)

    def reached(self: Progress, generation: Generation) -> int:
        return self._ledger.applied(generation)

    Ledger.__init__ = init  # type: ignore[method-assign]
    Progress.reached = reached  # type: ignore[method-assign]


def _no_publication_barrier() -> None:
    """Who was writing when a table was published is not waited for."""

    async def keep(_watch: Any) -> None:
        pass

    SchemaWatch._raise_barrier = keep  # type: ignore[method-assign]


def _few_owed_keys() -> None:
    """No rule: the limit on recorded keys is as low as it may be."""
    real = Limits.for_memory

    def few(memory_bytes: int) -> Limits:
        return replace(real(memory_bytes), owed_keys_max=1000)

    Limits.for_memory = few  # type: ignore[method-assign, assignment]


def _holds_builds() -> None:
    """No rule: what is built waits as long as the file of that name is there, and
    another tells that it does."""
    held = Path(os.environ["PGBRIDGE_TEST_HOLD"])

    async def wait() -> None:
        if held.exists():
            held.with_suffix(".reached").touch()
            await eventually(lambda: not held.exists())

    probes.register("generation.built", wait)


def _doubts_nothing() -> None:
    """A crash of the server leaves everything that was read from it as it is."""

    def start(self: Doubt) -> None:
        self.suspect = False

    async def look_back(self: Streams, _pipeline: Any) -> bool:
        self._server = await self._store.server()
        return False

    Doubt.start = start  # type: ignore[method-assign]
    Streams.look_back = look_back  # type: ignore[method-assign]


def _looks_when_told() -> None:
    """Nobody looks each second at how the tables are: only when something has it."""

    async def interval(self: SchemaWatch) -> None:
        prove = self._assembly.pipeline.progress.prove
        await prove.wait()
        prove.clear()

    SchemaWatch._interval = interval  # type: ignore[method-assign]


MUTANTS = {
    "doubts-nothing": _doubts_nothing,
    "reads-at-once": _reads_at_once,
    "no-barrier": _no_barrier,
    "acknowledges-invisible": _acknowledges_invisible,
    "no-publication-barrier": _no_publication_barrier,
    "few-owed-keys": _few_owed_keys,
    "holds-builds": _holds_builds,
    "looks-when-told": _looks_when_told,
}
