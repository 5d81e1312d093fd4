"""What a connection string of Postgres gives, read once for all who connect.

The one thing to know: nothing of it is ever quoted, since what stands in the wrong
place may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bridge.errors import Refusal

LIVELY = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
"""Parameters with which a server that is gone without a word, behind a firewall that
forgot the connection for instance, is noticed within 25 s. By the kernel's own it would
be a quarter of an hour, or two hours while an answer is waited for."""
_FORM = "write postgresql://USER@HOST:PORT/DATABASE, special characters as %XX"


def parameters(dsn: str, key: str = "source.dsn") -> dict[str, Any]:
    """The parameters by their names. `key` is what the configuration calls the string.

    Refusal for one that libpq does not take.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Refusal(
            f"{key} is not a connection string that libpq takes", hint=_FORM
        ) from None
    ports = str(given.get("port", ""))
    if not re.fullmatch("[0-9,]*", ports) or any(
        int(port) > 65535 for port in ports.split(",") if port
    ):
        # `postgresql://USER:PASSWORD/DATABASE` has the password there.
        raise Refusal(f"{key} has a port that is none", hint=_FORM)
    return given


def where(given: Mapping[str, Any]) -> str:
    """`HOST:PORT/DATABASE` of connection parameters, without user and password."""
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    port = f":{given['port']}" if given.get("port") else ""
    database = given.get("dbname") or given.get("user")
    return f"{host}{port}" + (f"/{database}" if database else "")
