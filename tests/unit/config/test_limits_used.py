"""Every limit that can be set is read by something."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import bridge
import sinks
from bridge.config.limits import Limits


def test_no_limit_is_declared_that_nothing_reads() -> None:
    roots = [Path(package.__path__[0]) for package in (bridge, sinks)]
    source = "".join(
        path.read_text()
        for root in roots
        for path in root.rglob("*.py")
        if path.name != "limits.py"
    )
    names = [field.name for field in fields(Limits)]
    assert len(names) > 20
    unread = [name for name in names if not re.search(rf"\.{name}\b", source)]
    assert unread == []
