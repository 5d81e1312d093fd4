"""kill -9 of the daemon, at every probe and at random, under load: nothing is lost.

The one thing to know: it is one history. A change that is lost at one kill is never
repaired by what comes later, since the traffic writes many of its rows for the last
time before it; so all that was lost anywhere shows in the end.

PGBRIDGE_TEST_KILLS is how often it dies at random (default 5).
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from bridge import probes
from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA, Traffic
from tests.scenario.test_servers import VIEWS
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

KILLS = int(os.environ.get("PGBRIDGE_TEST_KILLS", "5"))
BUILDING = (
    "generation.prepared",
    "backfill.chunk",
    "backfill.kept",
    "generation.publish",
    "generation.published",
)
"""In the order of a build, which reaches each of them once a target."""
STREAMING = (
    "capture.batch",
    "derive.keys",
    "derive.documents",
    "deliver.send",
    "deliver.kept",
    "ledger.acknowledge",
    "store.progress",
)


def test_no_probe_is_forgotten() -> None:
    """Each is killed at by some scenario, or by the crash matrix."""
    files = Path(__file__).parent.glob("*.py")
    told = "".join(f.read_text() for f in files if f.name != "mutants.py")
    assert not [name for name in probes.NAMES if f'"{name}"' not in told]


async def test_killed_at_every_probe_nothing_is_lost(bridge: Bridge, seed: int) -> None:
    """At each step of one build, then at each of the stream, while others write."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS)
    traffic = Traffic(bridge.dsn, seed)
    dice = random.Random(seed)
    for probe in BUILDING + STREAMING:
        after = dice.randint(0, 4) if probe in STREAMING else 0
        bridge.daemon.start(kill_at=probe, after=after)
        assert await bridge.daemon.ended() == -signal.SIGKILL, probe
    bridge.daemon.start()
    await bridge.ready()
    await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()


async def test_killed_at_random_under_load_nothing_is_lost(
    bridge: Bridge, seed: int
) -> None:
    """After some more committed transactions each time."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS)
    traffic = Traffic(bridge.dsn, seed, writers=3)
    dice = random.Random(seed)
    for _ in range(KILLS):
        bridge.daemon.start()
        goal = traffic.committed + dice.randint(20, 400)
        await eventually(lambda at=goal: traffic.committed >= at)
        await bridge.daemon.kill()
    bridge.daemon.start()
    await bridge.ready()
    committed = await traffic.stop()
    await bridge.settled()
    await bridge.ends_exact()
    print(f"killed {KILLS} times, {committed} transactions, seed {seed}")
