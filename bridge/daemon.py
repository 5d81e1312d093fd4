"""The daemon: from a configuration to running parts, and their order of ending.

    lease ─▶ survey, apply ─▶ one life: lanes, pipeline, builds, commands ─▶ drain
      ▲                            │ edited file, lost connection
      └────────────────────────────┘

The one thing to know: a *life* is everything between two looks at the configuration
and the source. Whatever cannot be gone on with in place ends the life, and the next
one starts from what the slot and the sinks say, as after a crash.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from importlib.metadata import version
from pathlib import Path

from watchfiles import awatch

from bridge.backfill.patience import all_ended
from bridge.capture.failures import HistoryChanged, SlotLost, SlotMissing
from bridge.config import Config, load
from bridge.control.lease import Lease
from bridge.control.planning import open_sinks
from bridge.control.survey import survey
from bridge.errors import (
    BridgeError,
    Exit,
    Transient,
    ViewHalt,
    first_problem,
)
from bridge.lifetime import Lifetime, Stumbled
from bridge.observe.http import Readiness, serving
from bridge.observe.logs import logger
from bridge.observe.metrics import Metrics
from bridge.observe.status import SourceStatus
from bridge.store import Store

_log = logger("bridge.daemon")
_RETRY_FIRST_S, _RETRY_MAX_S = 0.2, 5.0
_WATCHED_S = 1.0
"""By then changes of the file are told."""
_IN_ORDER_S = 3.0


class Ending(Enum):
    """Why a life ended in order."""

    STOPPED = "stopped"
    """Asked to stop, or nothing is left to do."""
    EDITED = "edited"
    """Another configuration is to be taken up."""
    CHANGED = "changed"
    """The source is not as it was planned for; or one view cannot be gone on with."""


async def run(config: Config, *, once: bool = False) -> Exit:
    """Serve until SIGTERM or SIGINT; with `once` until all that was committed before
    the start is in every target.

    Refusal: the configuration cannot be served. Halt: the operator has to decide.
    """
    return await Daemon(config, once=once).run()


class Daemon:
    """One process: the lease, the signals, the pages, and one life after another."""

    def __init__(self, config: Config, *, once: bool) -> None:
        self._config = config
        self._once = once
        self._edited: Config | None = None
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._known = SourceStatus()
        self._metrics = Metrics()
        self._life: Lifetime | None = None
        self._stumbled: dict[str, Stumbled] = {}
        """Views with which a life could not go on of late."""

    async def run(self) -> Exit:
        """See `run`."""
        http = self._config.daemon.http
        _log.info(
            "starting",
            version=version("pgbridge"),
            configuration=str(self._config.path.absolute()),
            http=str(http) if http is not None else "off",
        )
        async with (
            self._signals(),
            serving(
                http, status=self._status, ready=self._ready, metrics=self._metrics
            ),
        ):
            delay = _RETRY_FIRST_S
            while not self._stop.is_set():
                try:
                    outcome = await self._leading()
                except BaseException as error:
                    problem = first_problem(error)
                    if problem is None:
                        raise
                    if not (isinstance(problem, Transient) or _look_again(problem)):
                        raise problem from error
                    self._tell("connecting", problem)
                    await self._sleep(delay)
                    delay = min(delay * 2, _RETRY_MAX_S)
                    continue
                return outcome
        return Exit.DONE

    async def _leading(self) -> Exit:
        """Hold the lease through one life after another."""
        acquiring = asyncio.create_task(
            Lease.acquire(
                self._config.source.dsn,
                interval_s=self._config.limits.standby_interval_s,
                standing_by=self._stand_by,
            )
        )
        if not await self._unless_stopped(acquiring):
            return Exit.DONE
        lease = acquiring.result()
        async with lease:
            self._metrics.leading.set(1)
            try:
                while True:
                    ending = await self._one_life(lease)
                    if ending is Ending.STOPPED:
                        assert self._life is not None
                        return self._life.exit
                    if ending is Ending.EDITED:
                        assert self._edited is not None
                        self._config, self._edited = self._edited, None
            finally:
                self._metrics.leading.set(0)

    async def _one_life(self, lease: Lease) -> Ending:
        async with open_sinks(self._config) as sinks:
            self._life = life = Lifetime(
                self._config,
                sinks,
                self._known,
                self._metrics,
                once=self._once,
                leased=lambda: lease.held,
                stumbled=self._stumbled,
            )
            known = asyncio.all_tasks()
            work = asyncio.create_task(life.run(), name="life")
            lost = asyncio.create_task(lease.watch(), name="lease")
            stop = asyncio.create_task(self._stop.wait(), name="stop")
            edit = asyncio.create_task(self._edits(life), name="edits")
            again = asyncio.create_task(life.again.wait(), name="again")
            tasks = {work, lost, stop, edit, again}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if lost.done():
                    lost.result()
                if edit.done():
                    edit.result()
                if work.done():
                    if self._stumbles(life, work.exception()):
                        return Ending.CHANGED
                    work.result()
                    return Ending.STOPPED
                await life.drain()
                if stop.done():
                    return Ending.STOPPED
                self._stumbled = {}
                return Ending.EDITED if edit.done() else Ending.CHANGED
            finally:
                await all_ended(tasks, known)

    def _stumbles(self, life: Lifetime, error: BaseException | None) -> bool:
        """Whether it is of one view alone: everything is planned again, as its tables
        are now, and where that does not help it is left out and the others go on."""
        problem = None if error is None else first_problem(error)
        if not isinstance(problem, ViewHalt):
            return False
        known = life.stumbled(problem)
        self._stumbled = {**self._stumbled, problem.view: known}
        _log.warning(
            "a view could not be gone on with; everything is planned again",
            view=problem.view,
            reason=problem.message,
            hint=problem.hint,
            times=known.times,
        )
        return True

    # — the configuration —

    async def _edits(self, life: Lifetime) -> None:
        """Returns when the file was edited into something that can be served, and the
        log has come to where that was noted."""
        watched = asyncio.create_task(self._watch_files())
        missed = asyncio.create_task(self._missed())
        try:
            while True:
                await self._reload.wait()
                self._reload.clear()
                try:
                    edited = load(self._config.path)
                    if edited == self._config:
                        self._accept()
                        if any(known.for_good for known in self._stumbled.values()):
                            self._edited = edited  # tried once more
                            return
                        continue
                    async with survey(edited, partial=True):
                        pass
                except BridgeError as error:
                    self._known.refused = error.message
                    self._metrics.configuration_refused.set(1)
                    _log.error(
                        "the edited configuration is refused; the daemon goes on with "
                        "the one before",
                        reason=error.message,
                        hint=error.hint,
                    )
                    continue
                self._accept()
                self._edited = edited
                await self._in_order(edited, life)
                _log.info("the edited configuration is taken up")
                return
        finally:
            watched.cancel()
            missed.cancel()

    async def _missed(self) -> None:
        """Ask for a reload where the file was edited before it was watched: between
        two lives nobody does."""
        await asyncio.sleep(_WATCHED_S)
        try:
            edited = load(self._config.path)
        except BridgeError:
            self._reload.set()  # refused, and told, as any edit
            return
        if edited != self._config:
            self._reload.set()

    async def _in_order(self, edited: Config, life: Lifetime) -> None:
        """An edit is a command too: it holds from its place in the log. A stream that
        does not come there in time does not keep it from being taken up, since it may
        be what makes it go on."""
        with suppress(TimeoutError, BridgeError):
            async with asyncio.timeout(_IN_ORDER_S):
                async with await Store.open(edited.source.dsn) as store:
                    await store.commands.issue(
                        "configure", {"views": sorted(edited.views)}
                    )
                await life.configured.wait()

    def _accept(self) -> None:
        self._known.refused = ""
        self._metrics.configuration_refused.set(0)

    async def _watch_files(self) -> None:
        """Ask for a reload whenever a file of the configuration changes."""
        files = {path.resolve() for path in (self._config.path, *self._config.files)}
        folders = {path.parent for path in files}
        async for changes in awatch(*folders, recursive=False, step=100):
            # A mounted configuration changes by a link beside it.
            if any(Path(path) in files or "..data" in path for _, path in changes):
                self._reload.set()

    # — what is told —

    def _status(self) -> dict[str, object]:
        status = self._life.status if self._life is not None else None
        return self._known.document() if status is None else status.document()

    def _ready(self) -> Readiness:
        status = self._life.status if self._life is not None else None
        if status is None:
            reason = self._known.reason or f"the source is {self._known.state}"
            return Readiness(ready=False, reason=reason)
        return status.ready(
            self._config.daemon.ready_lag_s, self._config.limits.stalled_after_s
        )

    def _tell(self, state: str, problem: BridgeError) -> None:
        if self._known.reason != problem.message:
            _log.warning(problem.message, hint=problem.hint, state=state)
        self._known.state, self._known.reason = state, problem.message

    def _stand_by(self, away: Transient | None) -> None:
        if away is not None:
            self._tell("connecting", away)
            return
        reason = "another daemon runs; standing by"
        self._known.state, self._known.reason = "standby", reason
        _log.info("standing by", reason="another daemon runs")

    # — stopping —

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _unless_stopped(self, task: asyncio.Task[Lease]) -> bool:
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.done()
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _sleep(self, delay: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stop.wait()


def _look_again(problem: BridgeError) -> bool:
    """Whether the next life tells what is to be done: it looks at slot and history,
    and builds everything anew or halts with the command, as `on_slot_loss` says."""
    return isinstance(problem, SlotLost | SlotMissing | HistoryChanged)
