"""What `[sinks.NAME]` may say, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.sink import Refusal
from sinks.elasticsearch import Plugin
from sinks.elasticsearch.options import read_options

URL = "http://127.0.0.1:9200"


def test_an_address_is_enough() -> None:
    options = read_options({"type": "elasticsearch", "url": URL})
    assert options.urls == (URL,)
    assert options.verify
    assert options.credentials is None
    assert options.concurrency == 2


def test_several_addresses_with_prefix_and_default_ports() -> None:
    options = read_options(
        {"url": ["https://a.example", "https://b.example:9243/search/"]}
    )
    assert options.urls == (
        "https://a.example:443",
        "https://b.example:9243/search",
    )


def test_user_and_password_of_the_address_are_taken_out_of_it() -> None:
    options = read_options({"url": "https://me:p%40ss@a.example"})
    assert options.urls == ("https://a.example:443",)
    assert options.credentials == ("me", "p@ss")


def test_secrets_do_not_show_in_the_repr() -> None:
    shown = repr(read_options({"url": "https://me:hush@a.example"}))
    shown += repr(read_options({"url": URL, "api_key": "hush"}))
    assert "hush" not in shown


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(Refusal) as refused:
        Plugin.validate({"url": URL, "usrname": "x"})
    assert "usrname" in refused.value.message
    assert "username" in refused.value.hint


@pytest.mark.parametrize("host", ["search.internal", "10.0.0.5", "[2001:db8::1]"])
def test_plain_text_off_loopback_only_when_asked_for(host: str) -> None:
    url = f"http://{host}:9200"
    with pytest.raises(Refusal, match="plain HTTP"):
        read_options({"url": url})
    with pytest.raises(Refusal, match="plain HTTP"):
        read_options({"url": url, "verify": False})
    assert read_options({"url": url, "plaintext": True}).urls == (url,)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_plain_text_on_loopback(host: str) -> None:
    assert read_options({"url": f"http://{host}:9200"}).urls


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": []},
        {"url": 9200},
        {"url": "127.0.0.1:9200"},
        {"url": "redis://127.0.0.1"},
        {"url": "http://127.0.0.1:no"},
        {"url": "http://127.0.0.1:9200/?pretty"},
        {"url": URL, "verify": "no"},
        {"url": URL, "username": "me"},
        {"url": URL, "password": "hush"},
        {"url": URL, "username": "me", "password": "hush", "api_key": "hush"},
        {"url": URL, "ca_file": "/no/such/file.pem"},
        {"url": URL, "request_timeout": "2h"},
        {"url": URL, "request_timeout": True},
        {"url": URL, "concurrency": 0},
        {"url": ["http://a:hush@localhost", "http://b:hush@localhost"]},
    ],
)
def test_wrong_options_are_refused_without_their_secrets(
    options: dict[str, object],
) -> None:
    with pytest.raises(Refusal) as refused:
        Plugin.validate(options)
    assert refused.value.message
    assert refused.value.hint
    assert "hush" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), (30, 30), ("2m", 120)])
def test_request_timeout(written: object, seconds: float) -> None:
    options = read_options({"url": URL, "request_timeout": written})
    assert options.request_timeout_s == seconds


def test_ca_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    assert read_options({"url": URL, "ca_file": str(file)}).ca_file == str(file)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mapping": {}}, "mapping"),
        ({"mappings": []}, "mappings"),
        ({"mappings": {"title": "text"}}, "mappings.title"),
        ({"settings": 3}, "settings"),
        ({"settings": {"gc_deletes": "1m"}}, "gc_deletes"),
        ({"settings": {"index": {"gc_deletes": "1m"}}}, "gc_deletes"),
        ({"settings": {"translog": {"durability": "async"}}}, "durability"),
        ({"settings": {"mapping.source.mode": "synthetic"}}, "mapping.source"),
        ({"settings": {"default_pipeline": "p"}}, "default_pipeline"),
        ({"settings": {"index.mode": "logsdb"}}, "mode"),
        ({"settings": {"lifecycle.name": "x"}}, "lifecycle"),
        ({"key": "a:{id}"}, "key"),
    ],
)
def test_wrong_options_of_a_target(options: dict[str, object], named: str) -> None:
    with pytest.raises(Refusal) as refused:
        Plugin.validate_target(options)
    assert named in refused.value.message


def test_right_options_of_a_target() -> None:
    Plugin.validate_target({})
    Plugin.validate_target(
        {
            "mappings": {"title": {"type": "text"}},
            "settings": {
                "number_of_replicas": 1,
                "analysis": {"analyzer": {"a": {"type": "standard"}}},
            },
        }
    )
