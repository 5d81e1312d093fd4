"""Worlds that are full of what one rule is for: a missing rule shows in few seeds.

The one thing to know: but for the last two none is harsher than what real servers do,
so that the unchanged bridge lives in each of them as it does in any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.simulation.process import Limits
from tests.simulation.world import World


def full_of(
    *faults: str,
    sinks: int = 0,
    length: int = 1,
    gap_s: float = 0.0,
    only: Sequence[str] = (),
    lane: dict[str, Any] | None = None,
    tombstone_s: float = 0.0,
    writers: dict[str, float] | None = None,
    **profile: float,
) -> Callable[[int], World]:
    """Worlds in which these faults happen, to these views only, by this profile of the
    source. No request lives longer than half of `tombstone_s`."""

    def world_of(seed: int) -> World:
        world = World(seed, faults=faults, sinks=sinks)
        world.length = length
        world.gap_s = gap_s or world.gap_s
        world.views = only or world.views
        world.limits = replace(
            world.limits, lane=replace(world.limits.lane, **lane or {})
        )
        for name, value in (writers or {}).items():
            setattr(world.writers, name, value)
        for store in world.stores.values() if tombstone_s else ():
            store.late_s, store.tombstone_s = tombstone_s / 2, tombstone_s
        world.server.profile = replace(world.server.profile, **profile)
        return world

    return world_of


restarted = full_of("stream", "repair", length=2, gap_s=0.2, visible_s=0.3)
rebuilt = full_of("stream", "sink_slow", "repair", "rebuild", length=2, gap_s=0.2)
unseen = full_of(visible_s=0.6, commit_s=0.0, asynchronous=0.0)
"""Commits show long after they were made."""
direct = full_of(
    *("stall", "kill", "repair"),
    only=["flat"],
    length=2,
    gap_s=0.4,
    writers={"pause_s": 0.05},
    asynchronous=0.0,
)
"""Every document comes straight from the log, which nobody has to see for it."""
swaps = full_of(
    "sink_slow",
    only=["flat"],
    length=2,
    gap_s=0.2,
    writers={"swap_chance": 0.5, "pause_s": 0.01},
    asynchronous=0.3,
    flush_s=0.05,
    visible_s=0.3,
)
"""Rows of a slow sink that are taken from the log and read back in turns."""
undone = full_of("crash", "kill", "sink_slow", asynchronous=1.0, flush_s=0.6)
undone_jobs = full_of(
    *("crash_at_write", "repair", "repair", "rebuild"),
    only=["flat"],
    gap_s=0.1,
    writers={"swap_chance": 0.0},
    asynchronous=1.0,
    flush_s=0.6,
    visible_s=0.005,
)
"""No commit waits for the disk, jobs alone read, and the server crashes as one writes
what is not on the disk."""
emptied = full_of(
    *("truncate", "source_slow", "rebuild", "repair"), length=2, gap_s=0.2
)
emptied_often = full_of("truncate", "source_slow", "rebuild", length=3, gap_s=0.1)
emptied_late = full_of(
    *("truncate", "sink_slow"),
    sinks=1,
    only=["joined"],
    length=2,
    gap_s=0.2,
    lane={"bytes_max": 6000},
)
"""What is emptied waits long for its sink."""
emptied_twice = full_of(
    *("truncate", "sink_slow"),
    length=2,
    gap_s=0.1,
    lane={"bytes_max": 1500},
    tombstone_s=0.04,
)
deleted = full_of(
    *("sink_slow", "repair", "rebuild", "repair"),
    length=2,
    lane={"bytes_max": 1500},
    tombstone_s=0.04,
    writers={"delete_chance": 0.6},
)
"""Much is deleted while jobs wait for a slow sink, and soon forgotten there."""

hosts = full_of("host", "rebuild", gap_s=0.5, writers={"pause_s": 0.01})
"""Bridge and sink die together, and what the sink took last is lost."""


def in_debt(
    *faults: str,
    sinks: int = 2,
    pause_s: float = 0.02,
    **rest: Any,
) -> Callable[[int], World]:
    """Worlds of sinks that are parked soon, and paid while more goes wrong."""
    make = full_of(
        *faults,
        sinks=sinks,
        lane={"bytes_max": 1500, "patience_s": 0.1, "drain_s": 0.2},
        writers={"pause_s": pause_s},
        **{"stream_s": 0.02, **rest},
    )

    def world_of(seed: int) -> World:
        world = make(seed)
        world.parking |= {"_RECORD_S": 0.02, "_PROBE_S": 0.2}
        world.limits = Limits(
            world.limits.lane, wal_budget_bytes=1000, owed_keys_max=1000
        )
        return world

    return world_of


debtors = in_debt("sink_slow", length=2, gap_s=0.2)
"""One of two sinks is slow and full for long, parked, and paid while it is."""
paused_debtors = in_debt(
    "sink_hung", "pause", "sink_back", sinks=1, length=2, gap_s=0.5, pause_s=0.1
)
"""Sinks that do not answer are paused while somebody waits for their answer."""
losing_debtors = in_debt(
    *("sink_empty", "sink_empty", "kill"),
    sinks=1,
    length=2,
    gap_s=0.5,
    pause_s=0.1,
    stream_s=0.1,
)
"""Sinks lose what they had kept while all that they have is derived again."""


refused = full_of(
    *("sink_slow", "kill", "repair", "rebuild", "stream"),
    sinks=2,
    only=["joined"],
    length=2,
    gap_s=0.2,
    lane={"bytes_max": 1500, "patience_s": 0.1, "drain_s": 0.2},
    writers={"bad_chance": 0.4, "pause_s": 0.02},
)
"""Of many items no document can be made, some of which a slow sink is owed."""
refused_and_gone = full_of(
    *("truncate", "forward", "restore", "kill"),
    only=["joined"],
    writers={"bad_chance": 0.4},
)
"""What could not be made is gone without an event."""
FAIR = (
    *(restarted, rebuilt, unseen, direct, swaps, undone, undone_jobs),
    *(
        emptied,
        emptied_often,
        emptied_late,
        emptied_twice,
        deleted,
        debtors,
        paused_debtors,
        losing_debtors,
        refused,
        refused_and_gone,
        hosts,
    ),
)


def forgetful_sinks(seed: int) -> World:
    """Requests outlive the tombstones."""
    world = World(seed, faults=("sink_away", "sink_slow"))
    for store in world.stores.values():
        store.late_s, store.tombstone_s = 2.0, 0.1
    return world


def without_versions(seed: int) -> World:
    """Sinks that take whatever comes."""
    world = World(seed)
    for store in world.stores.values():
        store.checks_versions = False
    return world
