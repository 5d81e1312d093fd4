"""`pgbridge drop`: nothing is removed where not all of it can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from bridge.control import lease
from bridge.store.locks import LEASE, LOCK_CLASS
from tests.fixtures.commands import asked

VIEW = """
[sinks.mem]
type = "memory"
[views.item]
table = "item"
[[views.item.targets]]
sink = "mem"
"""


@pytest.fixture
def owner(database: str) -> Iterator[psycopg.Connection[tuple[str | None]]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table item (id int primary key)")
        yield connection


def is_there(owner: psycopg.Connection[tuple[str | None]], slot: str) -> bool:
    """Whether slot, publication and schema all are."""
    found = owner.execute(
        "select count(*) from pg_publication, pg_namespace, pg_replication_slots"
        " where nspname = 'bridge' and slot_name = %s",
        [slot],
    ).fetchone()
    return found == (1,)


def test_nothing_is_dropped_while_a_daemon_holds_the_lease(
    database: str,
    owner: psycopg.Connection[tuple[str | None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also one that has begun since `drop` has looked."""
    file, slot = tmp_path / "pgbridge.toml", f"t_{token_hex(6)}"
    file.write_text(f'[source]\ndsn = "{database}"\nslot = "{slot}"\n{VIEW}')
    assert asked(capsys, file, "apply")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(lease, "TURN_S", 0.2)
        owner.execute("select pg_advisory_lock(%s, %s)", [LOCK_CLASS, LEASE])
        code, _, err = asked(capsys, file, "drop", "--yes", "--targets")
        assert (code, "a daemon holds the lease" in err) == (1, True), err
        assert is_there(owner, slot)
        owner.execute("select pg_advisory_unlock(%s, %s)", [LOCK_CLASS, LEASE])
    assert asked(capsys, file, "drop", "--yes", "--targets")[0] == 0
    assert not is_there(owner, slot)


def test_nothing_is_dropped_where_the_publication_is_anothers(
    database: str,
    owner: psycopg.Connection[tuple[str | None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, slot, role = tmp_path / "pgbridge.toml", f"t_{token_hex(6)}", token_hex(6)
    own = make_conninfo(database, user=f"r_{role}")
    admin = f'admin_dsn = "{database}"'
    owner.execute(f"create role r_{role} login replication".encode())
    owner.execute(f"grant create on database {owner.info.dbname} to r_{role}".encode())
    owner.execute(f"grant select on item to r_{role}".encode())
    file.write_text(f'[source]\ndsn = "{own}"\nslot = "{slot}"\n{admin}\n{VIEW}')
    assert asked(capsys, file, "apply")[0] == 0
    file.write_text(file.read_text().replace(admin, ""))
    code, out, err = asked(capsys, file, "drop", "--yes", "--targets")
    assert (code, out) == (1, ""), out
    assert "belongs to another role" in err
    assert "drop publication pgbridge" in err
    assert is_there(owner, slot)
    owner.execute("drop publication pgbridge")
    code, out, err = asked(capsys, file, "drop", "--yes", "--targets")
    assert code == 0, err
    assert "schema bridge is dropped" in out
    owner.execute(f"drop owned by r_{role}; drop role r_{role}".encode())
