"""From Postgres' log to batches in the event loop.

Read `frames` (the envelopes), `connection` and `stream` (COPY both ways, feedback),
`thread` (the thread that runs it all) and `handover` (its queue into the loop);
`slot`, `publication` and `identity` are what must be there before.
"""
