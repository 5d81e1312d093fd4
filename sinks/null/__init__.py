"""Takes everything and keeps nothing but counts: for benchmarks."""

from sinks.null.sink import NullSink, Plugin

__all__ = ["NullSink", "Plugin"]
