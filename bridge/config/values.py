"""Values as people write them: durations, sizes, addresses, secrets.

The one thing to know: each parser takes what the file or the command line holds and
raises ValueError with one sentence that never quotes a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.sink.options import is_loopback

_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_MAX_S = 100 * 366 * 86_400.0
"""More than Postgres can wait for would be an error there."""
_BYTES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_AUDIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s+per\s+(second|minute|hour|day)\s*")
_PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


class Secret(str):
    """A text that must not be shown: its repr is `***`, so that the repr of whatever
    holds it (a dataclass, a dict, a traceback's locals) does not tell it.

    It still is the text: connections take it as it is.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where the daemon answers HTTP. Port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


HTTP_DEFAULT = HttpAddress("127.0.0.1", 8480)


@dataclass(frozen=True, slots=True)
class AuditRate:
    """How much of every target the daemon compares with the source by itself."""

    fraction: float
    """Share of the documents, above 0 and at most 1, for each period."""
    period_s: float


def _text(value: object) -> str:
    """A text or number as text; empty, which nothing matches, for other types."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, (int, float)):
        return format(value, "f") if isinstance(value, float) else str(value)
    return value if isinstance(value, str) else ""


def parse_duration(value: object) -> float:
    """Seconds of `500ms`, `90s`, `15m`, `1h`, `2d` or a plain number of seconds."""
    found = _NUMBER_AND_UNIT.fullmatch(_text(value))
    if found is None or found[2] not in _SECONDS:
        raise ValueError("is not a duration such as 500ms, 90s, 15m or 1h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _DURATION_MAX_S:
        raise ValueError("is over 100 years, not a duration such as 90s, 15m or 1h")
    return seconds


def parse_size(value: object) -> int:
    """Bytes of `64MiB`, `1GB` or a plain number of bytes."""
    found = _NUMBER_AND_UNIT.fullmatch(_text(value))
    if found is None or found[2] not in _BYTES:
        raise ValueError("is not a size such as 64MiB, 1GB or 4096")
    number, factor = found[1], _BYTES[found[2]]
    return int(number) * factor if number.isdecimal() else int(float(number) * factor)


def parse_http(value: object) -> HttpAddress | None:
    """`127.0.0.1:8480`, `[::1]:8480`, `:8480` (every interface); None for `""`."""
    if value == "":
        return None
    host, colon, port = _text(value).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("needs brackets around an IPv6 address, as in [::1]:8480")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError('is not HOST:PORT such as 127.0.0.1:8480 ("" turns it off)')
    if re.search(r"[\s/@?#]", host):
        raise ValueError('is not HOST:PORT such as 127.0.0.1:8480 ("" turns it off)')
    return HttpAddress(host or "0.0.0.0", int(port))  # noqa: S104  asked for by ":8480"


def parse_audit(value: object) -> AuditRate | None:
    """`1% per hour`, also `second`, `minute` or `day`; None for `""` and `off`."""
    if value in ("", "off"):
        return None
    found = _AUDIT.fullmatch(_text(value))
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError('is not a rate such as "1% per hour" ("" turns it off)')
    return AuditRate(float(found[1]) / 100, _PERIODS_S[found[2]])
