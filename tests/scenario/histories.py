"""A source that goes on in another history: what the tests of it have in common."""

from __future__ import annotations

import psycopg

from tests.fixtures.waiting import eventually
from tests.scenario.harness import SCHEMA
from tests.scenario.world import Bridge

VIEWS = {
    "item": 'table = "item"',
    "small": 'query = "select id, name as label, n from item where n % 2 = 0"',
}
REBUILD = 'on_slot_loss = "rebuild"'
HALTED = 4


async def started(bridge: Bridge, *, daemon: str = "") -> Bridge:
    """With rows, streaming."""
    bridge.execute(*SCHEMA.split(";"))
    bridge.configure(VIEWS, daemon=daemon)
    bridge.daemon.start()
    await bridge.ready()
    return bridge


async def goes_on(bridge: Bridge) -> None:
    """Everything is built again in another epoch, and then it streams."""
    epoch = bridge.one("select epoch from bridge.source")
    assert epoch > 1
    await bridge.ready()
    await bridge.settled()
    bridge.execute("insert into item (id, name, n) values (-9, 'after', 2)")
    await eventually(lambda: bridge.value("item", "-9"))
    await bridge.settled()


async def in_next_epoch(bridge: Bridge) -> None:
    """Wait until another history has begun."""

    def later() -> bool:
        try:
            return bool(bridge.one("select epoch > 1 from bridge.source"))
        except psycopg.OperationalError:  # the server has not taken over yet
            return False

    await eventually(later)


async def halts(bridge: Bridge, why: str, command: str = "pgbridge apply") -> None:
    """It ends with what was lost and the command that goes on."""
    assert await bridge.daemon.ended() == HALTED
    said = bridge.daemon.log.read_text()
    assert why in said
    assert command in said


def configure(bridge: Bridge, source: str, daemon: str) -> None:
    """The daemon reaches its source at this address, the test at its own."""
    bridge.configure(VIEWS, daemon=daemon, via=source)
