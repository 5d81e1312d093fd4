"""The bridge's own tables, in the simulated server.

The one thing to know: only what is in here outlives a process. A write is durable when
its answer comes, and its answer may get lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace

from bridge.backfill.ranges import Range
from bridge.control.letters import generation_key
from bridge.errors import Transient
from bridge.position import Position
from bridge.sink import Generation
from bridge.store.rows import (
    GenerationKey,
    GenerationState,
    Letter,
    LogKnown,
    OwedKey,
    ProgressRow,
    SinkState,
)
from tests.simulation.source import Server


@dataclass
class Build:
    """The ranges of one generation's build."""

    ranges: dict[int, tuple[Range, bool]] = field(default_factory=dict)
    done: bool = False
    again: bool = False
    """Begun once more over what is there: what is left of that is to go, too."""


@dataclass
class Remembered:
    """What is written down."""

    epoch: int = 0
    barrier: int = 0
    generations: list[Generation] = field(default_factory=list)
    builds: dict[Generation, Build] = field(default_factory=dict)
    sweeps: set[Generation] = field(default_factory=set)
    """Sweeps that were begun and are not done."""
    positions: dict[GenerationKey, ProgressRow] = field(default_factory=dict)
    owed: dict[GenerationKey, dict[str, OwedKey]] = field(default_factory=dict)
    owed_all: set[GenerationKey] = field(default_factory=set)
    letters: dict[GenerationKey, dict[str, int]] = field(default_factory=dict)
    sinks: dict[str, SinkState] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    """Sinks that the operator has paused."""
    passed: int = 0
    noted: int | None = None
    doubt: str = ""
    answered: dict[str, int] = field(default_factory=dict)
    server_life: int = 0
    """Which start of the server was read from last."""

    @property
    def debts(self) -> bool:
        """Whether any sink is owed anything."""
        return any(self.owed.values()) or bool(self.owed_all)


class BuildLog:
    """`RangeLog` of a build."""

    def __init__(self, build: Build) -> None:
        self._build = build

    async def ranges(self) -> tuple[list[Range], Range | None]:
        found = self._build.ranges
        left = [span for span, done in found.values() if not done]
        return left, found[max(found)][0] if found else None

    async def begun(self, span: Range) -> None:
        self._build.ranges[span.number] = (span, False)

    async def done(self, span: Range, documents: int) -> None:
        await asyncio.sleep(0)
        self._build.ranges[span.number] = (span, True)


class Tables:
    """What the simulated parts use of `bridge.store.Store`."""

    def __init__(self, server: Server, remembered: Remembered) -> None:
        self._server = server
        self._rows = remembered
        self.positions = _Positions(self)
        self.generations = _Generations(self)
        self.owed = _Owed(self)
        self.letters = _Letters(self)

    async def write(self, change: Callable[[Remembered], None]) -> None:
        """One statement: done as a whole, or not, or done and nobody told."""
        server, life = self._server, self._server.life
        await server._work()
        server.check(life)
        change(self._rows)
        server.idle()
        if server.dice.random() < 0.02:
            raise Transient("the answer was lost")
        await asyncio.sleep(0)
        server.check(life)

    async def read(self) -> Remembered:
        """What is written down now."""
        life = self._server.life
        await self._server._work()
        self._server.check(life)
        return self._rows

    async def save_passed(self, lsn: int) -> None:
        """See `Store.save_passed`."""
        await self.write(lambda rows: setattr(rows, "passed", max(rows.passed, lsn)))

    async def passed(self) -> int:
        """See `Store.passed`."""
        return (await self.read()).passed

    async def save_noted(self, lsn: int) -> None:
        """See `Store.save_noted`."""
        await self.write(lambda rows: setattr(rows, "noted", max(rows.noted or 0, lsn)))

    async def log(self) -> LogKnown:
        """See `Store.log`."""
        return LogKnown((await self.read()).noted, self._server.insert_lsn)

    async def doubt(self, reason: str) -> None:
        """See `Store.doubt`."""
        await self.write(lambda rows: setattr(rows, "doubt", reason))

    async def sinks(self) -> list[SimpleNamespace]:
        """See `Store.sinks`."""
        rows = (await self.read()).sinks
        answered, paused = self._rows.answered, self._rows.paused
        return [
            SimpleNamespace(
                name=name,
                state=rows.get(name, SinkState.OK),
                paused=name in paused,
                answered=answered.get(name, 0),
            )
            for name in sorted({*rows, *answered, *paused})
        ]

    async def save_answered(self, name: str, answered: int) -> None:
        """See `Store.save_answered`."""
        await self.write(
            lambda rows: rows.answered.update(
                {name: max(answered, rows.answered.get(name, 0))}
            )
        )

    async def set_sink_state(self, name: str, state: SinkState, _why: str = "") -> None:
        """See `Store.set_sink_state`."""
        await self.write(lambda rows: rows.sinks.__setitem__(name, state))


class _Positions:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save(self, rows: Collection[ProgressRow]) -> None:
        found = {row.key: row for row in rows}
        await self._tables.write(lambda kept: kept.positions.update(found))

    async def load(self) -> dict[GenerationKey, ProgressRow]:
        return dict((await self._tables.read()).positions)


class _Generations:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def all(self) -> list[SimpleNamespace]:
        kept = await self._tables.read()
        views = {generation_key(g): g.target.view for g in kept.generations}
        return [
            SimpleNamespace(
                key=key,
                view=view,
                sweep=key in kept.owed_all,
                state=GenerationState.LIVE,
                view_fingerprint=view,
            )
            for key, view in views.items()
        ]

    async def set_sweep(self, key: GenerationKey, *, sweep: bool) -> None:
        def change(kept: Remembered) -> None:
            (kept.owed_all.add if sweep else kept.owed_all.discard)(key)

        await self._tables.write(change)


class _Letters:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save(
        self, key: GenerationKey, _view: str, letters: Collection[Letter]
    ) -> None:
        def change(kept: Remembered) -> None:
            rows = kept.letters.setdefault(key, {})
            for one in letters:
                rows[one.key] = max(one.version, rows.get(one.key, 0))

        await self._tables.write(change)

    async def clear(
        self, key: GenerationKey, kept: Collection[tuple[str, int]]
    ) -> None:
        def change(tables: Remembered) -> None:
            rows = tables.letters.get(key, {})
            for text, version in kept:
                if rows.get(text, version + 1) <= version:
                    del rows[text]

        await self._tables.write(change)

    async def list(
        self,
        _view: str,
        _keys: None = None,
        *,
        after: SimpleNamespace | None = None,
    ) -> list[SimpleNamespace]:
        found = (await self._tables.read()).letters
        rows = [
            SimpleNamespace(generation=key, key=text, parts=(text,), version=version)
            for key in sorted(found)
            for text, version in sorted(found[key].items())
        ]
        last = None if after is None else (after.generation, after.key)
        left = [row for row in rows if last is None or (row.generation, row.key) > last]
        return left[:_LETTERS_AT_ONCE]

    async def keys(self) -> dict[GenerationKey, dict[str, int]]:
        found = (await self._tables.read()).letters
        return {key: dict(rows) for key, rows in found.items() if rows}


_LETTERS_AT_ONCE = 2


class _Owed:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, key: GenerationKey, owed: Collection[OwedKey]) -> None:
        def change(kept: Remembered) -> None:
            rows = kept.owed.setdefault(key, {})
            for one in owed:
                if one.key not in rows or rows[one.key].position < one.position:
                    rows[one.key] = one

        await self._tables.write(change)

    async def page(
        self, key: GenerationKey, *, after: str = "", count: int
    ) -> list[OwedKey]:
        rows = (await self._tables.read()).owed.get(key, {})
        return [rows[text] for text in sorted(rows) if text > after][:count]

    async def remove(
        self, key: GenerationKey, kept: Collection[tuple[str, Position]]
    ) -> None:
        def change(tables: Remembered) -> None:
            rows = tables.owed.get(key, {})
            for text, position in kept:
                if text in rows and rows[text].position <= position:
                    del rows[text]

        await self._tables.write(change)

    async def remove_up_to(self, key: GenerationKey, position: Position) -> None:
        def change(kept: Remembered) -> None:
            rows = kept.owed.get(key, {})
            for text in [t for t, one in rows.items() if one.position <= position]:
                del rows[text]

        await self._tables.write(change)

    async def count(self) -> dict[GenerationKey, int]:
        owed = (await self._tables.read()).owed
        return {key: len(rows) for key, rows in owed.items() if rows}
