"""Documents that the continuous comparison has found wrong, until they are right again.

The one thing to know: nothing is mended because of a row here; it is a report, which
people read, and which the comparison itself looks at again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from bridge.keys import Parts
from bridge.store.literals import generation_key, literal
from bridge.store.rows import GenerationKey
from bridge.store.session import Session

KEPT_MAX = 1000
"""Of a generation, or a few more: who sees so many asks `pgbridge verify`."""


class WrongDocument(NamedTuple):
    """One document that is not what the source says."""

    key: str
    parts: Parts
    kind: str
    """`missing`, `different` or `extra`."""
    fields: Sequence[str] = ()


class Differences:
    """`bridge.difference`, a row a generation and key."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def save(self, key: GenerationKey, found: Collection[WrongDocument]) -> None:
        """These are wrong; writes only what has changed, and not without end."""
        if not found:
            return
        await self._session.run(
            "save_differences",
            keys=[one.key for one in found],
            parts=[literal(one.parts) for one in found],
            kinds=[one.kind for one in found],
            fields=[literal(tuple(one.fields)) for one in found],
            count_max=KEPT_MAX,
            **key._asdict(),
        )

    async def clear(self, key: GenerationKey, keys: Collection[str]) -> None:
        """The documents of these keys are right again."""
        if keys:
            await self._session.run("clear_differences", keys=[*keys], **key._asdict())

    async def of(self, key: GenerationKey) -> dict[str, Parts]:
        """The keys of a generation whose documents are known to be wrong."""
        rows = await self._session.rows("difference_parts", **key._asdict())
        return {row["key"]: tuple(row["parts"]) for row in rows}

    async def count(self) -> dict[GenerationKey, int]:
        """How many there are, by generation; those without are left out."""
        rows = await self._session.rows("count_differences")
        return {generation_key(row): row["count"] for row in rows}
