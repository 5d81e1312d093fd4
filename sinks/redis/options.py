"""The options of a Redis sink and of its targets, read and refused.

The one thing to know: off loopback a connection is verified TLS, unless the options
say otherwise in so many words (`verify = false`, `plaintext = true`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bridge.sink import Refusal, is_loopback, refuse_unknown
from sinks.redis.template import check_template

NAMES = (
    "url",
    "username",
    "password",
    "ca_file",
    "verify",
    "plaintext",
    "request_timeout",
)
TARGET_NAMES = ("key", "encoding", "ttl", "publish")

REQUEST_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_MAX_S = 3_600.0
"""Far below the 24 hours for which deletes are remembered."""
TTL_MAX_S = 10 * 366 * 86_400.0

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_URL = Refusal(
    "`url` is not a redis://, rediss:// or unix:// address",
    hint='for example "rediss://cache.internal:6379/0"',
)


class Encoding(StrEnum):
    """How a document becomes a value."""

    JSON = "json"
    """The document's bytes as a string."""
    HASH = "hash"
    """A field a column."""
    NONE = "none"
    """No value: the key is deleted at each change."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the connection needs. Secrets are kept out of the repr."""

    url: str
    """Scheme, host or path, port and database; never user or password."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: str = ""
    verify: bool = True
    request_timeout_s: float = REQUEST_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How the documents of one target are kept."""

    template: str
    """Empty: the target's name, `:` and the key's text."""
    encoding: Encoding
    ttl_ms: int
    """0: values do not expire."""
    channel: str
    """Empty: changes are not published."""


def read_options(options: Mapping[str, Any]) -> Options:
    """The options as written, checked. Refusal names the option at fault."""
    refuse_unknown(options, NAMES)
    url, username, password = _url(
        options.get("url"), plaintext=_boolean(options, "plaintext", default=False)
    )
    ca_file = _text(options, "ca_file")
    if ca_file and not Path(ca_file).is_file():
        raise Refusal(
            f"`ca_file` {ca_file} is no file", hint="give the path of a PEM file"
        )
    timeout = _duration(options, "request_timeout", REQUEST_TIMEOUT_S)
    if not 1 <= timeout <= REQUEST_TIMEOUT_MAX_S:
        raise Refusal(
            "`request_timeout` is not between 1s and 1h", hint='for example "30s"'
        )
    return Options(
        url=url,
        username=_text(options, "username") or username,
        password=_text(options, "password") or password,
        ca_file=ca_file,
        verify=_boolean(options, "verify", default=True),
        request_timeout_s=timeout,
    )


def read_target_options(options: Mapping[str, Any]) -> TargetOptions:
    """The options of a target, checked as far as they can be without its columns."""
    refuse_unknown(options, TARGET_NAMES)
    template = _text(options, "key")
    if "key" in options:
        check_template(template)
    written = options.get("encoding", Encoding.JSON)
    if written not in list(Encoding):
        raise Refusal(
            "`encoding` is not one that the sink knows",
            hint=f"one of {', '.join(Encoding)}",
        )
    encoding = Encoding(written)
    ttl_s = _duration(options, "ttl", 0.0)
    if "ttl" in options and not 0.001 <= ttl_s <= TTL_MAX_S:
        raise Refusal("`ttl` is not between 1ms and 10 years", hint='for example "1h"')
    if encoding is Encoding.NONE and "ttl" in options:
        raise Refusal(
            '`ttl` means nothing with encoding = "none", which writes no values',
            hint="leave it out",
        )
    if encoding is Encoding.NONE and "{generation}" in template:
        raise Refusal(
            '`{generation}` means nothing with encoding = "none"',
            hint="name the keys that the application fills",
        )
    channel = _text(options, "publish")
    if "publish" in options and not channel:
        raise Refusal("`publish` is empty", hint="give the name of a channel")
    return TargetOptions(template, encoding, round(ttl_s * 1_000), channel)


def _url(text: object, *, plaintext: bool) -> tuple[str, str, str]:
    """The address, user and password. Never quotes what is given: it may hold one."""
    if not isinstance(text, str):
        raise _URL
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 6379
    except ValueError:
        raise _URL from None
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.fragment or not re.fullmatch(r"(db=\d+)?", parts.query):
        raise _URL
    if parts.scheme == "unix" and parts.path:
        query = f"?{parts.query}" if parts.query else ""
        return f"unix://{parts.path}{query}", username, password
    if (
        parts.scheme not in ("redis", "rediss")
        or not host
        or parts.query
        or not re.fullmatch(r"/?\d*", parts.path)
    ):
        raise _URL
    if parts.scheme == "redis" and not plaintext and not is_loopback(host):
        raise Refusal(
            f"`url`: plain text to {host} would send documents and secrets in the open",
            hint="use rediss://, or set `plaintext = true` to allow it",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port}{parts.path}", username, password


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str):
        raise Refusal(f"`{name}` is not a text", hint="put it into quotes")
    return value


def _boolean(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(f"`{name}` is not true or false", hint=f"{name} = true")
    return value


def _duration(options: Mapping[str, Any], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return float(found[1]) * _SECONDS[found[2]]
    raise Refusal(f"`{name}` is not a duration", hint=f'for example {name} = "90s"')
