"""The server-side function: loaded where functions are known, else as a script.

The one thing to know: its name holds a digest of its text, so that bridges of two
versions on one server each call their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError, ResponseError

from sinks.redis.failures import code_of

WRITE = (files("sinks.redis") / "write.lua").read_text("utf-8")
CLAIM = (files("sinks.redis") / "claim.lua").read_text("utf-8")
RELEASE = (files("sinks.redis") / "release.lua").read_text("utf-8")
RECORD = (files("sinks.redis") / "record.lua").read_text("utf-8")

_DIGEST = sha256(WRITE.encode()).hexdigest()[:12]
FUNCTION = f"pgbridge_write_{_DIGEST}"
LIBRARY = (
    f"#!lua name=pgbridge_{_DIGEST}\n{WRITE}\n"
    f"redis.register_function('{FUNCTION}', write)\n"
)
SCRIPT = f"{WRITE}\nreturn write(KEYS, ARGV)\n"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How the function is called on this server: command and name."""

    command: bytes
    name: bytes


async def load(connection: AbstractConnection, *, functions: bool = True) -> Loaded:
    """Have the function on the server; repeatable. Raises what the client raises.

    `functions=False` takes a script even where functions are known.
    """
    if functions and await _loaded_as_function(connection):
        return Loaded(b"FCALL", FUNCTION.encode())
    await connection.send_command("SCRIPT", "LOAD", SCRIPT)
    digest = await connection.read_response(disable_decoding=True)
    return Loaded(b"EVALSHA", bytes(digest))


def load_request(loaded: Loaded) -> bytes:
    """The bytes that load it once more, in the same way."""
    words = (
        (b"FUNCTION", b"LOAD", LIBRARY.encode())
        if loaded.command == b"FCALL"
        else (b"SCRIPT", b"LOAD", SCRIPT.encode())
    )
    packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*3\r\n" + packed


async def _loaded_as_function(connection: AbstractConnection) -> bool:
    try:
        await connection.send_command("FUNCTION", "LOAD", LIBRARY)
        await connection.read_response(disconnect_on_error=False)
    except NoPermissionError:
        return False
    except ResponseError as error:
        text = str(error).lower()
        if "already exists" in text:
            return True
        if code_of(error) == "" and ("unknown" in text or "disabled" in text):
            return False  # older than Redis 7, or a service that forbids functions
        raise
    return True
