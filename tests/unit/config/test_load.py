"""The configuration: what is taken, and how each mistake is named with its place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.config import (
    AuditRate,
    Config,
    HttpAddress,
    Limits,
    OnSlotLoss,
    config_path,
    load,
)
from bridge.errors import Refusal, sentence

MINIMAL = """
[source]
dsn = "postgresql://bridge:${PW}@db/shop"
"""
FULL = """
[source]
dsn = "postgresql://bridge:${PW}@db.internal/shop"
slot = "shop"
publication = "shop_pub"
admin_dsn = "${ADMIN_DSN:-}"
search_path = ["app", "public"]
wal_budget = "1GB"

[daemon]
http = "[::1]:9000"
ready_lag = "1m"
audit = "1% per hour"
on_slot_loss = "rebuild"
memory = "800MiB"
dead_letters_max = 5
keep_previous = "1h"
backfill_rate = 1000

[sinks.mem]
type = "memory"

[views.product]
query = "select '$${literal}' as a, id from product"
key = ["id"]
functions = ["public.slug"]

[[views.product.targets]]
sink = "mem"
name = "products"

[[views.product.targets]]
sink = "mem"

[views.orders]
table = "public.orders"
columns = ["id", "status"]
"""


def given(text: str, environ: Mapping[str, str] | None = None) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pgbridge.toml"
        path.write_text(text)
        return load(path, environ={"PW": "hunter2"} if environ is None else environ)


def refused(text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        given(text, environ)
    assert "hunter2" not in caught.value.message + caught.value.hint
    return caught.value.message


def test_only_the_address_of_the_source_is_needed() -> None:
    config = given(MINIMAL)
    assert str(config.source.dsn).startswith("postgresql://bridge:hunter2@db/shop?ssl")
    assert config.source.slot == config.source.publication == "pgbridge"
    assert config.source.wal_budget_bytes == 4 * 2**30
    assert config.source.search_path == ("public",)
    assert config.source.admin_dsn is None
    assert config.daemon.http == HttpAddress("127.0.0.1", 8480)
    assert config.daemon.ready_lag_s == 60
    assert config.limits == Limits()
    assert config.views == config.sinks == {}


def test_every_setting_is_taken() -> None:
    config = given(FULL)
    assert config.source.wal_budget_bytes == 10**9
    assert config.source.admin_dsn is None
    assert config.daemon.http == HttpAddress("::1", 9000)
    assert config.daemon.audit == AuditRate(0.01, 3600)
    assert config.daemon.on_slot_loss is OnSlotLoss.REBUILD
    assert config.daemon.keep_previous_s == 3600
    assert config.limits.memory_bytes == 800 * 2**20
    assert config.limits.lane_bytes_max == 2 * Limits().lane_bytes_max
    product = config.views["product"]
    assert product.query == "select '${literal}' as a, id from product"
    assert product.key == ("id",)
    assert [str(target) for target in config.targets()] == [
        "mem/products",
        "mem/product",
    ]
    assert config.views["orders"].columns == ("id", "status")


def test_secrets_show_nowhere() -> None:
    config = given(FULL)
    assert "hunter2" not in repr(config)
    assert config.secrets() == {"hunter2"}


def test_encoded_passwords_are_secret_both_ways() -> None:
    config = given('[source]\ndsn = "postgresql://b:a%40b@h/x?sslpassword=zz"')
    assert config.secrets() == {"a%40b", "a@b", "zz"}
    config = given("[source]\ndsn = \"host=h user=b password='x y'\"")
    assert config.secrets() == {"x y"}


@pytest.mark.parametrize(
    ("environ", "slot"),
    [({}, "fallback"), ({"SLOT": ""}, "fallback"), ({"SLOT": "mine"}, "mine")],
)
def test_defaults_of_variables(environ: dict[str, str], slot: str) -> None:
    text = '[source]\ndsn = "dbname=x"\nslot = "${SLOT:-fallback}"'
    assert given(text, environ).source.slot == slot


def test_a_variable_that_is_not_set_is_named_with_its_place() -> None:
    message = refused(MINIMAL, {})
    assert "source.dsn" in message
    assert "PW" in message
    nested = MINIMAL + '[views.a]\ntable = "a"\nkey = ["x", "${NOPE}"]'
    assert "views.a.key[1]" in refused(nested)


def test_secrets_from_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("postgresql://h/x\n")
    path = tmp_path / "pgbridge.toml"
    path.write_text('[source]\ndsn_file = "secret"')
    config = load(path, environ={})
    assert str(config.source.dsn).startswith("postgresql://h/x?ssl")
    assert config.files == (path, tmp_path / "secret")
    # Whatever directory the daemon is started in.
    (tmp_path / "ca.pem").touch()
    path.write_text(
        '[source]\ndsn_file = "secret"\n[sinks.search]\ntype = "elasticsearch"\n'
        'url = "https://h"\nca_file = "ca.pem"'
    )
    ca_file = load(path, environ={}).sinks["search"].options["ca_file"]
    assert ca_file == str(tmp_path / "ca.pem")
    path.write_text('[source]\ndsn_file = "nowhere"')
    with pytest.raises(Refusal, match=r"source\.dsn_file.*nowhere"):
        load(path, environ={})
    path.write_text('[source]\ndsn_file = "secret"\ndsn = "dbname=x"')
    with pytest.raises(Refusal, match="both dsn and dsn_file"):
        load(path, environ={})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[sauce]\ndsn = 'dbname=x'", ["sauce", "source"]),
        ("[source]\ndsm = 'dbname=x'", ["source.dsm", "dsn"]),
        (MINIMAL + "[deamon]", ["deamon", "daemon"]),
        (MINIMAL + "[daemon]\nready_lagg = 1", ["daemon.ready_lagg", "ready_lag"]),
        (MINIMAL + "[views.a]\ntabel = 'a'", ["views.a.tabel", "table"]),
        (
            MINIMAL + "[sinks.m]\ntype='memory'\n[views.a]\ntable='a'\n"
            "[[views.a.targets]]\nsink='m'\nencodign='json'",
            ["views.a.targets[0].encodign"],
        ),
        (MINIMAL + "[sinks.m]\ntype='memory'\nurll='x'", ["sinks.m.urll"]),
        (MINIMAL + "[sinks.m]\ntype='memry'", ["sinks.m.type", "'memory'"]),
        (MINIMAL + "[sinks.m]", ["sinks.m.type is missing"]),
        (MINIMAL + "[sinks.m]\ntyp='memory'", ["sinks.m.typ", "'type'"]),
        (
            MINIMAL + "[sinks.mem]\ntype='memory'\n[views.a]\ntable='a'\n"
            "[[views.a.targets]]\nsink='men'",
            ["views.a.targets[0].sink", "'mem'"],
        ),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    text: str, parts: list[str]
) -> None:
    message = refused(text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source.slot", "'Has-Dash'"),
        ("source.slot", "''"),
        ("source.publication", "'drop table'"),
        ("source.wal_budget", "'4 parsecs'"),
        ("source.search_path", "[]"),
        ("source.dsn", "'nonsense'"),
        ("source.dsn", "5"),
        ("daemon.http", "'localhost'"),
        ("daemon.http", "'::1:80'"),
        ("daemon.http", "'h:99999'"),
        ("daemon.ready_lag", "'-1s'"),
        ("daemon.ready_lag", "true"),
        ("daemon.ready_lag", "[]"),
        ("daemon.memory", "'1MB'"),
        ("daemon.audit", "'200% per hour'"),
        ("daemon.on_slot_loss", "'shrug'"),
        ("daemon.dead_letters_max", "-1"),
        ("daemon.dead_letters_max", "true"),
        ("daemon.dead_letters_max", "1.5"),
        ("daemon.backfill_rate", "'fast'"),
        ("daemon.http", "'h:" + "9" * 5000 + "'"),
        ("daemon.backfill_rate", "inf"),
        ("source.wal_budget", "'99999999999TiB'"),
        ("views.a.columns", "[]"),
        ("views.a.columns", "['x', 'x']"),
        ("views.a.functions", "['price_of']"),
    ],
)
def test_wrong_values_are_refused_with_their_place(key: str, value: str) -> None:
    part, _, name = key.rpartition(".")
    base = {"source": {"dsn": "'dbname=x'"}, "daemon": {}, "views.a": {"table": "'a'"}}
    base[part][name] = value
    text = "\n".join(
        f"[{table}]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items())
        for table, keys in base.items()
    )
    assert key in refused(text)


@pytest.mark.parametrize("name", ["Upper", "1a", "a b", "a" * 64, "", "ä"])
def test_names_outside_the_pattern_are_refused(name: str) -> None:
    assert "views" in refused(MINIMAL + f'[views."{name}"]\ntable = "a"')
    assert "sinks" in refused(MINIMAL + f'[sinks."{name}"]\ntype = "memory"')
    target = f"[[views.a.targets]]\nsink='m'\nname='{name}'"
    assert "targets[0].name" in refused(
        MINIMAL + "[sinks.m]\ntype='memory'\n[views.a]\ntable='a'\n" + target
    )


@pytest.mark.parametrize(
    ("view", "what"),
    [
        ("", "neither query nor table"),
        ("query='select 1'\ntable='a'", "query and table"),
        ("query='select 1'\ncolumns=['a']", "columns goes with table"),
    ],
)
def test_a_view_is_a_query_or_a_table(view: str, what: str) -> None:
    assert what in refused(MINIMAL + f"[views.a]\n{view}")


def test_two_targets_of_one_name_in_a_sink_are_refused() -> None:
    views = "".join(
        f"[views.{view}]\ntable='a'\n[[views.{view}.targets]]\nsink='m'\n{name}\n"
        for view, name in (("a", ""), ("b", "name='a'"))
    )
    message = refused(MINIMAL + "[sinks.m]\ntype='memory'\n" + views)
    assert "views.b.targets[0]" in message
    assert "views.a.targets[0]" in message


def test_one_target_name_in_two_sinks_unless_they_are_one_server() -> None:
    def of(first: str, second: str) -> str:
        return (
            MINIMAL
            + f"[sinks.m]\n{first}\n[sinks.n]\n{second}\n[views.a]\ntable='a'\n"
            + "[[views.a.targets]]\nsink='m'\n[[views.a.targets]]\nsink='n'\n"
        )

    assert len(list(given(of("type='memory'", "type='memory'")).targets())) == 2
    redis = "type='redis'\nurl='redis://127.0.0.1:6379/{}'".format
    assert len(list(given(of(redis(0), redis(1))).targets())) == 2
    assert "same server" in refused(of(redis(0), redis(0)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("key='p:{id}'", "name='b'\nkey='p:{id}'"),
        ("key='p:{id}'", "name='b'\nkey='p:{nid}'"),
        ("", "name='b'\nkey='a:{id}'"),
    ],
)
def test_two_targets_that_would_write_the_same_keys_are_refused(
    first: str, second: str
) -> None:
    text = (
        MINIMAL + "[sinks.r]\ntype='redis'\nurl='redis://127.0.0.1/0'\n"
        f"[views.a]\ntable='a'\n[[views.a.targets]]\nsink='r'\n{first}\n"
        f"[[views.a.targets]]\nsink='r'\n{second}"
    )
    assert "views.a.targets[1] and views.a.targets[0] would write" in refused(text)
    assert given(text.replace("name='b'\nkey='", "name='b'\nkey='b")) is not None


@pytest.mark.parametrize(
    ("option", "near"),
    [("nmae='x'", "name"), ("encodign='hash'", "encoding"), ("snk='r'", "sink")],
)
def test_an_unknown_option_of_a_target_is_named_with_the_nearest(
    option: str, near: str
) -> None:
    with pytest.raises(Refusal) as caught:
        given(
            MINIMAL + "[sinks.r]\ntype='redis'\nurl='redis://127.0.0.1/0'\n[views.a]\n"
            f"table='a'\n[[views.a.targets]]\nsink='r'\n{option}"
        )
    assert "views.a.targets[0]" in caught.value.message
    assert f"the nearest valid one is {near!r}" in caught.value.message
    assert "type" not in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source = 5", "source is not a table"),
        (MINIMAL + "[views]\na = 5", "views.a is not a table"),
        (MINIMAL + "[views.a]\nquery = 5", "views.a.query is not a text"),
        (MINIMAL + "[views.a]\ntable = 'a'\ncolumns = 'id'", "is not a list"),
        (
            MINIMAL + "[views.a]\ntable = 'a'\n[views.a.targets]\nsink = 'm'",
            "views.a.targets is not a list of tables",
        ),
        (
            MINIMAL + "[views.a]\ntable = 'a'\ntargets = ['m']",
            "views.a.targets[0] is not a table; write [[views.a.targets]]",
        ),
        (MINIMAL + "[views.a]\ntable = ''", "views.a.table is empty; write"),
        (MINIMAL + "[views.a]\ntable='a'\nkey=[]", "views.a.key has nothing in it"),
        (MINIMAL + "[daemon]\nmemory = '1MB'", "is too small; write at least 128MiB"),
        (MINIMAL + "[daemon]\nready_lag = 0", "is too small; write more than 0"),
        (
            MINIMAL + "[daemon]\non_slot_loss = 'x'",
            "is another word; write 'halt' or 'rebuild'",
        ),
        ("", "source is missing; write [source] with dsn"),
        (MINIMAL + "sinks = []", "sinks"),
    ],
)
def test_values_of_another_kind_are_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(Refusal) as caught:
        given(text)
    assert says in sentence(caught.value)


def test_text_that_is_no_toml_and_files_that_are_not_there(tmp_path: Path) -> None:
    assert "line 2" in refused("\n[source\n")
    with pytest.raises(Refusal, match="does not exist") as caught:
        load(tmp_path / "none.toml", environ={})
    assert "pgbridge init" in caught.value.hint
    (tmp_path / "latin").write_bytes(b'a = "\xff"')
    with pytest.raises(Refusal, match="not UTF-8"):
        load(tmp_path / "latin", environ={})
    assert "not TOML" in refused(f"a = {'9' * 5000}")
    # As some editors save it.
    (tmp_path / "marked").write_text('[source]\ndsn = "dbname=x"', "utf-8-sig")
    assert load(tmp_path / "marked", environ={}).source.dsn == "dbname=x"


def test_where_the_file_is_looked_for() -> None:
    assert config_path(None, {}) == Path("pgbridge.toml")
    assert config_path(None, {"PGBRIDGE_CONFIG": "/etc/p.toml"}) == Path("/etc/p.toml")
    assert config_path(Path("x"), {"PGBRIDGE_CONFIG": "y"}) == Path("x")


def test_malformed_variables_are_refused() -> None:
    for text in ("${", "${1A}", "${A", "${A-b}", "${A:-${B}}", "${NO_TEXT}"):
        assert "source.slot" in refused(
            f'[source]\ndsn = "dbname=x"\nslot = "{text}"',
            {"A": "b", "NO_TEXT": "\udcff"},
        )


def test_limits_hold_their_bounds() -> None:
    with pytest.raises(AssertionError):
        Limits(chunk_rows=0)
    small: Any = Limits.for_memory(128 * 2**20)
    assert small.lane_bytes_max < Limits().lane_bytes_max
