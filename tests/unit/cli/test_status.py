"""What `pgbridge status` makes of its figures for a person."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.cli.status import _beside, _note, _print, _source

ROW = ("cache", "down", "product", "g1", "1,204", "2 h", "0", "cannot be reached; see")


def test_notes_stand_below_where_a_terminal_has_no_room_for_them() -> None:
    assert _beside([ROW], 200) == ([ROW], [])
    kept, below = _beside([ROW, (*ROW[:-1], "g1")], 62)
    assert [row[-1] for row in kept] == ["below", "g1"]
    assert below == ["product: cannot be reached; see"]


def test_what_is_wrong_with_a_sink_is_said_once() -> None:
    target: dict[str, Any] = dict.fromkeys(("building", "progress", "previous"))
    target |= {"state": "live", "reason": "away", "view": "product"}
    sink = {"state": "down", "reason": "away", "owed_keys": 0}
    assert _note(target, sink, first=True) == "away"
    assert _note(target, sink, first=False) == ""
    assert _note(target | {"state": "halted"}, sink, first=False) == "halted: away"


def test_a_sink_that_needs_attention_is_named_also_without_a_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    target: dict[str, Any] = dict.fromkeys(
        (
            "building",
            "progress",
            "previous",
            "documents",
            "dead_letters",
            "lag_seconds",
            "lag_bytes",
        )
    )
    target |= {"sink": "search", "name": "products", "generation": 1}
    target |= {"state": "live", "reason": "", "view": "product"}
    sinks = [
        {"name": name, "state": state, "reason": "", "owed_keys": 0}
        for name, state in (("search", "ok"), ("cache", "paused"))
    ]
    source = {
        "state": "streaming",
        "reason": "",
        "position": None,
        "lag_bytes": 0,
        "retained_bytes": None,
    }
    _print({"source": source, "sinks": sinks, "targets": [target], "commands": []})
    told = capsys.readouterr().out
    assert "sink cache is paused; no target of the file is in it" in told
    assert "1 of 2 sinks needs attention" in told


def test_what_is_level_is_not_called_behind_for_the_bridges_own_log() -> None:
    source = {
        "state": "streaming",
        "reason": "",
        "position": "1:0/10",
        "lag_bytes": 60_000,
        "retained_bytes": None,
    }
    level, late = {"lag_seconds": 0.0}, {"lag_seconds": 2.0}
    assert _source({"source": source, "targets": [level]}) == (
        "streaming at 1:0/10, level"
    )
    assert "2 s behind" in _source({"source": source, "targets": [level, late]})


def test_what_is_under_way_is_told_with_rate_and_time_left() -> None:
    target: dict[str, Any] = dict.fromkeys(("building", "progress", "previous"))
    target |= {"state": "live", "reason": "", "view": "product"}
    sink = {"state": "ok", "reason": "", "owed_keys": 0}
    moving = {"progress": 0.614, "rate": 9800.0, "left_seconds": 12.2}
    assert _note(target | moving, sink, first=True) == (
        "backfill: 61 %, 9,800/s, 12 s left"
    )
    build = target | moving | {"building": 4}
    assert _note(build, sink, first=True) == "building g4: 61 %, 9,800/s, 12 s left"
    begun = target | {"building": 4, "progress": 0.0}
    assert _note(begun, sink, first=True) == "building g4: 0 %"
