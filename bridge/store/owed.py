"""Keys that are owed to a generation, kept when its sink does not take documents.

The one thing to know: a key leaves only at a position that is not below the one that
asked for it last.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.position import Position, format_lsn, parse_lsn
from bridge.store.literals import generation_key, literal
from bridge.store.rows import GenerationKey, OwedKey
from bridge.store.session import Session

PAGE_KEYS = 5000
"""Keys of one statement."""


class OwedKeys:
    """`bridge.owed_key`, a row a generation and key."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, key: GenerationKey, owed: Collection[OwedKey]) -> None:
        """Record keys durably, in statements of 5,000; of two positions for one key
        the higher stays. Nothing is recorded for a forgotten generation."""
        highest: dict[str, OwedKey] = {}
        for one in owed:  # one statement cannot touch a row twice
            if one.key not in highest or highest[one.key].position < one.position:
                highest[one.key] = one
        rows = list(highest.values())
        for start in range(0, len(rows), PAGE_KEYS):
            page = rows[start : start + PAGE_KEYS]
            await self._session.run(
                "add_owed",
                keys=[one.key for one in page],
                parts=[literal(one.parts) for one in page],
                epochs=[one.position.epoch for one in page],
                lsns=[format_lsn(one.position.lsn) for one in page],
                **key._asdict(),
            )

    async def page(
        self, key: GenerationKey, *, after: str = "", count: int = PAGE_KEYS
    ) -> list[OwedKey]:
        """Up to `count` of the keys owed that sort above `after`, by key."""
        rows = await self._session.rows(
            "page_owed", after=after, count=count, **key._asdict()
        )
        return [
            OwedKey(
                row["key"],
                tuple(row["parts"]),
                Position(row["epoch"], parse_lsn(row["lsn"])),
            )
            for row in rows
        ]

    async def remove(
        self, key: GenerationKey, kept: Collection[tuple[str, Position]]
    ) -> None:
        """These keys were kept at these positions; one that a later position asked
        for stays."""
        await self._session.run(
            "remove_owed",
            keys=[text for text, _ in kept],
            epochs=[position.epoch for _, position in kept],
            lsns=[format_lsn(position.lsn) for _, position in kept],
            **key._asdict(),
        )

    async def remove_up_to(self, key: GenerationKey, position: Position) -> None:
        """A sweep at `position` has covered every key."""
        await self._session.run(
            "remove_owed_up_to",
            epoch=position.epoch,
            lsn=format_lsn(position.lsn),
            **key._asdict(),
        )

    async def count(self) -> dict[GenerationKey, int]:
        """How many keys are owed, by generation; those without are left out."""
        rows = await self._session.rows("count_owed")
        return {generation_key(row): row["count"] for row in rows}
