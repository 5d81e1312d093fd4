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
