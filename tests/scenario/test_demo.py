"""`pgbridge demo` is what newcomers see first: it works, proves, leaves nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from bridge.dev import Place
from bridge.dev.process import is_running
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.scenario

_COMMAND = (sys.executable, "-c", "from bridge.cli import main; main()", "demo")
_DEADLINE_S = 240.0


@contextmanager
def demo(output: Path, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """It runs, writing into a file, as it does without a terminal."""
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [*_COMMAND, "--seconds", str(seconds)],
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code, when it has ended."""
    await eventually(lambda: process.poll() is not None, deadline_s=_DEADLINE_S)
    return int(process.returncode)


async def says(process: subprocess.Popen[bytes], output: Path, text: str) -> str:
    """What it has printed, when `text` is in it."""
    await eventually(
        lambda: text in output.read_text() or process.poll() is not None,
        deadline_s=_DEADLINE_S,
    )
    assert text in output.read_text(), output.read_text()
    return output.read_text()


async def nothing_is_left(place: Place, pid: int) -> None:
    """Neither processes nor directories of the demo that had this pid."""
    runs = place.root / "run"

    def processes() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and is_running(int(entry.name)):
                try:
                    line = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if f"{runs}/{pid}-" in line:
                    found.append(line)
        return found

    await eventually(lambda: not processes())
    assert not list(runs.glob(f"{pid}-*"))


async def test_documents_follow_the_rows_and_equal_sql_in_the_end(
    tmp_path: Path, place: Place
) -> None:
    output = tmp_path / "demo.txt"
    with demo(output, seconds=8) as process:
        code = await ended(process)
    said = output.read_text()
    assert code == 0, said
    assert re.search(r"^0 differences in [\d,]{5,} documents", said, re.MULTILINE)
    assert "\x1b" not in said, "control sequences without a terminal"
    assert "  before  id 1, " in said and "  after   id 1, " in said, said
    assert re.search(r"a search for price:101\.50 finds 1, ", said), said
    await nothing_is_left(place, process.pid)


@pytest.mark.slow
async def test_a_difference_is_seen_in_the_end(tmp_path: Path, place: Place) -> None:
    output = tmp_path / "demo.txt"
    with demo(output, seconds=6) as process:
        said = await says(process, output, "the shop opens")
        config = re.search(r"^ +(/.*pgbridge\.toml)$", said, re.MULTILINE)
        assert config, said
        url = re.search(r"redis://[^\"]+", Path(config[1]).read_text())
        assert url
        with redis.Redis.from_url(url[0]) as client:
            # An order that no traffic touches; the key is there, its field is changed.
            assert client.hset("order:90", "status", "never") == 0
        code = await ended(process)
    said = output.read_text()
    assert code == 1, said
    assert re.search(r"^1 difference in [\d,]{5,} documents", said, re.MULTILINE)
    await nothing_is_left(place, process.pid)


@pytest.mark.slow
async def test_it_is_interrupted_without_a_trace(tmp_path: Path, place: Place) -> None:
    output = tmp_path / "demo.txt"
    with demo(output, seconds=600) as process:
        await says(process, output, "> update product")
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 130
    assert "Traceback" not in output.read_text()
    assert output.read_text().endswith("Ended early; servers and data are removed.\n")
    await nothing_is_left(place, process.pid)
