"""Carrying out commands: each once, in the order of the log, with its outcome.

The one thing to know: a command that the stream brings again after a crash has its
outcome in the table and is skipped; one without an outcome is simply done again, and
each is made so that doing it twice is doing it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import assert_never

from bridge import probes
from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.backfill.patience import ended, patiently
from bridge.backfill.rebuild import Rebuilds
from bridge.backfill.running import Cancelled, declared
from bridge.control.commands import (
    Agenda,
    Backfill,
    Cancel,
    Configure,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    parse,
)
from bridge.control.cutoff import is_built
from bridge.control.letters import generation_key
from bridge.deliver import Lane
from bridge.errors import Halt, Refusal, Transient, sentence
from bridge.lanes import LaneState
from bridge.observe.logs import logger
from bridge.sink import Generation
from bridge.store.rows import (
    BackfillKind,
    BackfillRow,
    CommandRow,
    CommandState,
    DeadLetterRow,
    GenerationKey,
    GenerationState,
)

_log = logger("bridge.control")
_LOOK_S = 0.05
_TELL_S = 0.5


class Operator:
    """Takes commands from the table, when they are due, and carries them out."""

    def __init__(
        self, assembly: Assembly, life: Life, *, configure: Callable[[], None]
    ) -> None:
        """`configure` takes up the edited file."""
        self._assembly = assembly
        self._life = life
        self._rebuilds = Rebuilds(assembly, life)
        self._interval_s = assembly.config.limits.command_interval_s
        self._configure = configure
        self._agenda = Agenda()
        self._announced = asyncio.Event()
        self._pausing = {name: asyncio.Lock() for name in assembly.lanes}
        self._switched: set[tuple[int, GenerationKey]] = set()
        """Parts of commands that are carried out, while others of theirs wait."""
        life.commands_first = self.commands_first

    def announce(self, command: int, lsn: int) -> None:
        """The stream has passed a command's message, which ends at `lsn`."""
        self._agenda.announce(command, lsn)
        self._announced.set()

    async def run(self) -> None:
        """Carry out commands until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._announced.wait()
            except TimeoutError:
                pass
            # Whatever is announced in the same moment, by whoever, is one look.
            await asyncio.sleep(_LOOK_S)
            self._announced.clear()
            try:
                rows = await self._assembly.store.commands.open()
            except Transient:
                continue
            ledger = self._assembly.pipeline.ledger
            self._agenda.look(rows, ledger.wal_end)
            for row in self._agenda.due(ledger.end, self._halted()):
                self._assembly.spawn(self._carry_out(row), f"command {row.id}")

    async def commands_first(self, generation: Generation) -> None:
        """Wait until what operators have asked of its target by now is carried out.

        A build that goes on after a crash would else be seen before an earlier command
        has rolled back, or cancelled it.
        """
        look = partial(self._asked, generation_key(generation))
        await self._carried_out({row.id for row in await patiently(look)}, look)

    async def _in_turn(self, key: GenerationKey, row: CommandRow) -> None:
        """Wait until what was asked of its target before this command is carried out:
        of two that switch readers the later one holds, however long one takes."""
        look = partial(self._asked, key)
        asked = {each.id for each in await patiently(look)}
        await self._carried_out({each for each in asked if each < row.id}, look)

    async def _carried_out(
        self, asked: set[int], look: Callable[[], Awaitable[list[CommandRow]]]
    ) -> None:
        while asked:
            asked &= {row.id for row in await patiently(look)}
            if asked:
                await asyncio.sleep(_LOOK_S)

    async def _asked(self, key: GenerationKey) -> list[CommandRow]:
        found = []
        for row in await self._assembly.store.commands.open():
            with suppress(Refusal):
                match parse(row):
                    case Promote(generations=keys) | RollBack(generations=keys):
                        # Not what waits for another sink.
                        if any(
                            each[:2] == key[:2] and (row.id, each) not in self._switched
                            for each in keys
                        ):
                            found.append(row)
                    case Cancel(command=command):
                        store = self._assembly.store.backfills
                        if any(b.key == key for b in await store.of_command(command)):
                            found.append(row)
                    case _:
                        pass
        return found

    def _halted(self) -> set[GenerationKey | str]:
        halted: set[GenerationKey | str] = {
            name
            for name, lane in self._assembly.lanes.items()
            if lane.state is LaneState.HALTED
        }
        for generation in self._life.states:
            target = generation.target
            if (target.sink, target.name) in self._assembly.halted:
                halted.add(generation_key(generation))
        return halted

    async def _carry_out(self, row: CommandRow) -> None:
        commands = self._assembly.store.commands
        lsn = self._agenda.place(row.id)
        if not await patiently(partial(commands.start, row.id, lsn=lsn)):
            return
        await probes.reach("command.begun")
        telling = asyncio.create_task(self._tell(row), name=f"waits {row.id}")
        try:
            message = await self._do(row)
        except Cancelled as error:
            outcome, message = CommandState.CANCELLED, error.message
        except Exception as raised:  # noqa: BLE001 - it fails, the others go on
            problem = declared(raised)
            if isinstance(problem, Transient):
                _log.warning("command waits", command=row.id, reason=problem.message)
                self._agenda.again(row.id)
                return
            outcome, message = CommandState.FAILED, sentence(problem)
        else:
            outcome = CommandState.DONE
        finally:
            await ended(telling)
        await probes.reach("command.done")
        await patiently(partial(commands.finish, row.id, outcome, message))
        _log.info(
            "command", id=row.id, kind=row.kind, outcome=outcome, by=row.issued_by
        )

    async def _tell(self, row: CommandRow) -> None:
        """Write down what a command waits for, while it does: whoever follows it, or
        asks for the status, is to know what lets it go on."""
        told = row.message
        while True:
            await asyncio.sleep(_TELL_S)
            reason = self._waits_for(row)
            if reason == told:
                continue
            with suppress(Transient):
                await self._assembly.store.commands.tell(row.id, reason)
                told = reason

    def _waits_for(self, row: CommandRow) -> str:
        """What keeps a command from going on; empty: nothing that is known of."""
        keys = self._addressed(row)
        for sink in dict.fromkeys(key.sink for key in keys):
            if reason := waits_for(self._assembly.lanes.get(sink)):
                return reason
        for key in keys:
            generation = self._assembly.generation(key)
            if generation is not None and generation in self._life.switches.waits:
                return self._life.switches.waits[generation]
        return ""

    def _addressed(self, row: CommandRow) -> list[GenerationKey]:
        """The generations of which something is done for a command."""
        match parse(row):
            case Backfill(rebuild=True, view=view, target=wanted):
                return [
                    generation_key(generation)
                    for generation in self._life.states
                    if generation.target.view == view
                    and wanted in {None, generation.target.sink, str(generation.target)}
                ]
            case Backfill(generations=keys) | Promote(generations=keys):
                return list(keys)
            case RollBack(generations=keys):
                return list(keys)
            case Cancel(command=command):
                under_way = self._life.under_way
                return [each.key for each in under_way if each.command == command]
            case Retry(view=view):
                return [
                    generation_key(g)
                    for g in self._life.states
                    if g.target.view == view
                ]
            case _:
                return []

    async def _do(self, row: CommandRow) -> str:
        command = parse(row)
        match command:
            case Pause():
                return await self._pause(command.sink, paused=True)
            case Resume():
                return await self._pause(command.sink, paused=False)
            case Backfill():
                return await self._backfill(command, row.issued_at)
            case Promote():
                return await self._promote(command, row)
            case RollBack():
                return await self._roll_back(command, row)
            case Cancel():
                return await self._cancel(command)
            case Retry():
                return await self._retry(command)
            case Configure():
                self._configure()
                return "the edited configuration is taken up"
            case _:
                assert_never(command)

    async def _pause(self, sink: str, *, paused: bool) -> str:
        lane = self._assembly.lanes.get(sink)
        if lane is None:
            raise Refusal(f"there is no sink {sink} in the file")
        store = self._assembly.store
        async with self._pausing[sink]:  # the one that was asked for last, last
            await patiently(partial(store.set_sink_paused, sink, paused=paused))
            lane.set_state(LaneState.PAUSED if paused else LaneState.OK)
            if not paused:
                await self._life.resume(sink)
        return f"sink {sink} is {'paused' if paused else 'written to again'}"

    async def _backfill(self, command: Backfill, issued_at: datetime) -> str:
        if command.rebuild:
            return await self._rebuild(command, issued_at)
        kind = BackfillKind.SWEEP
        if command.keys is not None:
            kind = BackfillKind.KEYS
        elif command.condition is not None:
            kind = BackfillKind.WHERE
        store = self._assembly.store.backfills
        states, rows, gone = self._life.states, list[BackfillRow](), ""
        for key in command.generations:
            if self._assembly.generation(key) not in states:
                gone = gone or f"{key} is not kept any more"
                continue
            begun = await store.create(
                key,
                view=command.view,
                kind=kind,
                condition=command.condition,
                keys=command.keys,
                command=command.id,
            )
            if (row := await store.read(begun)) is not None:
                rows.append(row)
        if await self._rebuilds.is_cancelled(command.id):
            for row in rows:
                await self._life.backfills.cancel(row)
            raise Cancelled("the backfill was cancelled before it began")
        documents = sum(await _all(self._life.backfills.follow(row) for row in rows))
        if gone:
            raise Halt(gone, hint="see `pgbridge status`")
        return f"{documents:,} document{'' if documents == 1 else 's'} derived again"

    async def _rebuild(self, command: Backfill, issued_at: datetime) -> str:
        wanted = [
            target
            for target in self._assembly.targets.values()
            if target.view == command.view
            and command.target in {None, target.sink, str(target)}
        ]
        if not wanted:
            raise Refusal(f"view {command.view} has no such target")
        numbers = await _all(
            self._rebuilds.rebuild(target, command.id, issued_at) for target in wanted
        )
        return ", ".join(
            f"{target} g{number} is built and live"
            for target, number in zip(wanted, numbers, strict=True)
        )

    async def _promote(self, command: Promote, row: CommandRow) -> str:
        await _all(
            self._switch_to(key, row, force=command.force, complete=True)
            for key in command.generations
        )
        return ", ".join(f"{key} is live" for key in command.generations)

    async def _roll_back(self, command: RollBack, row: CommandRow) -> str:
        await _all(self._switch_to(key, row, force=True) for key in command.generations)
        return ", ".join(f"{key} is live" for key in command.generations)

    async def _switch_to(
        self,
        key: GenerationKey,
        row: CommandRow,
        *,
        force: bool,
        complete: bool = False,
    ) -> int:
        """Let readers see this one; its number. `complete`: not one being built."""
        # A switch that a crash has cut off is known once its sink has told.
        if (claimed := self._life.claimed.get(key.sink)) is not None:
            await claimed.wait()
        await self._in_turn(key, row)
        if not await self._was_switched(key, row):
            generation = self._fed(key)
            if complete and not await self._is_complete(generation):
                raise Halt(
                    f"{generation} is not complete yet",
                    hint="it is promoted by itself as soon as it is",
                )
            await self._life.switches.promote(generation, force=force)
        self._switched.add((row.id, key))
        return key.number

    async def _is_complete(self, generation: Generation) -> bool:
        """Whether all of it was built. What goes on with that in another life does not
        count: it waits for what was asked before."""
        if generation not in self._life.building:
            return True
        key, store = generation_key(generation), self._assembly.store
        return generation not in self._life.lost and await patiently(
            partial(is_built, store, key)
        )

    async def _was_switched(self, key: GenerationKey, row: CommandRow) -> bool:
        """Whether this part of a command was carried out before a crash, and something
        asked for later since: to do it again would undo that."""
        if (row.id, key) in self._switched:
            return True
        if row.state is not CommandState.RUNNING or row.started_at is None:
            return False
        for found in await patiently(self._assembly.store.generations.all):
            live = found.state is GenerationState.LIVE and found.key[:2] == key[:2]
            if live and found.key != key and found.published_at is not None:
                return found.published_at > row.started_at
        return False

    def _fed(self, key: GenerationKey) -> Generation:
        generation = self._assembly.generation(key)
        if generation is None or generation not in self._life.states:
            raise Halt(f"{key} is not kept any more", hint="see `pgbridge status`")
        return generation

    async def _cancel(self, command: Cancel) -> str:
        await self._rebuilds.abandon(command.command)
        for row in await self._assembly.store.backfills.of_command(command.command):
            if row.kind is not BackfillKind.BUILD:
                await self._life.backfills.cancel(row)
        return f"command {command.command} is cancelled"

    async def _retry(self, command: Retry) -> str:
        if command.view not in self._assembly.config.views:
            raise Refusal(f"there is no view {command.view} in the file")
        tried = left = 0
        async for letters in self._assembly.letters.pages(command.view, command.keys):
            done = await self._try_again(letters)
            tried, left = tried + done, left + len(letters) - done
        then = f"; {left:,} of what is not kept up to date were not" if left else ""
        return f"{tried:,} dead letters were tried again{then}"

    async def _try_again(self, letters: Sequence[DeadLetterRow]) -> int:
        """Derive the documents of these letters again; how many that could be."""
        by_generation: dict[GenerationKey, list[tuple[str | None, ...]]] = {}
        for letter in letters:
            by_generation.setdefault(letter.generation, []).append(letter.parts)
        tried = 0
        for key, parts in by_generation.items():
            generation = self._assembly.generation(key)
            if generation is None or not self._life.is_fed(generation):
                continue  # of a target that was taken out, or what is to be dropped
            if (plan := self._assembly.plan(generation)) is not None:
                await self._life.jobs.keys(generation, plan, parts)
                tried += len(parts)
        return tried


def waits_for(lane: Lane | None) -> str:
    """Why nothing is written to a sink now, and what lets it go on; empty: it is."""
    if lane is None or lane.shown is LaneState.OK:
        return ""
    if lane.shown is LaneState.PAUSED:
        why, then = "paused", f"`pgbridge resume {lane.name}` lets it go on"
    elif lane.shown is LaneState.HALTED:
        why = f"halted: {lane.reason}"
        then = f"`pgbridge resume {lane.name}` tries it again"
    else:
        why = f"{lane.shown.value}: {lane.reason}".rstrip(": ")
        then = "it goes on by itself"
    return f"waits, since sink {lane.name} is {why}; {then}"


async def _all(work: Iterable[Awaitable[int]]) -> list[int]:
    """What each gives, done at the same time; all have ended when the first error is
    raised."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, int)]
