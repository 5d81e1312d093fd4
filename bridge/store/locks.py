"""Numbers of the advisory locks that the bridge takes in the source database.

The one thing to know: advisory locks are a database's own, so one bridge a database
needs no more than constants.
"""

LOCK_CLASS = 0x70676272
"""`pgbr`, the first of the two numbers."""
LEASE = 1
"""Held by the daemon that runs, for as long as its session lives."""
MIGRATION = 2
"""Held while migrations are applied."""
WAITS = 1024
"""From here on: held by `bridge.wait_for`, shared, for a position; see `waited_for`."""
PAGE_BYTES, PAGES = 8192, 1 << 30


def waited_for(number: int, flushed: int) -> int:
    """The position that the holder of this lock waits for, as far as it is written out.

    `bridge.wait_for` tells the page of log that it waits for, in the 30 bits that a
    number has room for; of those alike it is the last one up to `flushed`. 0: none is.
    """
    page = flushed // PAGE_BYTES
    page -= (page - (number - WAITS)) % PAGES
    return max(0, min((page + 1) * PAGE_BYTES, flushed))
