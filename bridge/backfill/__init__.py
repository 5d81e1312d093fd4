"""Deriving what is there now: first builds, rebuilds, repairs, sweeps.

The one thing to know: a backfill writes through the same lanes as the stream, at a
position taken from the log for it, and leaves to the stream what the stream overtook.
"""
