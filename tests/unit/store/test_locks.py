"""What a lock's number tells of the position that its holder waits for."""

from __future__ import annotations

import pytest

from bridge.store.locks import PAGE_BYTES, PAGES, WAITS, waited_for

LAP = PAGES * PAGE_BYTES
"""So much log until the numbers begin again: 8 TiB."""


def number(lsn: int) -> int:
    """As `bridge.wait_for_v2` makes it."""
    return WAITS + lsn // PAGE_BYTES % PAGES


@pytest.mark.parametrize("flushed", [PAGE_BYTES - 1, 5 * LAP - 1, 5 * LAP, 7 * LAP + 9])
@pytest.mark.parametrize("behind", [0, 1, PAGE_BYTES, 1 << 30])
def test_it_is_reached_with_the_position_and_with_no_more_than_a_page_after_it(
    flushed: int, behind: int
) -> None:
    if (wanted := flushed - behind) < 0:
        return
    found = waited_for(number(wanted), flushed)
    assert wanted <= found <= min(flushed, wanted + PAGE_BYTES)


def test_what_is_not_written_out_yet_is_waited_for_once_it_is() -> None:
    assert waited_for(number(10 * PAGE_BYTES), 9 * PAGE_BYTES) == 0
    # The last one alike is long kept.
    assert waited_for(number(LAP + 10 * PAGE_BYTES), LAP) <= 11 * PAGE_BYTES
