"""Documents that were refused for good, and are to be looked at by somebody.

The one thing to know: a letter goes when its key is kept at a version that is not
below the refused one, whoever derived it again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bridge.store.literals import generation_key, literal
from bridge.store.rows import DeadLetterRow, GenerationKey, Letter, Stage
from bridge.store.session import Session

LIST_MAX = 10_000
"""Letters of one list."""
REASON_CHARACTERS_MAX = 1000


class DeadLetters:
    """`bridge.dead_letter`, a row a generation and key."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def save(
        self, key: GenerationKey, view: str, letters: Collection[Letter]
    ) -> None:
        """Record refusals; one of a key that has a letter is another attempt, unless
        the letter is of a later version. Reasons are cut to 1,000 characters."""
        newest: dict[str, Letter] = {}
        for letter in letters:  # one statement cannot touch a row twice
            if letter.key not in newest or newest[letter.key].version <= letter.version:
                newest[letter.key] = letter
        rows = list(newest.values())
        await self._session.run(
            "save_letters",
            view=view,
            keys=[letter.key for letter in rows],
            parts=[literal(letter.parts) for letter in rows],
            stages=[letter.stage.value for letter in rows],
            reasons=[letter.reason[:REASON_CHARACTERS_MAX] for letter in rows],
            versions=[letter.version for letter in rows],
            **key._asdict(),
        )

    async def clear(
        self, key: GenerationKey, kept: Collection[tuple[str, int]]
    ) -> None:
        """These keys were kept at these versions: what refused them before is over."""
        await self._session.run(
            "clear_letters",
            keys=[text for text, _ in kept],
            versions=[version for _, version in kept],
            **key._asdict(),
        )

    async def list(
        self,
        view: str | None = None,
        keys: Collection[str] | None = None,
        *,
        count: int = LIST_MAX,
        after: DeadLetterRow | None = None,
    ) -> list[DeadLetterRow]:
        """Letters of all views, of one, or of some keys, by view, target and key: so
        many at most, of those that come after one in that order."""
        sink, name, number = after.generation if after else (None, None, None)
        rows = await self._session.rows(
            "list_letters",
            view=view,
            keys=None if keys is None else [*keys],
            count=count,
            after_view=after.view if after else None,
            after_sink=sink,
            after_name=name,
            after_number=number,
            after_key=after.key if after else None,
        )
        return [_letter(row) for row in rows]

    async def total(
        self, view: str | None = None, keys: Collection[str] | None = None
    ) -> int:
        """How many letters there are of all views, of one, or of some keys."""
        row = await self._session.row(
            "total_letters", view=view, keys=None if keys is None else [*keys]
        )
        assert row is not None
        return int(row["count"])

    async def drop(
        self, view: str | None = None, keys: Collection[str] | None = None
    ) -> int:
        """Forget letters without deriving anything; how many there were."""
        return await self._session.run(
            "drop_letters", view=view, keys=None if keys is None else [*keys]
        )

    async def keys(self) -> dict[GenerationKey, dict[str, int]]:
        """The keys that have a letter and its version, by generation; those without
        are left out."""
        found: dict[GenerationKey, dict[str, int]] = {}
        for row in await self._session.rows("letter_keys"):
            found.setdefault(generation_key(row), {})[row["key"]] = row["version"]
        return found

    async def count(self) -> dict[GenerationKey, int]:
        """How many letters there are, by generation; those without are left out."""
        rows = await self._session.rows("count_letters")
        return {generation_key(row): row["count"] for row in rows}


def _letter(row: dict[str, Any]) -> DeadLetterRow:
    return DeadLetterRow(
        view=row["view"],
        generation=generation_key(row),
        key=row["key"],
        parts=tuple(row["parts"]),
        stage=Stage(row["stage"]),
        reason=row["reason"],
        version=row["version"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        attempts=row["attempts"],
    )
