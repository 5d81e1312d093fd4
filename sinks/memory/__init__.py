"""Documents in this process' memory: the smallest complete sink, to be read first."""

from sinks.memory.sink import MemorySink, Plugin, Store, store

__all__ = ["MemorySink", "Plugin", "Store", "store"]
