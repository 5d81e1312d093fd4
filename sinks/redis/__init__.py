"""Redis and Valkey: a value a document, its version beside it."""

from sinks.redis.plugin import Plugin

__all__ = ["Plugin"]
