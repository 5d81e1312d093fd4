"""Dead letters: documents refused for good are recorded, and the rest goes on.

The one thing to know: a refusal is durable before anything of its write is booked as
kept, and a letter is cleared only by a later version of its key that was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial

from bridge.backfill.patience import patiently
from bridge.batch import FanOut
from bridge.keys import Parts, key_text
from bridge.lanes import Outcomes
from bridge.operations import Rejection
from bridge.sink import Generation
from bridge.store import Store
from bridge.store.rows import DeadLetterRow, GenerationKey, Letter, Stage


def generation_key(generation: Generation) -> GenerationKey:
    """What the store calls a generation."""
    target = generation.target
    return GenerationKey(target.sink, target.name, generation.number)


class Letters:
    """Where the lanes and the deriver put what cannot be delivered."""

    def __init__(
        self,
        store: Store,
        fan_out: FanOut,
        *,
        count_max: int,
        too_many: Callable[[Generation, int], None],
    ) -> None:
        """`too_many` is told of a generation with more than `count_max` letters."""
        self._store = store
        self._fan_out = fan_out
        self._count_max = count_max
        self._too_many = too_many
        self._turn = asyncio.Lock()
        """No letter is written down after what has cleared it."""

    async def load(self) -> None:
        """Learn which keys of the generations that are fed have letters."""
        for key, keys in (await self._store.letters.keys()).items():
            for outlet in self._fan_out.outlets():
                if generation_key(outlet.generation) == key:
                    _note(outlet.lane.feeds[outlet.generation].dead, keys)

    async def pages(
        self, view: str, keys: Collection[str] | None = None
    ) -> AsyncIterator[list[DeadLetterRow]]:
        """All letters of a view, or those of some keys. One that is noted again while
        its page is worked on stands where it stood, and is not met once more."""
        look, last = partial(self._store.letters.list, view, keys), None
        while letters := await patiently(partial(look, after=last)):
            yield letters
            last = letters[-1]

    async def forget_dropped(self) -> None:
        """What an operator has dropped is no letter any more. Transient."""
        before = [
            (generation_key(outlet.generation), dead, dict(dead))
            for outlet in self._fan_out.outlets()
            if (dead := outlet.lane.feeds[outlet.generation].dead)
        ]
        if not before:
            return
        stored = await self._store.letters.keys()
        for key, dead, known in before:
            for text in known.keys() - stored.get(key, {}):
                # One that has come meanwhile may not be in what was read.
                if dead.get(text) == known[text]:
                    del dead[text]

    async def of_view(
        self, view: str, refused: Sequence[tuple[Parts, Rejection]], version: int
    ) -> None:
        """Keys whose document cannot be made, for every generation of the view."""
        generations = [outlet.generation for outlet in self._fan_out.of(view)]
        await self.of_generations(generations, refused, version)

    async def of_generations(
        self,
        generations: Collection[Generation],
        refused: Sequence[tuple[Parts, Rejection]],
        version: int,
    ) -> None:
        """Keys whose document cannot be made, for these generations."""
        letters = [
            Letter(key_text(parts), parts, Stage.DERIVE, rejection.reason, version)
            for parts, rejection in refused
        ]
        for generation in generations:
            self._note(generation, letters)
        for generation in generations:
            await self._save(generation, letters)

    async def of_write(self, outcomes: Outcomes) -> None:
        """What a sink has refused, and what it took of keys that have letters."""
        generation, report, operations, _, dead = outcomes
        if report.rejections:
            letters = [
                Letter(o.key, o.parts, Stage.DELIVER, rejection.reason, o.version)
                for o, rejection in (
                    (operations[i], r) for i, r in report.rejections.items()
                )
            ]
            self._note(generation, letters)
            await self._save(generation, letters)
        if dead:
            again = set(report.again) | report.rejections.keys()
            kept = [
                (o.key, o.version)
                for i, o in enumerate(operations)
                if i not in again and dead.get(o.key, o.version + 1) <= o.version
            ]
            if kept:
                await self._clear(generation, kept, dead)

    async def _clear(
        self,
        generation: Generation,
        kept: Collection[tuple[str, int]],
        dead: dict[str, int],
    ) -> None:
        key = generation_key(generation)
        async with self._turn:
            await patiently(partial(self._store.letters.clear, key, kept))
        for text, version in kept:
            if dead.get(text, version + 1) <= version:
                del dead[text]

    def _note(self, generation: Generation, letters: list[Letter]) -> None:
        """Known before they are written down: what is kept meanwhile clears them."""
        outlet = self._fan_out.outlet(generation)
        if outlet is not None:
            dead = outlet.lane.feeds[generation].dead
            _note(dead, {letter.key: letter.version for letter in letters})

    async def _save(self, generation: Generation, letters: list[Letter]) -> None:
        key, view = generation_key(generation), generation.target.view
        async with self._turn:
            await patiently(partial(self._store.letters.save, key, view, letters))
        outlet = self._fan_out.outlet(generation)
        if outlet is None:
            return
        count = len(outlet.lane.feeds[generation].dead)
        if count > self._count_max:
            self._too_many(generation, count)


def _note(dead: dict[str, int], letters: Mapping[str, int]) -> None:
    """The later letter of a key is the one that there is."""
    for text, version in letters.items():
        dead[text] = max(version, dead.get(text, version))
