"""Views, targets, and the life of their builds.

    create ─▶ building ─promote▶ live ─promote of the next▶ previous ─▶ dropped ─▶ gone
                  │                ▲ ◀────── roll_back ──────▶ │           ▲
                  └────────────────┴───────────── drop ────────┴───────────┘

The one thing to know: a target has at most one generation that is building, one live
and one previous. The database holds that, whoever writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from bridge.errors import Halt
from bridge.store.literals import generation_key
from bridge.store.rows import (
    GenerationKey,
    GenerationRow,
    GenerationState,
    TargetRow,
    ViewRow,
)
from bridge.store.session import Session


class Counts(NamedTuple):
    """What `status` shows of a generation."""

    key: GenerationKey
    documents: int
    progress: float
    """Of the build, 0 to 1."""


class Generations:
    """`bridge.view`, `bridge.target` and `bridge.generation`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # — views —

    async def save_view(
        self, name: str, definition: Mapping[str, Any], fingerprint: str
    ) -> None:
        """A view as it is applied; writes only what has changed."""
        await self._session.run(
            "save_view",
            name=name,
            definition=Jsonb(dict(definition)),
            fingerprint=fingerprint,
        )

    async def views(self) -> list[ViewRow]:
        """All views by name."""
        return [ViewRow(**row) for row in await self._session.rows("list_views")]

    async def remove_view(self, name: str) -> bool:
        """Forget a view; False while it has targets, or when there is none."""
        return await self._session.run("remove_view", name=name) > 0

    # — targets —

    async def save_target(
        self,
        sink: str,
        name: str,
        *,
        view: str,
        definition: Mapping[str, Any],
        fingerprint: str,
    ) -> None:
        """A target as it is applied, wanted from now on. View and sink must be saved
        before."""
        await self._session.run(
            "save_target",
            sink=sink,
            name=name,
            view=view,
            definition=Jsonb(dict(definition)),
            fingerprint=fingerprint,
        )

    async def targets(self) -> list[TargetRow]:
        """All targets, those no longer wanted too."""
        return [TargetRow(**row) for row in await self._session.rows("list_targets")]

    async def unwant_target(self, sink: str, name: str) -> None:
        """Feed a target no more; what was built is kept until it is removed."""
        await self._session.run("unwant_target", sink=sink, name=name)

    async def remove_target(self, sink: str, name: str) -> bool:
        """Forget a target, its generations and all that hangs on them."""
        return await self._session.run("remove_target", sink=sink, name=name) > 0

    # — generations —

    async def create(
        self,
        sink: str,
        name: str,
        *,
        fingerprint: str,
        view_fingerprint: str,
        definition: Mapping[str, Any] | None = None,
    ) -> GenerationKey:
        """Begin a build under the next number, or give the one begun with the same
        fingerprints. `definition` is kept with it: what it is built from.

        Halt when there is no such target, or one with other fingerprints is building:
        it is to be dropped first.
        """
        rows = await self._session.rows(
            "create_generation",
            sink=sink,
            name=name,
            fingerprint=fingerprint,
            view_fingerprint=view_fingerprint,
            definition=Jsonb(dict(definition or {})),
        )
        if not rows:
            raise Halt(
                f"there is no target {sink}/{name}",
                hint="`pgbridge apply` makes what the configuration names",
            )
        return GenerationKey(sink, name, rows[0]["number"])

    async def all(self) -> list[GenerationRow]:
        """All generations of all targets by name and number, the dropped too."""
        return [
            _generation(row) for row in await self._session.rows("list_generations")
        ]

    async def set_prepared(self, key: GenerationKey) -> None:
        """Its place in the sink was made."""
        await self._session.run("set_prepared", **key._asdict())

    async def alter(
        self, key: GenerationKey, *, fingerprint: str, definition: Mapping[str, Any]
    ) -> None:
        """It is for something else from now on, and not `prepared` for it yet."""
        await self._session.run(
            "alter_generation",
            fingerprint=fingerprint,
            definition=Jsonb(dict(definition)),
            **key._asdict(),
        )

    async def promote(self, key: GenerationKey) -> dict[int, GenerationState]:
        """Building becomes live, live previous, previous dropped, all at once.

        Gives the new states of the numbers that changed; none when it is live
        already. Halt when it is neither building nor live.
        """
        return await self._switch("promote", key)

    async def roll_back(self, key: GenerationKey) -> dict[int, GenerationState]:
        """Previous becomes live, and live previous, so that it can be undone.

        Gives the new states of the numbers that changed; none when it is live
        already. Halt when it is neither previous nor live.
        """
        return await self._switch("roll_back", key)

    async def _switch(
        self, name: str, key: GenerationKey
    ) -> dict[int, GenerationState]:
        rows = await self._session.rows(name, **key._asdict())
        if rows:
            return {row["number"]: GenerationState(row["state"]) for row in rows}
        found = await self._session.row("state_of_generation", **key._asdict())
        if found is None or found["state"] != GenerationState.LIVE:
            raise Halt(
                f"{key} is {found['state'] if found else 'gone'} and cannot be shown",
                hint="`pgbridge status` shows the generations that there are",
            )
        return {}

    async def drop(self, key: GenerationKey) -> None:
        """Feed it no more and end its backfills; `forget` it when the sink has
        removed it. Repeatable."""
        await self._session.run("drop_generation", **key._asdict())

    async def forget(self, key: GenerationKey) -> None:
        """A dropped generation whose place in the sink is gone. Repeatable."""
        await self._session.run("forget_generation", **key._asdict())

    async def halt(self, key: GenerationKey, reason: str | None) -> None:
        """Why it stopped; None: it goes on."""
        await self._session.run("halt_generation", reason=reason, **key._asdict())

    async def set_sweep(self, key: GenerationKey, *, sweep: bool) -> None:
        """Whether every key is to be derived again (too many are owed)."""
        await self._session.run("set_sweep", sweep=sweep, **key._asdict())

    async def set_view_fingerprint(self, key: GenerationKey, fingerprint: str) -> None:
        """All its documents are now those of this plan of the view."""
        await self._session.run(
            "set_view_fingerprint", view_fingerprint=fingerprint, **key._asdict()
        )

    async def save_counts(self, counts: Collection[Counts]) -> None:
        """Documents and progress of many; writes only what has changed."""
        await self._session.run(
            "save_counts",
            sinks=[c.key.sink for c in counts],
            names=[c.key.name for c in counts],
            numbers=[c.key.number for c in counts],
            documents=[c.documents for c in counts],
            progress=[c.progress for c in counts],
        )


def _generation(row: dict[str, Any]) -> GenerationRow:
    return GenerationRow(
        key=generation_key(row),
        state=GenerationState(row["state"]),
        **{k: v for k, v in row.items() if k not in _NOT_AS_IT_IS},
    )


_NOT_AS_IT_IS = frozenset({"sink", "name", "number", "state"})
