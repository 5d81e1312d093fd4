"""Sink plug-ins, found by entry point in the group `bridge.sinks`.

The one thing to know: the bridge imports no sink by name; what is installed is what
there is, the four that come with it included.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from bridge.config.nearest import nearest
from bridge.errors import Refusal
from bridge.sink import Plugin

GROUP = "bridge.sinks"


def plugin_types() -> list[str]:
    """The types that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


@cache
def load_plugin(kind: str) -> Plugin:
    """The plug-in of a sink type.

    Refusal when there is none of that name, or when it cannot be imported.
    """
    points = entry_points(group=GROUP, name=kind)
    if not points:
        known = plugin_types()
        raise Refusal(
            f"there is no sink type {kind!r}; the nearest is {nearest(kind, known)!r}"
            if known
            else f"there is no sink type {kind!r}",
            hint=f"installed are {', '.join(known) or 'none'}",
        )
    try:
        plugin: Plugin = next(iter(points)).load()
    except (ImportError, AttributeError) as error:
        raise Refusal(
            f"the plug-in of sink type {kind!r} cannot be loaded: {error}",
            hint="install the package that provides it again",
        ) from error
    return plugin
