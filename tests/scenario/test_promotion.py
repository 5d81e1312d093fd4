"""Gates before readers see a generation: what is not as the source is stays hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


async def test_what_was_shown_by_force_stays_so_when_the_daemon_dies_of_it(
    bridge: Bridge, tmp_path: Path
) -> None:
    """Though the build itself has ended, and is not as the source is."""
    hold = tmp_path / "hold"
    hold.mkdir()
    rows(bridge)
    bridge.configure({"item": ITEM}, sinks=["search"])
    bridge.daemon.start(hold=hold)
    await bridge.ready()
    (hold / "armed").write_text("generation.built")
    rebuild = int(bridge.one("select bridge.backfill('item', rebuild => true)"))
    await eventually((hold / "reached").exists)
    _harm(bridge, "missing")
    (hold / "reached").unlink()
    assert (await eventually(lambda: _ended(bridge, rebuild))).startswith("failed")
    (hold / "armed").write_text("generation.published")
    promote = int(bridge.one("select bridge.promote('item', force => true)"))
    await eventually((hold / "reached").exists)
    await bridge.daemon.kill()
    bridge.daemon.start()
    ended = await eventually(lambda: _ended(bridge, promote))
    assert ended.startswith("done"), ended
    await bridge.ready()
    (target,) = (await bridge.daemon.status())["targets"]
    assert (target["generation"], target["state"]) == (2, "live")
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


async def test_what_has_not_all_its_primaries_is_not_shown(
    bridge: Bridge, tmp_path: Path
) -> None:
    """Readers keep what they have, and it is kept up to date, until the shards of the
    next are there; also where they went after it was compared."""
    hold = tmp_path / "hold"
    hold.mkdir()
    rows(bridge)
    bridge.configure({"item": ITEM}, sinks=["search"])
    bridge.daemon.start(hold=hold)
    await bridge.ready()
    for number, probe in ((2, "generation.built"), (3, "generation.publish")):
        (hold / "armed").write_text(probe)
        bridge.execute("select bridge.backfill('item', rebuild => true)")
        await eventually((hold / "reached").exists)
        index = f"{bridge.prefix}item--g{number}"
        with httpx.Client(base_url=bridge.es, trust_env=False) as client:
            with _primaries_wait(client, index):
                (hold / "reached").unlink()
                warned = f"the shards of {index} have not started"
                log = bridge.daemon.log
                await eventually(lambda w=warned, log=log: w in log.read_text())  # type: ignore[misc]
                bridge.execute(f"update item set n = {number}000 where id = 1")

                async def streamed(number: int = number) -> bool:
                    found = await bridge.document("item", "1")
                    return found is not None and found.source["n"] == number * 1000

                await eventually(streamed)
                shown = client.get(f"/_alias/{bridge.prefix}item").json()
                assert list(shown) == [f"{bridge.prefix}item--g{number - 1}"]

        async def live(number: int = number) -> bool:
            (target,) = (await bridge.daemon.status())["targets"]
            return bool(target["generation"] == number and not target["building"])

        await eventually(live)
    await bridge.ends_exact()


@contextmanager
def _primaries_wait(client: httpx.Client, index: str) -> Iterator[None]:
    """For the block the shards of an index are nowhere."""
    recoveries = "cluster.routing.allocation.node_initial_primaries_recoveries"

    def recover(at_once: int | None) -> None:
        settings = {"persistent": {recoveries: at_once}}
        client.put("/_cluster/settings", json=settings).raise_for_status()

    recover(0)
    try:
        for act in ("_close", "_open"):
            client.post(
                f"/{index}/{act}", params={"wait_for_active_shards": "0"}
            ).raise_for_status()
        yield
    finally:
        recover(None)
        client.post("/_cluster/reroute").raise_for_status()
