"""What holds for every test of a part with its real neighbour."""

from __future__ import annotations

import pytest

from sinks.memory import store


@pytest.fixture(autouse=True)
def nobodys_memory() -> None:
    """The memory sink that tests share belongs to no bridge of an earlier test.

    Its store lives as long as the process, and which tests share one is chance.
    """
    store("mem").clear()
