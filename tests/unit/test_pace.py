"""Backfills go no faster than they may: by a rate, and behind the stream."""

from __future__ import annotations

import asyncio

import pytest

from bridge.backfill.pace import Pace
from tests.simulation.clock import run

pytestmark = pytest.mark.unit


def now() -> float:
    return asyncio.get_running_loop().time()


def test_several_at_once_share_one_rate() -> None:
    """Three of them, each of 100 documents at 50 a second: 6 s less the first step."""

    async def one(pace: Pace) -> list[float]:
        spent = []
        for _ in range(10):
            await pace.spend(10)
            spent.append(now())
        return spent

    async def main() -> list[float]:
        pace = Pace(rate=50)
        found = await asyncio.gather(*(one(pace) for _ in range(3)))
        return sorted(at for each in found for at in each)

    ends = run(main())
    assert ends == pytest.approx([n * 0.2 for n in range(30)])


def test_what_was_not_spent_is_not_saved_up() -> None:
    """An hour without a backfill does not let the next one rush."""

    async def main() -> float:
        pace = Pace(rate=100)
        await pace.spend(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        start = now()
        for _ in range(4):
            await pace.spend(100)
        return now() - start

    assert run(main()) == pytest.approx(3)


def test_without_a_rate_nothing_waits() -> None:
    async def main() -> float:
        pace = Pace()
        await pace.spend(1_000_000)
        await pace.wait()
        return now()

    assert run(main()) == 0
    assert Pace().chunk(5000) == 5000


def test_little_is_read_at_once_where_it_may_go_slowly_only() -> None:
    """What is read waits with its snapshot open."""
    assert Pace(rate=50).chunk(5000) == 100
    assert Pace(rate=100_000).chunk(5000) == 5000
    assert Pace(rate=0.1).chunk(5000) == 2


def test_a_stream_that_is_behind_goes_first() -> None:
    """For as long as it is behind, by more than it may be; and no longer."""

    async def main() -> tuple[float, float]:
        late_until = 0.7
        pace = Pace(lag_s=lambda: 5.0 if now() < late_until else 0.9, lag_s_max=1.0)
        await pace.wait()
        waited = now()
        await pace.wait()
        return waited, now() - waited

    waited, then = run(main())
    assert 0.7 <= waited < 0.8
    assert then == 0


def test_a_stream_that_stays_behind_does_not_stop_a_build_for_good() -> None:
    """The build may be what makes it catch up: slow, it goes on."""

    async def main() -> list[float]:
        pace = Pace(lag_s=lambda: 60.0)
        waits = []
        for _ in range(3):
            start = now()
            await pace.wait()
            waits.append(now() - start)
        return waits

    assert run(main()) == pytest.approx([2, 2, 2], abs=0.1)
