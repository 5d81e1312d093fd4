"""Servers end with whoever started them, however that one ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.dev import Place, PostgresServer, ValkeyServer, detached, open_place
from bridge.dev.keeper import descendants
from bridge.dev.process import is_running
from tests.fixtures.waiting import DEADLINE_S, eventually

OWNER = """
import json, signal, sys
from pathlib import Path
from bridge.dev import PostgresServer, ValkeyServer, open_place
place = open_place(Path(sys.argv[1]))
servers = [PostgresServer(place).start(), ValkeyServer(place).start()]
# Whoever is started in a shell's background begins with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
print(json.dumps([server.pid for server in servers]), flush=True)
signal.pause()
"""


@pytest.fixture
def cache(place: Place) -> Iterator[Path]:
    """A cache of the test's own, that shares the installed packages."""
    root = place.root / f"test-{os.getpid()}"
    root.mkdir(mode=0o755)
    (place.root / "packages").mkdir(mode=0o755, exist_ok=True)
    (root / "packages").symlink_to(place.root / "packages")
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_nothing_is_left_of_an_owner_that_was_ended(
    cache: Path, ending: signal.Signals
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert owner.stdout
    pids = json.loads(owner.stdout.readline())
    below = {pid for server in pids for pid in [server, *descendants(server)]}
    assert len(below) > len(pids)  # Postgres has children
    os.killpg(owner.pid, ending)
    owner.wait(DEADLINE_S)
    owner.stdout.close()
    await eventually(lambda: not any(is_running(pid) for pid in below))
    await eventually(lambda: not list((cache / "run").glob("*/*-*")))


async def test_a_server_outlives_the_thread_that_started_it(place: Place) -> None:
    server = ValkeyServer(place)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    assert server.running
    server.close()
    assert not server.running


async def test_directories_of_the_dead_are_swept(cache: Path) -> None:
    left = cache / "run" / "1-dead" / "postgres-1"
    left.mkdir(parents=True)
    (left.parent / "lock").touch()
    place = open_place(cache)
    place.directory("fresh")
    assert not left.parent.exists()
    place.close()
    assert list((cache / "run").iterdir()) == []


def test_two_servers_never_share_a_port(cache: Path) -> None:
    places = open_place(cache), open_place(cache)
    first = places[0].port()
    assert places[1].port(first.number).number != first.number
    first.release()
    assert places[1].port(first.number).number == first.number


def test_a_server_that_cannot_start_says_why(place: Place) -> None:
    server = PostgresServer(place, settings={"wal_level": "nonsense"})
    with pytest.raises(Exception, match="wal_level"):
        server.start()
    assert not server.running
    server.close()


async def test_up_and_down_can_be_called_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGBRIDGE_CACHE", str(cache))
    directory = tmp_path / "dev"
    try:
        first = detached.up(directory)
        assert detached.up(directory) == first
        assert first.postgres in (directory / "pgbridge.toml").read_text()
        state = json.loads((directory / "servers.json").read_text())
        os.kill(state["redis"]["pid"], signal.SIGKILL)
        await eventually(lambda: not is_running(state["redis"]["pid"]))
        assert detached.up(directory) == first  # the one that died came back
        assert detached.down(directory, keep=True) == 3
        assert detached.up(directory) == first  # on the same data
    finally:
        stopped = detached.down(directory)
    assert stopped == 3
    assert detached.down(directory) == 0
    assert not directory.exists()
    assert list((cache / "dev").iterdir()) == []
