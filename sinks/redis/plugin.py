"""What the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.sink import Sink
from sinks.redis.options import read_options, read_target_options
from sinks.redis.sink import RedisSink


class Plugin:
    """Redis 6.2 and later, and Valkey."""

    type = "redis"

    @staticmethod
    def validate(options: Mapping[str, Any]) -> None:
        """Refusal for options of the sink that are unknown or wrong."""
        read_options(options)

    @staticmethod
    def validate_target(options: Mapping[str, Any]) -> None:
        """Refusal for options of a target, as far as they tell without its columns."""
        read_target_options(options)

    @staticmethod
    async def open(name: str, options: Mapping[str, Any]) -> Sink:
        """The sink, not yet connected."""
        return RedisSink(name, read_options(options))
