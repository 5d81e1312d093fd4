"""What a command does where its words reach nobody, or are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = f'exec {sys.executable} -c "from bridge.cli import main; main()" "$@"'


def called(redirection: str, *arguments: str, **more: str) -> tuple[int, str]:
    """Exit code, and what reached stderr, of a command with streams as in a shell."""
    done = subprocess.run(
        ["sh", "-c", f"{_COMMAND} {redirection}", "sh", *arguments],
        env={**os.environ, **more},
        stderr=subprocess.PIPE,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_closed_streams_hinder_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pgbridge.toml"
    assert called("<&- >&- 2>&-", "init", "-c", str(path)) == (0, "")
    assert "[source]" in path.read_text()
    code, said = called("<&- >&-", "drop", "-c", str(path), PGPASSWORD="x")
    assert code == 2
    assert "add --yes" in said


def test_a_result_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pgbridge.toml"
    code, said = called(">/dev/full", "init", "-c", str(path))
    assert code == 1
    lines = said.splitlines()
    assert "cannot be written to stdout: No space left" in lines[-2]
    assert lines[-1].startswith("help: ")
    assert "Exception" not in said


def test_errors_that_nobody_takes_leave_the_exit_code(tmp_path: Path) -> None:
    assert called("2>/dev/full", "check", "-c", str(tmp_path / "none.toml"))[0] == 2


def test_an_encoding_without_a_character_escapes_it(tmp_path: Path) -> None:
    path = tmp_path / "ö.toml"
    code, said = called(">/dev/null", "init", "-c", str(path), PYTHONIOENCODING="ascii")
    assert (code, "Error" in said) == (0, False)


@pytest.mark.parametrize("arguments", [["explain", "v", "\udcff"], ["\udcff"]])
def test_what_is_no_text_is_refused(arguments: list[str]) -> None:
    code, said = called("", *arguments)
    assert code == 2
    assert f"argument {len(arguments)} is not UTF-8" in said
