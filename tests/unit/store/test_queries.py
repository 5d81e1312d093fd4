"""The statements beside the code: well formed, each used, each there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bridge.control
import bridge.store
from bridge.store.queries import QUERIES, parse

FOLDERS = [Path(package.__path__[0]) for package in (bridge.store, bridge.control)]


def strings() -> set[str]:
    """Every string constant in the packages that run the statements."""
    return {
        node.value
        for folder in FOLDERS
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_statement_is_used() -> None:
    assert set(QUERIES) - strings() == set()


def test_statements_are_lower_case_and_without_semicolon() -> None:
    for name, statement in QUERIES.items():
        code = "\n".join(line.partition("--")[0] for line in statement.splitlines())
        assert code == code.lower(), name
        assert ";" not in code, name


def test_a_file_is_taken_apart() -> None:
    text = (
        "-- name: one\n-- Says one.\nselect 1;\n\n-- name: two\n-- Two.\nselect\n2;\n"
    )
    assert parse(text, "x.sql") == {"one": "select 1", "two": "select\n2"}


@pytest.mark.parametrize(
    "text",
    [
        "select 1;\n-- name: one\n-- One.\nselect 1;",
        "-- name: one\nselect 1;",
        "-- name: one\n-- One.\nselect 1",
        "-- name: one\n-- One.\nselect 1; select 2;",
        "-- name: one\n-- One.\nselect 1;\n-- name: one\n-- One.\nselect 1;",
    ],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.sql"):
        parse(text, "x.sql")
