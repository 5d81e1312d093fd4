"""`dev up` where not every server starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.dev import detached
from bridge.dev.process import started_at
from bridge.errors import Halt


def test_what_did_start_is_told_beside_what_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts(*_: object) -> detached.Running:
        return detached.Running("x", 1, os.getpid(), started_at(os.getpid()), 0)

    def does_not(*_: object) -> detached.Running:
        raise Halt("no binary", hint="install it")

    monkeypatch.setenv("PGBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(detached, "open_place", lambda: None)
    monkeypatch.setattr(detached, "_data_directory", lambda *_: tmp_path)
    monkeypatch.setattr(detached, "_up_postgres", starts)
    monkeypatch.setattr(detached, "_up_elasticsearch", does_not)
    monkeypatch.setattr(detached, "_up_valkey", does_not)
    with pytest.raises(Halt, match="no binary") as caught:
        detached.up(tmp_path / "dev")
    assert caught.value.hint.startswith("install it; postgres did start: ")
    assert "`pgbridge dev down`" in caught.value.hint
