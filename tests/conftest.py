"""Loads the fixtures, and marks each test with the tier whose directory it lies in."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
TIERS = (
    "unit",
    "property",
    "fuzz",
    "conformance",
    "integration",
    "scenario",
    "simulation",
    "tidy",
    "bench",
)

pytest_plugins = [
    "tests.fixtures.sharing",
    "tests.fixtures.servers",
    "tests.fixtures.private",
    "tests.fixtures.proxy",
    "tests.fixtures.http_faults",
    "tests.fixtures.probing",
    "tests.fixtures.elasticsearch",
    "tests.fixtures.redis_sinks",
    "tests.fixtures.seeds",
    "tests.fixtures.spreading",
]

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "pgbridge",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("pgbridge")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Quick tiers first, so that a mistake shows before a server is started; but with
    several workers the longest first, so that they end together."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(getattr(pytest.mark, _tier(item)))
    if hasattr(config, "workerinput"):
        from tests.fixtures import spreading

        items.sort(key=lambda item: spreading.place_of(item.nodeid, _tier(item)))
        return
    order = {tier: place for place, tier in enumerate(("tidy", *TIERS))}
    items.sort(key=lambda item: order[_tier(item)])


def _tier(item: pytest.Item) -> str:
    """Its directory below tests/; a plug-in's own tests are of the tier unit."""
    if HERE in item.path.parents:
        return item.path.relative_to(HERE).parts[0]
    return "unit"
