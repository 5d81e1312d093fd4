"""How a connection to the source is secured where the file does not say so.

The one thing to know: what leaves this machine is verified TLS; plain text has to be
asked for.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bridge.sink.options import is_loopback

_URL = re.compile("postgres(ql)?://")
_SYSTEM_ROOTS = 160_000
"""From this libpq on `sslrootcert=system` is known."""


def verified(dsn: str) -> str:
    """The same connection string, with TLS and the server's certificate verified where
    the connection leaves this machine: unless it, its service or the environment says
    otherwise (`sslmode`).

    Certificates are trusted as libpq is told to (`sslrootcert`), else as the system
    does. One that libpq does not take is given back as it is.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return dsn
    told = {"sslmode", "service"} & given.keys() or os.environ.get("PGSSLMODE")
    hosts = str(
        given.get("hostaddr") or given.get("host") or os.environ.get("PGHOST", "")
    )
    if told or all(map(_is_here, hosts.split(","))):
        return dsn
    added = {"sslmode": "verify-full"}
    if not (
        "sslrootcert" in given
        or os.environ.get("PGSSLROOTCERT")
        or Path("~/.postgresql/root.crt").expanduser().exists()
        or pq.version() < _SYSTEM_ROOTS
    ):
        added["sslrootcert"] = "system"
    if _URL.match(dsn):
        # It stays as it is written: so the password is known to be secret that way too.
        return f"{dsn}{'&' if '?' in dsn else '?'}{urlencode(added)}"
    return make_conninfo(dsn, **added)


def _is_here(host: str) -> bool:
    """Whether it is this machine: by name, by address, or by a socket."""
    socket = not host or host.startswith(("/", "@"))
    return socket or is_loopback(host.strip("[]"))
