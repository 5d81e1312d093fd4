"""The connection that a stream is made on: connecting, looking, refusing.

The one thing to know: it is a `psycopg.pq` connection because psycopg's cursors do
not offer COPY in both directions; everything about TLS and passwords is libpq's.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from bridge.capture.failures import (
    PublicationMissing,
    SlotLost,
    SlotMissing,
    refusal,
)
from bridge.capture.handover import Waker
from bridge.capture.identity import IDENTITY_SQL, ServerIdentity
from bridge.conninfo import LIVELY, parameters
from bridge.errors import BridgeError, Halt, Transient
from bridge.position import parse_lsn
from bridge.refusals import of_connection

NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
"""Names that may stand in a replication command, which takes no parameters."""

SESSION: Final[Mapping[str, str]] = MappingProxyType(
    {
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "lc_monetary": "C",
        "search_path": "",
        "row_security": "off",
        "statement_timeout": "0",
    }
)
"""Settings that the text of values depends on, pinned on the connection."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How to reach the slot. `dsn` is any libpq conninfo, TLS and all."""

    dsn: str = field(repr=False)
    slot: str
    publication: str
    expected: ServerIdentity | None = None
    """The history that went before; another one is a HistoryChanged."""
    session: Mapping[str, str] = field(default_factory=lambda: SESSION)
    application_name: str = "pgbridge"
    connect_timeout_s: float = 10.0
    silence_max_s: float = 60.0
    """A server that was asked and says nothing for this long is taken for gone."""

    def check_names(self) -> None:
        """Halt unless both names are safe in a replication command."""
        for name in (self.slot, self.publication):
            check_name(name)


@dataclass(frozen=True, slots=True)
class Opening:
    """What was found before the stream began."""

    identity: ServerIdentity
    wal_sender_timeout_s: float
    """0: the server waits for ever."""
    confirmed_lsn: int
    """Where the slot stands: the stream starts behind it."""


class Interrupted(Exception):
    """Connecting was ended by the waker."""


def check_name(name: str) -> None:
    """Halt unless `name` is safe as the name of a slot or publication."""
    if not NAME.fullmatch(name):
        raise Halt(
            f"{name!r} cannot be the name of a slot or publication",
            hint="use a to z, digits and _, at most 63",
        )


def connect(
    settings: StreamSettings, waker: Waker, closing: Callable[[], bool]
) -> pq.abc.PGconn:
    """A replication connection. Transient, Halt, or Interrupted once `closing`."""
    given = LIVELY | parameters(settings.dsn)
    given |= {
        "replication": "database",
        "application_name": settings.application_name,
    }
    conn = pq.PGconn.connect_start(make_conninfo("", **given).encode())
    deadline_s = time.monotonic() + settings.connect_timeout_s
    try:
        while events := _next_events(conn):
            if not _ready(conn, events, waker, closing, deadline_s):
                raise Transient(
                    "cannot connect to the source: no answer", hint="trying again"
                )
    except BaseException:
        conn.finish()
        raise
    return conn


def _ready(
    conn: pq.abc.PGconn,
    events: int,
    waker: Waker,
    closing: Callable[[], bool],
    deadline_s: float,
) -> bool:
    """Wait for the socket once, or until woken; False when the time is over.

    Interrupted once `closing`.
    """
    poll = select.poll()
    poll.register(conn.socket, events)
    poll.register(waker.fileno(), select.POLLIN)
    left_s = max(deadline_s - time.monotonic(), 0)
    ready = dict(poll.poll(left_s * 1000 if waker.begin_wait() else 0))
    waker.end_wait(readable=waker.fileno() in ready)
    if closing():
        raise Interrupted
    return time.monotonic() < deadline_s


class Dialogue:
    """Statements on a connection that does not stream yet; none blocks for ever."""

    def __init__(
        self,
        conn: pq.abc.PGconn,
        settings: StreamSettings,
        waker: Waker,
        closing: Callable[[], bool],
    ) -> None:
        self._conn = conn
        self._silence_max_s = settings.silence_max_s
        self._waker = waker
        self._closing = closing

    @property
    def broken(self) -> bool:
        """Whether the connection is gone."""
        return self._conn.status != pq.ConnStatus.OK

    def run(self, statement: str) -> pq.abc.PGresult:
        """What the server answers, an error too. Transient when it says nothing for
        `silence_max_s`, Interrupted once it is closing."""
        conn, found = self._conn, None
        deadline_s = time.monotonic() + self._silence_max_s
        with suppress(psycopg.OperationalError):  # a result tells that it is broken
            conn.send_query(statement.encode())
        while True:
            while conn.is_busy():
                if not _ready(
                    conn, select.POLLIN, self._waker, self._closing, deadline_s
                ):
                    raise Transient(
                        "the source said nothing when it was asked", hint="trying again"
                    )
                with suppress(psycopg.OperationalError):
                    conn.consume_input()
            result = conn.get_result()
            if result is None:
                break
            found = result
            if found.status == pq.ExecStatus.COPY_BOTH:
                break
        if found is None:
            raise refusal(None, conn.get_error_message(), doing="the connection broke")
        return found

    def query(self, sql: str, *values: str) -> pq.abc.PGresult:
        """Run `sql` with each `{}` in it replaced by a quoted literal.

        The extended protocol with its parameters is refused on such a connection.
        """
        quote = pq.Escaping(self._conn).escape_literal
        quoted = (bytes(quote(value.encode())).decode() for value in values)
        result = self.run(sql.format(*quoted))
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise refused(result, "cannot look at the source")
        return result


def _next_events(conn: pq.abc.PGconn) -> int:
    """What connecting waits for; 0 when it is done."""
    if conn.status != pq.ConnStatus.BAD:
        match conn.connect_poll():
            case pq.PollingStatus.OK:
                return 0
            case pq.PollingStatus.READING:
                return select.POLLIN
            case pq.PollingStatus.WRITING:
                return select.POLLOUT
    raise of_connection(conn.get_error_message(), needs_password=conn.needs_password)


def look(with_server: Dialogue, settings: StreamSettings) -> Opening:
    """Pin the session and look at server, publication and slot.

    Raises what `failures` names when one of them is not as it must be.
    """
    for name, value in settings.session.items():
        with_server.query("select pg_catalog.set_config({}, {}, false)", name, value)
    found = with_server.query(IDENTITY_SQL)
    system, timeline, in_recovery, version, timeout_ms = (
        found.get_value(0, column) or b"" for column in range(5)
    )
    identity = ServerIdentity(
        system_identifier=int(system),
        timeline=int(timeline or b"0", 16),
        in_recovery=in_recovery == b"t",
        version=int(version),
    )
    identity.require(settings.expected)
    _require_publication(with_server, settings.publication)
    confirmed_lsn = slot_position(with_server, settings.slot)
    return Opening(identity, int(timeout_ms) / 1000, confirmed_lsn)


def _require_publication(with_server: Dialogue, publication: str) -> None:
    sql = "select 1 from pg_catalog.pg_publication where pubname = {}"
    if not with_server.query(sql, publication).ntuples:
        # Postgres 18 would stream nothing, and no error either.
        raise PublicationMissing(
            f"there is no publication {publication}",
            hint="make it with `pgbridge apply`; what changed meanwhile is lost",
        )


def slot_position(with_server: Dialogue, slot: str) -> int:
    """The slot's confirmed LSN. SlotMissing, SlotLost; Halt when it is another's."""
    found = with_server.query(
        "select plugin, database = pg_catalog.current_database(), wal_status,"
        " confirmed_flush_lsn::text"
        " from pg_catalog.pg_replication_slots where slot_name = {}",
        slot,
    )
    if not found.ntuples:
        raise SlotMissing(
            f"there is no replication slot {slot}",
            hint="make it with `pgbridge apply`: everything is built again",
        )
    plugin, ours, wal_status, confirmed = (
        found.get_value(0, column) for column in range(4)
    )
    if plugin != b"pgoutput" or ours != b"t":
        raise Halt(
            f"the replication slot {slot} is not of this database and pgoutput",
            hint="choose another source.slot",
        )
    if wal_status == b"lost" or confirmed is None:
        raise SlotLost(
            f"the replication slot {slot} was invalidated",
            hint="its changes are gone: a new slot and a rebuild are needed",
        )
    return parse_lsn(confirmed.decode())


def refused(
    result: pq.abc.PGresult, doing: str, *, missing: type[BridgeError] | None = None
) -> BridgeError:
    """The error for a result that is an error; `missing` for an undefined object."""
    found = result.error_field(pq.DiagnosticField.SQLSTATE)
    sqlstate = found.decode() if found else None
    primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    text = (primary or result.error_message or b"").decode(errors="replace")
    if sqlstate == "42704" and missing is not None:
        return missing(f"{doing}: {text}", hint="make it again: `pgbridge apply`")
    return refusal(sqlstate, text, doing=doing)
