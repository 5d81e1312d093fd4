"""The options of `[sinks.NAME]` for Elasticsearch, read and refused.

The one thing to know: off loopback a connection is verified TLS, unless the options say
otherwise in so many words (`verify = false`, `plaintext = true`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bridge.sink import Refusal, is_loopback, refuse_unknown

NAMES = (
    "url",
    "api_key",
    "username",
    "password",
    "ca_file",
    "verify",
    "plaintext",
    "request_timeout",
    "concurrency",
)
REQUEST_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_MAX_S = 600.0
"""Tombstones of deletes are remembered for an hour: no request may live that long."""
CONCURRENCY = 2
"""Measured: a second request in flight doubles what a node takes, a third adds none."""
CONCURRENCY_MAX = 16

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)?")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Options:
    """What the connection needs. Secrets are kept out of the repr."""

    urls: tuple[str, ...]
    """Scheme, host, port and path prefix; never user or password."""
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    api_key: str = field(default="", repr=False)
    ca_file: str = ""
    verify: bool = True
    request_timeout_s: float = REQUEST_TIMEOUT_S
    concurrency: int = CONCURRENCY


def read_options(options: Mapping[str, Any]) -> Options:
    """The options as written, checked. Refusal names the option at fault."""
    refuse_unknown(options, NAMES)
    verify = _boolean(options, "verify", default=True)
    plaintext = _boolean(options, "plaintext", default=False)
    urls, credentials = _urls(options, plaintext=plaintext)
    username, password = _text(options, "username"), _text(options, "password")
    api_key = _text(options, "api_key")
    if bool(username) != bool(password):
        raise Refusal("`username` and `password` belong together", hint="give both")
    if username:
        credentials = (username, password)
    if credentials and api_key:
        raise Refusal(
            "`api_key` and a user with `password` are both given", hint="keep one"
        )
    ca_file = _text(options, "ca_file")
    if ca_file and not Path(ca_file).is_file():
        raise Refusal(
            f"`ca_file` {ca_file} is no file", hint="give the path of a PEM file"
        )
    return Options(
        urls=urls,
        credentials=credentials,
        api_key=api_key,
        ca_file=ca_file,
        verify=verify,
        request_timeout_s=_timeout(options.get("request_timeout", REQUEST_TIMEOUT_S)),
        concurrency=_concurrency(options.get("concurrency", CONCURRENCY)),
    )


def _urls(
    options: Mapping[str, Any], *, plaintext: bool
) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    given = options.get("url")
    written = [given] if isinstance(given, str) else given
    if not isinstance(written, list | tuple) or not written:
        raise Refusal("`url` is missing", hint='for example "http://127.0.0.1:9200"')
    urls: list[str] = []
    found: set[tuple[str, str]] = set()
    for text in written:
        url, credentials = _url(text, plaintext=plaintext)
        urls.append(url)
        if credentials:
            found.add(credentials)
    if len(found) > 1:
        raise Refusal(
            "the addresses of `url` name different users",
            hint="give `username` and `password` once, outside of the addresses",
        )
    return tuple(urls), found.pop() if found else None


def _url(text: object, *, plaintext: bool) -> tuple[str, tuple[str, str] | None]:
    """The address without user and password, and these. Never quotes what is given,
    since it may hold a password."""
    wrong = Refusal(
        "`url` is not an http:// or https:// address",
        hint='for example "https://search.internal:9200"',
    )
    if not isinstance(text, str):
        raise wrong
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise wrong
    if parts.scheme == "http" and not plaintext and not is_loopback(host):
        raise Refusal(
            f"`url`: plain HTTP to {host} would send documents and secrets in the open",
            hint="use https://, or set `plaintext = true` to allow it",
        )
    shown_host = f"[{host}]" if ":" in host else host
    port = port or (443 if parts.scheme == "https" else 9200)
    path = parts.path.rstrip("/")
    url = urlunsplit((parts.scheme, f"{shown_host}:{port}", path, "", ""))
    if parts.username is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password or ""))


def _boolean(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(f"`{name}` is not true or false", hint=f"{name} = false")
    return value


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str):
        raise Refusal(f"`{name}` is not a text", hint="put it into quotes")
    return value


def _timeout(value: object) -> float:
    seconds = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        seconds = float(found[1]) * _SECONDS[found[2]]
    if not 1 <= seconds <= REQUEST_TIMEOUT_MAX_S:
        raise Refusal(
            "`request_timeout` is not a duration from 1s to 10m",
            hint='for example request_timeout = "60s"',
        )
    return seconds


def _concurrency(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= CONCURRENCY_MAX:
        raise Refusal(
            f"`concurrency` is not a number from 1 to {CONCURRENCY_MAX}",
            hint=f"leave it out for {CONCURRENCY}",
        )
    return value
