"""Options of a Redis sink and its targets."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sink import Refusal
from sinks.redis import Plugin
from sinks.redis.options import Encoding, read_options, read_target_options

SECRET = "a-marker-that-must-not-be-told"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"url": "redis://127.0.0.1"}, "redis://127.0.0.1:6379"),
        ({"url": "redis://localhost:1/7"}, "redis://localhost:1/7"),
        ({"url": "redis://[::1]:1/7"}, "redis://[::1]:1/7"),
        ({"url": "rediss://cache.internal/2"}, "rediss://cache.internal:6379/2"),
        ({"url": "redis://cache", "plaintext": True}, "redis://cache:6379"),
        ({"url": "unix:///run/redis.sock?db=3"}, "unix:///run/redis.sock?db=3"),
    ],
)
def test_addresses(options: dict[str, Any], url: str) -> None:
    assert read_options(options).url == url


def test_user_and_password_come_from_the_options_or_the_address() -> None:
    found = read_options({"url": f"redis://u%40:{SECRET}%2F@127.0.0.1"})
    assert (found.username, found.password) == ("u@", SECRET + "/")
    assert SECRET not in found.url
    assert SECRET not in repr(found)
    given = read_options({"url": "redis://127.0.0.1", "password": SECRET})
    assert given.password == SECRET


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": 5},
        {"url": "http://127.0.0.1"},
        {"url": f"redis://u:{SECRET}@cache"},
        {"url": f"redis://u:{SECRET}@127.0.0.1:port"},
        {"url": f"redis://127.0.0.1/{SECRET}"},
        {"url": "redis://127.0.0.1/0?ssl_cert_reqs=none"},
        {"url": "redis://127.0.0.1", "verify": "no"},
        {"url": "redis://127.0.0.1", "ca_file": "/nosuch"},
        {"url": "redis://127.0.0.1", "request_timeout": "2h"},
        {"url": "redis://127.0.0.1", "request_timeout": "soon"},
        {"url": "redis://127.0.0.1", "user": "x"},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        Plugin.validate(options)
    assert caught.value.hint
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_the_nearest_key_is_named() -> None:
    with pytest.raises(Refusal) as caught:
        Plugin.validate_target({"encodng": "json"})
    assert "`encoding`" in caught.value.hint


def test_target_options() -> None:
    found = read_target_options(
        {"key": "p:{id}", "encoding": "hash", "ttl": "90s", "publish": "c"}
    )
    assert (found.template, found.encoding) == ("p:{id}", Encoding.HASH)
    assert (found.ttl_ms, found.channel) == (90_000, "c")
    bare = read_target_options({})
    assert (bare.template, bare.encoding, bare.ttl_ms) == ("", Encoding.JSON, 0)
    assert read_target_options({"ttl": 0.5}).ttl_ms == 500


@pytest.mark.parametrize(
    "options",
    [
        {"key": ""},
        {"key": 5},
        {"encoding": "yaml"},
        {"encoding": 1},
        {"encoding": []},
        {"ttl": "0s"},
        {"ttl": -1},
        {"ttl": "1 fortnight"},
        {"ttl": True},
        {"encoding": "none", "ttl": "1h"},
        {"encoding": "none", "key": "p:{generation}:{id}"},
        {"publish": ""},
        {"publish": 1},
        {"mappings": {}},
    ],
)
def test_target_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        Plugin.validate_target(options)
    assert caught.value.hint
