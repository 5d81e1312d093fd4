"""Leaving the source as it was."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.config import Secret, SourceConfig
from bridge.control import remove
from bridge.errors import Halt


async def test_what_is_gone_is_told_before_the_next_part_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: object) -> None:
        return None

    async def dropped(*_: object) -> bool:
        return True

    async def refused(*_: object) -> bool:
        raise Halt("must be owner of publication pgbridge")

    monkeypatch.setattr(remove, "describe_slot", nothing)
    monkeypatch.setattr(remove, "drop_slot", dropped)
    monkeypatch.setattr(remove, "_drop_publication", refused)
    told: list[str] = []
    session: Any = None
    with pytest.raises(Halt):
        await remove.drop_source(session, SourceConfig(Secret("x")), told.append)
    assert told == ["slot pgbridge is dropped"]
