"""Gates before readers see a generation: what is not as the source is stays hidden."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.fixtures.waiting import eventually
from tests.scenario.test_edits import ITEM, rows
from tests.scenario.test_life import pgbridge
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

FAILS = 'query = "select id, name, 1 / (n - 7) as n from item"'


async def test_what_is_not_as_the_source_is_is_not_shown(
    bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document less, a document that is wrong, a letter more; and by force."""
    held = tmp_path / "held"
    monkeypatch.setenv("PGBRIDGE_TEST_HOLD", str(held))
    rows(bridge)
    bridge.configure({"item": ITEM}, sinks=["search"])
    bridge.daemon.start(mutant="holds-builds")
    await bridge.ready()
    for fault, said in (
        ("missing", "holds 59 documents and the source has 60"),
        ("different", "that were compared with the source, 1 differ"),
    ):
        held.touch()
        command = int(bridge.one("select bridge.backfill('item', rebuild => true)"))
        await eventually((tmp_path / "held.reached").exists)
        _harm(bridge, fault)
        held.unlink()
        (tmp_path / "held.reached").unlink()
        ended = await eventually(lambda c=command: _ended(bridge, c))  # type: ignore[misc]
        assert ended.startswith("failed"), ended
        assert said in ended
        (target,) = (await bridge.daemon.status())["targets"]
        assert (target["generation"], target["state"]) == (1, "halted")
        assert said in target["reason"]
        found = await bridge.document("item", "1")
        assert found is not None
        assert found.source["n"] == 1
    # What was built is still there, and is mended by building it once more.
    assert (await pgbridge(bridge, "backfill", "item", "--rebuild"))[0] == 0
    await bridge.ready()

    bridge.configure({"item": FAILS}, sinks=["search"])

    async def halted() -> bool:
        targets = (await bridge.daemon.status()).get("targets") or []
        return any("has 1 dead letters that" in t["reason"] for t in targets)

    await eventually(halted)
    assert (await pgbridge(bridge, "promote", "item", "--force"))[0] == 0
    (target,) = (await bridge.daemon.status())["targets"]
    assert (target["generation"], target["state"]) == (3, "live")
    assert await bridge.daemon.stop() == 0


def _ended(bridge: Bridge, command: int) -> str | None:
    query = "select state || ': ' || message from bridge.command where id = %s"
    found = bridge.one(f"{query} and finished_at is not null", command)
    return None if found is None else str(found)


def _harm(bridge: Bridge, fault: str) -> None:
    """Do harm to what was written."""
    document = f"/{bridge.prefix}item--g2/_doc/1"
    with httpx.Client(base_url=bridge.es, trust_env=False) as client:
        found = client.get(document).json()
        at = {"version_type": "external_gte", "version": str(found["_version"])}
        if fault == "missing":
            client.delete(document, params=at).raise_for_status()
        else:
            wrong = found["_source"] | {"n": -1}
            client.put(document, params=at, json=wrong).raise_for_status()
