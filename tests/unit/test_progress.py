"""Progress: what is done for whoever waits where nothing happens."""

from __future__ import annotations

import pytest

from bridge.batch import FanOut
from bridge.errors import Transient
from bridge.gate import Gate
from bridge.markers import CONTENT, Markers
from bridge.progress import Progress
from bridge.surroundings import PipelineLimits
from tests.unit.parts import ledger


class Server:
    """The log's end, as it was sent, and what is put into the log."""

    def __init__(self) -> None:
        self.received = 100
        self.emitted: list[str] = []
        self.away = False

    async def emit(self, content: str) -> None:
        if self.away:
            raise Transient("the source is away")
        self.emitted.append(content)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def progress(server: Server) -> Progress:
    own = ledger()
    made = Progress(
        ledger=own,
        gate=Gate(),
        fan_out=FanOut(own),
        markers=Markers(server.emit),
        hooks=None,  # type: ignore[arg-type] - nothing is written down here
        limits=PipelineLimits(),
    )
    made.begin(server)  # type: ignore[arg-type]
    return made


async def test_a_log_that_ends_within_a_record_is_written_out(
    progress: Progress, server: Server
) -> None:
    """Nothing would be sent up to there, and whoever waits for it would wait long."""
    await progress.look(120)
    assert not server.emitted, "it may be on its way"
    await progress.look(120)
    assert server.emitted == [CONTENT]
    server.received = 180
    await progress.look(180)
    await progress.look(180)
    assert server.emitted == [CONTENT], "all of it was sent"


async def test_what_is_sent_or_written_meanwhile_is_left_alone(
    progress: Progress, server: Server
) -> None:
    for step in range(5):
        server.received += 10 * (step % 2)
        await progress.look(200 + 10 * (step // 2))
    assert not server.emitted


async def test_nothing_is_done_for_a_source_that_is_away(
    progress: Progress, server: Server
) -> None:
    server.away = True
    for _ in range(3):
        await progress.look(120)
    progress.end()
    server.away = False
    for _ in range(3):
        await progress.look(120)
    assert not server.emitted
