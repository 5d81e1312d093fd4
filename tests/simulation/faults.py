"""What can go wrong in a history. `World` does it.

The one thing to know: a fault that is added here changes every history. Some happen
in worlds alone that name them: `sink_hung`, `sink_back`, `sink_empty`.
"""

from __future__ import annotations

FAULTS = (
    "stream",
    "kill",
    "restart",
    "crash",
    "crash_at_write",
    "fail_over",
    "restore",
    "sink_away",
    "sink_partial",
    "sink_slow",
    "sink_full",
    "sink_halt",
    "sink_fail_over",
    "host",
    "pause",
    "stall",
    "source_slow",
    "forward",
    "checkpoint",
    "repair",
    "rebuild",
    "truncate",
    "idle",
)
THEMES = (
    ("stall", "stream", "repair"),
    ("crash", "repair", "rebuild"),
    ("crash_at_write", "repair", "idle"),
    ("sink_partial", "sink_slow", "sink_away"),
    ("truncate", "rebuild", "stream", "pause"),
    ("truncate", "sink_slow", "source_slow", "rebuild"),
    ("pause", "idle", "forward", "kill"),
    ("host", "truncate", "repair", "rebuild", "pause"),
)
"""Faults that are worst together; some histories have one of these."""
