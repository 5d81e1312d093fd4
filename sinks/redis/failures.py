"""What the client raises, sorted by what happens next.

The one thing to know: a server's sentence may quote keys and values, so nothing of it
is passed on but its first word, the code.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from bridge.sink import Halt, Transient

_CODE = re.compile(r"-?([A-Z]{2,20})\b")
_WAITING = {
    "LOADING": "it is loading its data",
    "BUSY": "it is busy running a script",
    "READONLY": "it is a replica, which takes no writes",
    "CLUSTERDOWN": "its cluster is down",
    "MASTERDOWN": "its primary is down",
    "TRYAGAIN": "its slots are being moved",
    "OOM": "it is at its limit of memory (maxmemory)",
    "MISCONF": "it refuses writes because it cannot save to its disk",
    "NOREPLICAS": "it has too few replicas to take writes (min-replicas-to-write)",
    "UNBLOCKED": "it has just become a replica",
}
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.OutOfMemoryError, "OOM"),
)
_AUTHENTICATION = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)
_MISSING = ("function not found", "no matching script")


def code_of(error: Exception) -> str:
    """The code of an error that a server answered with; "" when it has none."""
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    found = _CODE.match(str(error))
    if found and found[1] != "ERR":
        return found[1]
    # Redis 6.2 wraps what a script met: "ERR Error running script …: -OOM command …"
    inner = re.search(r"-(OOM|READONLY|MISCONF|NOREPLICAS|NOPERM)\b", str(error))
    return inner[1] if inner else ""


def is_function_missing(error: Exception) -> bool:
    """Whether the function or script has to be loaded again."""
    return isinstance(error, exceptions.NoScriptError) or (
        isinstance(error, exceptions.ResponseError)
        and (
            code_of(error) == "NOSCRIPT"
            or any(text in str(error).lower() for text in _MISSING)
        )
    )


def sort(error: Exception, url: str = "") -> Transient | Halt:
    """The error as the bridge knows it: `Transient` or `Halt`.

    `url` is the server's address, without user and password.
    """
    server = f"the Redis server at {url}" if url else "the Redis server"
    if isinstance(error, _AUTHENTICATION):
        return Halt(
            f"{server} refuses the user or the password",
            hint="correct `username` and `password` of the sink",
        )
    code = code_of(error)
    if code in _WAITING:
        return Transient(f"{server} does not take this now: {_WAITING[code]}")
    if isinstance(error, exceptions.NoPermissionError) or code == "NOPERM":
        return Halt(
            f"{server} grants its user no right to a command, key or channel",
            hint="grant what docs/redis.md lists under rights",
        )
    if isinstance(error, exceptions.AskError | exceptions.ClusterCrossSlotError):
        return Halt(
            f"{server} is a node of a Redis Cluster, which is not supported",
            hint="give the address of a single server or of a primary with replicas",
        )
    if _is_certificate(error):
        return Halt(
            f"the certificate of {server} is refused",
            hint="give the authority's certificate as `ca_file` of the sink",
        )
    if isinstance(
        error, OSError | exceptions.ConnectionError | exceptions.TimeoutError
    ):
        return Transient(
            f"{server} cannot be reached",
            hint="see that it runs, and that `url` of the sink names its host and port",
        )
    return Halt(
        f"{server} answered with an error that is not known: {code or 'ERR'}",
        hint="look into the server's log, then `pgbridge resume` the sink",
    )


@contextmanager
def sorting(url: str = "") -> Iterator[None]:
    """Wrap what the client raises inside."""
    try:
        yield
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise sort(error, url) from None


def _is_certificate(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
