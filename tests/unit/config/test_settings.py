"""Every setting, limit and metric is documented, and something reads or moves it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import bridge
import sinks
from bridge.config import Limits, schema
from bridge.observe.metrics import Metrics

DOCS = Path(__file__).parents[3] / "docs"


def source(*, without: str) -> str:
    """All of the code but one module, by its name."""
    roots = [Path(package.__path__[0]) for package in (bridge, sinks)]
    paths = [path for root in roots for path in root.rglob("*.py")]
    return "".join(path.read_text() for path in paths if path.name != without)


def test_every_setting_and_limit_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    names = [item.name for item in fields(Limits)]
    for part in (schema.Source, schema.Daemon, schema.View):
        names += part.model_fields
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_every_limit_says_its_unit_and_its_reason() -> None:
    for item in fields(Limits):
        assert item.metadata["unit"]
        assert item.metadata["why"]


def test_every_metric_is_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    for family in Metrics().registry.collect():
        assert family.name in text, family.name
        assert family.documentation in text, family.name


def test_the_metrics_that_users_rely_on_are_there() -> None:
    text = Metrics().text().decode()
    for name in (
        "pgbridge_changes_total",
        "pgbridge_documents_total",
        "pgbridge_lag_bytes",
        "pgbridge_lag_seconds",
        "pgbridge_commit_to_kept_seconds",
        "pgbridge_retained_bytes",
        "pgbridge_owed_keys",
        "pgbridge_dead_letters",
        "pgbridge_gate_wait_seconds",
    ):
        assert f"# TYPE {name} " in text


def test_no_limit_is_declared_that_nothing_reads() -> None:
    text = source(without="limits.py")
    names = [field.name for field in fields(Limits)]
    assert len(names) > 20
    unread = [name for name in names if not re.search(rf"\.{name}\b", text)]
    assert unread == []


def test_no_metric_is_declared_that_nothing_moves() -> None:
    text = source(without="")
    names = [name for name in vars(Metrics()) if name != "registry"]
    assert len(names) > 20
    used = {name: len(re.findall(rf"\.{name}\b", text)) for name in names}
    assert [name for name, times in used.items() if times < 2] == []
