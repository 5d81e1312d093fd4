"""One seed, one history: writers, faults, the bridge, and what must hold at the end.

The one thing to know: which faults a history has, and how slow everything is in it, is
drawn from the seed first, so that some histories are full of one thing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from unittest import mock

import bridge.backfill.mending
import bridge.gate
import bridge.parking
import bridge.pipeline
import bridge.shown
import bridge.watch
from bridge.control.letters import generation_key
from bridge.errors import Halt, errors_in
from bridge.keys import key_text
from bridge.lanes import LaneLimits, LaneState
from bridge.operations import Operation
from bridge.position import Position
from bridge.sink import Generation, Target
from tests.simulation import clock, views
from tests.simulation.faults import FAULTS, THEMES
from tests.simulation.process import Limits, Process
from tests.simulation.sinks import Store
from tests.simulation.source import Profile, Server
from tests.simulation.tables import Build, Remembered
from tests.simulation.writers import Writers

SILENT = SimpleNamespace(
    **dict.fromkeys(("info", "warning", "error"), lambda *_, **__: None)
)
REST_S = 400.0
"""Time to come to rest once nothing goes wrong any more."""


class Wrong(AssertionError):
    """A promise was broken."""


class World:
    """Everything there is in one history."""

    def __init__(
        self,
        seed: int,
        *,
        grows_epoch: bool = True,
        asks_sinks: bool = True,
        faults: Sequence[str] = (),
        sinks: int = 0,
    ) -> None:
        """`faults` and how many `sinks` there are, where the seed is not to say."""
        self.seed = seed
        self.dice = dice = random.Random(seed)
        self.grows_epoch = grows_epoch
        self.asks_sinks = asks_sinks
        self.wrong: list[str] = []
        self.trace: list[str] = []
        """What happened when."""
        self.happened: set[str] = set()
        self.server = Server(
            dice,
            Profile(
                commit_s=dice.choice((0.0, 0.005, 0.05)),
                visible_s=dice.choice((0.0, 0.005, 0.05, 0.3)),
                flush_s=dice.choice((0.05, 0.2, 0.6)),
                asynchronous=dice.choice((0.0, 0.0, 0.3, 1.0)),
                stream_s=dice.choice((0.01, 0.01, 0.1)),
            ),
        )
        self.remembered = Remembered()
        late_s = dice.choice((0.3, 2.0))
        self.stores = {
            name: Store(
                name,
                dice,
                self._check,
                self._shows,
                self._may_send,
                late_s=late_s,
                tombstone_s=dice.choice((float("inf"), 1.5 * late_s)),
            )
            for name in ("search", "cache")[: max(sinks, dice.choice((1, 2)))]
        }
        self.limits = _limits(dice)
        self.parking: dict[str, float] = {
            "_PAGE_KEYS": dice.choice((2, 1000)),
            "_KEYS_AT_ONCE": dice.choice((2, 1000)),
            "_IN_MEMORY_MAX": dice.choice((4, 1000)),
        }
        """Constants of `bridge.parking`."""
        self.writers = Writers(self.server, dice, dice.choice((0.005, 0.02, 0.05)))
        self.gap_s = dice.choice((0.7, 0.7, 0.1))
        """Between two faults."""
        self.length = 1
        """So many times as long as others."""
        some = dice.sample(FAULTS, dice.randint(1, 7))
        themed = dice.choice(THEMES) if dice.random() < 0.3 else some
        self.faults: Sequence[str] = faults or themed
        self.views: Sequence[str] = sorted(views.PLANS)
        """Those of which the history has one or more."""
        self._crash_at_write = False
        """Whether the server crashes at the next write of what that takes back."""
        self._epochs: list[tuple[int, int]] = []
        """Each epoch, and where the log was when it was written down."""
        self.process: Process | None = None
        self._next = 100

    # — what must hold while it runs —

    def _check(self, generation: Generation, operation: Operation) -> None:
        position = Position.of_version(operation.version)
        if self._crash_at_write and self._would_be_lost(generation, operation):
            self._crash_at_write = False
            asyncio.get_running_loop().call_soon(self.server.crash)
        if position.epoch != self.remembered.epoch:
            return
        view = generation.target.view
        why = self.server.history.allowed(
            view, operation.parts, position.lsn, operation.document
        )
        if why is not None:
            self._complain(f"{generation} {operation}: {why}")

    def _would_be_lost(self, generation: Generation, operation: Operation) -> bool:
        """Whether readers see this document now, and after a crash another."""
        oracle, key = views.ORACLE[generation.target.view], operation.parts
        left = oracle(self.server.after_a_crash()).get(key)
        return left != operation.document == oracle(self.server.tables).get(key)

    def _shows(self, generation: Generation, position: Position) -> None:
        """What is told to be applied is there for readers."""
        kept, store = self.remembered, self.stores[generation.target.sink]
        doubtful = (
            position.epoch != kept.epoch
            or kept.server_life != self.server.life
            or generation in kept.sweeps
            or generation_key(generation) in kept.owed_all
            or store.missing.get(generation)
            or not kept.builds[generation].done
        )
        if doubtful:
            return
        history, view = self.server.history, generation.target.view
        place = store.places.get(generation, {})
        for key in history.keys(view):
            stored = place.get(key_text(key))
            document = None if stored is None else stored.document
            if not history.shows(view, key, position.lsn, document):
                self._complain(f"{generation} is told to be at {position}: {key}")

    def _may_send(self, sink: str) -> None:
        """Nothing is sent long after the stream is lost, or to a sink while it is
        paused."""
        if sink in self.remembered.paused:
            self._complain(f"{sink} is paused, and is written to")
        capture = self.process.capture if self.process is not None else None
        now = asyncio.get_running_loop().time()
        lost_at = capture.lost_at if capture is not None else None
        if lost_at is not None and now > lost_at + 0.2:
            self._complain("a write was sent without a stream")

    def _complain(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        self.wrong.append(f"seed {self.seed} at {now:.3f} s: {what}")

    # — the history —

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        time = SimpleNamespace(monotonic=loop.time, time=loop.time)
        with (
            mock.patch.object(bridge.pipeline, "time", time),
            mock.patch.object(bridge.gate, "_OLD_S", 0.1),
            mock.patch.object(bridge.watch, "_log", SILENT),
            mock.patch.object(bridge.shown, "_log", SILENT),
            mock.patch.object(bridge.backfill.mending, "_log", SILENT),
            mock.patch.multiple(bridge.parking, _log=SILENT, **self.parking),
        ):
            await self._live()
        if self.wrong:
            raise Wrong("\n".join(self.wrong[:5]))

    async def _live(self) -> None:
        self._begin()
        watch = asyncio.create_task(self._keep_alive())
        writer = asyncio.create_task(self.writers.write(self._many(20, 90)))
        for _ in range(self._many(1, 8)):
            await asyncio.sleep(self.dice.expovariate(1 / self.gap_s))
            await self._fault(self.dice.choice(self.faults))
        await writer
        self._heal()
        await self._rest()
        if self.dice.random() < 0.5 and not self.wrong:
            # What was acknowledged too early is lost now.
            await self._process().kill()
            await self._rest()
        watch.cancel()
        await self._process().kill()

    def _many(self, least: int, most: int) -> int:
        return self.length * self.dice.randint(least, most)

    def _begin(self) -> None:
        server, dice = self.server, self.dice
        for name, columns in views.COLUMNS.items():
            for id_ in range(1, dice.randint(2, 7)):
                row = self.writers.row(name, id_)
                assert len(row) == len(columns)
                server.base[name][id_] = row
        server.tables = {name: dict(rows) for name, rows in server.base.items()}
        server.history.start(server.tables)
        for _ in range(dice.randint(0, 4)):
            self.writers.transaction()
        self._new_slot()
        count = min(dice.randint(1, 3), len(self.views))
        chosen = dice.sample(self.views, count)
        for view in chosen:
            for sink in self.stores:
                target = Target(view, sink, view, views.PLANS[view].shape)
                self._make(Generation(target, 1))
        self._boot()

    def _new_slot(self) -> None:
        known = [self.remembered.epoch]
        if self.asks_sinks:
            known += [store.epoch for store in self.stores.values()]
        if self.grows_epoch:
            self.remembered.epoch = 1 + max(known)
        self._epochs.append((self.server.flush_lsn, self.remembered.epoch))
        self.remembered.barrier = self.server.make_slot()
        self.remembered.positions.clear()
        self.remembered.passed, self.remembered.noted = 0, None
        self.remembered.answered.clear()

    def _process(self) -> Process:
        assert self.process is not None
        return self.process

    def _boot(self) -> None:
        self.process = Process(
            self.server, self.stores, self.remembered, self.dice, self.limits
        )
        self.server.gate_of_the_moment = self.process.gate
        self.process.start()

    async def _keep_alive(self) -> None:
        """A supervisor: what has ended is started again."""
        while True:
            await asyncio.sleep(0.05)
            process = self._process()
            if not process.stopped:
                continue
            error = process.problem
            if error is not None and not isinstance(error, asyncio.CancelledError):
                found = errors_in(error)
                if found is None or not all(isinstance(e, Halt) for e in found):
                    self._complain(f"the process ended: {_shown(error)}")
            self._boot()

    # — faults —

    async def _fault(self, kind: str) -> None:
        dice, server, process = self.dice, self.server, self._process()
        store = self.stores[dice.choice(list(self.stores))]
        self.happened.add(kind)
        self.trace.append(f"{asyncio.get_running_loop().time():.3f} {kind}")
        match kind:
            case "stream":
                if process.capture is not None:
                    process.capture.lose()
            case "kill":
                await process.kill()
            case "restart":
                await process.stop()
            case "crash":
                server.crash()
                await self._away()
            case "crash_at_write":
                self._crash_at_write = True
            case "fail_over":
                lsns = [txn.end_lsn for txn in server.log[-5:]]
                await self._go_back(dice.choice([*lsns, server.flush_lsn]))
            case "restore":
                lsns = [txn.end_lsn for txn in server.log]
                await self._go_back(dice.choice([server.begins, *lsns]))
            case "host":
                await process.kill()
                store.fail_over()
            case "pause":
                self.remembered.paused.add(store.name)
                process.lanes[store.name].set_state(LaneState.PAUSED)
            case "stall":
                server.stalled = True
            case "source_slow":
                server.slow = dice.choice((0.05, 0.3))
                for each in self.stores.values():
                    each.tombstone_s = float("inf")  # an hour, where reads take seconds
            case "forward":
                await self._forward()
            case "checkpoint":
                if server.slot is not None:
                    server.slot.on_disk = server.slot.confirmed
            case "repair":
                self._repair(process)
            case "rebuild":
                self._rebuild(process)
            case "truncate":
                self.writers.transaction(truncate=dice.choice(sorted(views.COLUMNS)))
            case "idle":
                server.idle()
            case _:
                store.go_wrong(kind)
        if dice.random() < 0.4:
            asyncio.get_running_loop().call_later(
                dice.choice((0.3, 3.0, 15.0)), self._heal_sinks
            )

    async def _away(self) -> None:
        self.server.down = True
        await asyncio.sleep(self.dice.random())
        self.server.down = False

    async def _go_back(self, lsn: int) -> None:
        """Another server takes over, or one as it was; a new slot, a new epoch.

        What the bridge had written down is gone too.
        """
        await self._process().kill()
        self.server.crash(keep_lsn=lsn)
        self._epochs = [each for each in self._epochs if each[0] <= lsn]
        self.remembered.epoch = self._epochs[-1][1] if self._epochs else 0
        self._new_slot()
        self.remembered.sweeps.update(self.remembered.generations)
        for build in self.remembered.builds.values():
            build.ranges.clear()
        if self._process().stopped:
            self._boot()

    async def _forward(self) -> None:
        """Somebody moves the slot past what was not read, while nobody reads it."""
        process, slot = self._process(), self.server.slot
        assert slot is not None
        saved = self.remembered.positions
        known = max((row.position.lsn for row in saved.values()), default=0)
        if len(saved) < len(self.remembered.generations):
            return  # nothing was written down yet that could tell
        if self.server.flush_lsn <= known:
            return  # all of that is in the sinks
        if process.capture is not None:
            process.capture.lose()
        await asyncio.sleep(0.05)
        slot.confirmed = max(slot.confirmed, self.server.flush_lsn)

    def _repair(self, process: Process) -> None:
        generation = self.dice.choice(self.remembered.generations)
        keys = [(str(id_),) for id_ in range(1, 8)]
        if generation.target.view == "grouped":
            keys = [("a",), ("b",), ("c",)]
        if (
            not process.stopped
            and generation in process.lanes[generation.target.sink].feeds
        ):
            process.group.create_task(process.repair(generation, keys))

    def _make(self, generation: Generation) -> None:
        self.remembered.generations.append(generation)
        self.remembered.builds[generation] = Build()

    def _rebuild(self, process: Process) -> None:
        """Another generation beside the first."""
        if process.stopped:
            return
        target = self.dice.choice(self.remembered.generations).target
        generation = Generation(target, self._next)
        self._next += 1
        self._make(generation)
        process.group.create_task(process.add(generation))

    def _heal_sinks(self) -> None:
        self.remembered.paused.clear()
        for store in self.stores.values():
            halted = store.faults.halted
            store.faults = type(store.faults)()
            lane = self._process().lanes[store.name]
            if halted or lane.state in (LaneState.HALTED, LaneState.PAUSED):
                lane.set_state(LaneState.OK)

    def _heal(self) -> None:
        self._heal_sinks()
        self.server.slow = 0.0
        self.server.unstall()

    # — at rest —

    async def _rest(self) -> None:
        """Everything comes to rest, and is what the source says."""
        loop = asyncio.get_running_loop()
        until, why = loop.time() + REST_S, "not started"
        lsn = 0
        while loop.time() < until:
            await asyncio.sleep(0.5)
            self._heal()
            if self.wrong:
                return
            process, server = self._process(), self.server
            if process.stopped or server.running:
                why = "transactions or process"
                continue
            if lsn == 0:
                lsn = await self._marker(process)
                why = "a marker does not come back"
                continue
            why = process.busy()
            slot = server.slot
            assert slot is not None
            if not why and slot.confirmed < lsn:
                why = f"the slot stays at {slot.confirmed}, before {lsn}"
            if not why:
                self._compare()
                return
        self._complain(f"not at rest after {REST_S} s: {why}")

    async def _marker(self, process: Process) -> int:
        """Where the log ends now; 0 when it could not be learnt."""
        marker = asyncio.create_task(process.pipeline.markers.next())
        await asyncio.wait({marker}, timeout=20)
        marker.cancel()
        if not marker.done() or marker.cancelled() or marker.exception():
            return 0
        return marker.result()

    def _compare(self) -> None:
        for generation in self.remembered.generations:
            view = generation.target.view
            expected = views.ORACLE[view](self.server.tables)
            store = self.stores[generation.target.sink]
            held: views.Documents = {
                (stored.key,): stored.document
                for stored in store.places.get(generation, {}).values()
                if stored.document is not None
            }
            letters = self.remembered.letters.get(generation_key(generation), {})
            bad = {key_text(k) for k, told in expected.items() if told == views.FAILS}
            if bad != letters.keys():
                self._complain(f"at rest {generation} has {letters}, not of {bad}")
            for key in sorted(expected.keys() | held.keys()):
                if key_text(key) in bad:
                    continue  # an older one may be there
                if expected.get(key) != held.get(key):
                    self._complain(
                        f"at rest {generation} {key} is {held.get(key)!r}, "
                        f"not {expected.get(key)!r}"
                    )


def _limits(dice: random.Random) -> Limits:
    return Limits(
        LaneLimits(
            bytes_max=dice.choice((1500, 6000, 1 << 20)),
            patience_s=dice.choice((0.1, 1.0)),
            linger_s=0.02,
            retry_first_s=0.02,
            retry_max_s=dice.choice((0.2, 6.0)),
        ),
        wal_budget_bytes=dice.choice((1000, 5000, 1 << 40)),
        owed_keys_max=dice.choice((3, 1000)),
    )


def _shown(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_shown(inner) for inner in error.exceptions)
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
    return f"{type(error).__name__}: {error} ({where})"


def simulate(seed: int, *, grows_epoch: bool = True) -> World:
    """Run the history of a seed; AssertionError when a promise was broken."""
    world = World(seed, grows_epoch=grows_epoch)
    clock.run(world.run())
    return world
