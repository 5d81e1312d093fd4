"""What the server tells of its replicas, and what follows from it."""

from __future__ import annotations

import pytest

from sinks.redis.health import durable_offset


def replica(offset: int, state: str = "online") -> dict[str, object]:
    return {"ip": "::1", "port": 1, "state": state, "offset": offset, "lag": 0}


@pytest.mark.parametrize(
    ("replicas", "offset"),
    [
        ([], None),
        ([replica(7)], 7),
        ([replica(9), replica(7)], 7),
        # Nothing was counted before it asked for the first copy.
        ([replica(0, "wait_bgsave")], -1),
        ([replica(9), replica(0, "send_bulk")], -1),
    ],
)
def test_what_every_replica_has(
    replicas: list[dict[str, object]], offset: int | None
) -> None:
    facts = {"role": "master", "connected_slaves": len(replicas)}
    named = {f"slave{number}": each for number, each in enumerate(replicas)}
    assert durable_offset(facts | named) == offset
