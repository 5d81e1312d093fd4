"""What `plan` prints of its steps."""

from __future__ import annotations

import pytest

from bridge.cli.plan import _print, _summary
from bridge.control.reconcile import Action, PartKind, Step


def test_what_the_file_no_longer_has_is_not_called_unchanged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [
        Step(Action.KEEP, PartKind.SLOT, "pgbridge", "unchanged"),
        Step(Action.KEEP, PartKind.TARGET, "search/new", "unchanged"),
        Step(Action.KEEP, PartKind.TARGET, "search/old", "no longer in the file", True),
        Step(Action.CREATE, PartKind.TARGET, "cache/new", "build every document"),
    ]
    _print(steps)
    signs = [line[2] for line in capsys.readouterr().out.splitlines()]
    assert signs == ["=", "=", "-", "+"]
    assert _summary(steps) == "1 to build, 2 unchanged, 1 to prune"
