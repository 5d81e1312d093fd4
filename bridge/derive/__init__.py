"""From changes to documents: what a view needs, which keys a change touches, bytes.

The one thing to know: planning (parse, levels, key queries) happens once and is pure;
the stream uses only its result, a `ViewPlan`.
"""
