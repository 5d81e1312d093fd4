"""The daemon's own tables, in the schema `bridge` of the source database.

The one thing to know: `Store` is the way in, its parts are named for what they keep,
and the SQL of each part stands in a `.sql` file beside it.
"""

from bridge.store.store import Store

__all__ = ["Store"]
