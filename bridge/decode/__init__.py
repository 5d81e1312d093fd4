"""From pgoutput messages to whole transactions. Pure, but for spilling to disk.

Read `pgoutput` (bytes → message), `images` (the rows in them, fast), `transactions`
(messages → transactions), `spill` (those too large for memory).
"""
