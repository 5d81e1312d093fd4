"""Connection strings: TLS is verified where a connection leaves this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from bridge.config import load
from bridge.config.transport import verified


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGHOST", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://bridge@127.0.0.1:5432/shop",
        "postgresql://bridge@[::1]/shop",
        "postgresql://bridge@localhost/shop",
        "postgresql:///shop?host=/var/run/postgresql",
        "postgresql://bridge@/shop",
        "postgresql://bridge@db.example/shop?sslmode=disable",
        "service=shop",
        "postgresql://no=string=at all",
    ],
)
def test_here_and_where_it_is_said_nothing_is_added(dsn: str) -> None:
    assert verified(dsn) == dsn


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://bridge:secret@db.example/shop",
        "host=127.0.0.1,db.example dbname=shop",
        "hostaddr=192.0.2.1 host=localhost dbname=shop",
    ],
)
def test_elsewhere_the_certificate_is_verified(dsn: str) -> None:
    added = {"sslmode": "verify-full", "sslrootcert": "system"}
    assert conninfo_to_dict(verified(dsn)) == conninfo_to_dict(dsn) | added


def test_trusted_certificates_are_those_that_libpq_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dsn = "postgresql://bridge@db.example/shop"
    own = f"{dsn}?sslrootcert=/etc/ca.pem"
    assert conninfo_to_dict(verified(own))["sslrootcert"] == "/etc/ca.pem"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").touch()
    assert "sslrootcert" not in conninfo_to_dict(verified(dsn))
    monkeypatch.setenv("PGSSLMODE", "require")
    assert verified(dsn) == dsn


def test_the_file_is_read_so(tmp_path: Path) -> None:
    file = tmp_path / "pgbridge.toml"
    dsn = "postgresql://bridge@db.example/shop"
    file.write_text(f'[source]\ndsn = "{dsn}"\nadmin_dsn = "{dsn}"\n')
    source = load(file).source
    assert source.admin_dsn is not None
    for given in (source.dsn, source.admin_dsn):
        assert conninfo_to_dict(given)["sslmode"] == "verify-full"
