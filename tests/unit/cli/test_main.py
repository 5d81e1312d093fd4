"""The front end: exit codes, one sentence of what is wrong, one of what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bridge.cli import call, failures
from bridge.control.planning import ViewRefusal
from bridge.errors import BridgeError, Exit, Halt, QueryRefusal, Refusal, Transient

COMMANDS = (
    "init check plan apply run status backfill promote rollback verify preview explain "
    "wait pause resume dead-letters drop dev demo"
).split()
READS_CONFIG = [
    ["check"],
    ["plan"],
    ["apply"],
    ["run"],
    ["status"],
    ["backfill", "v"],
    ["promote", "v"],
    ["rollback", "v"],
    ["verify", "v"],
    ["preview", "v"],
    ["explain", "v", "1"],
    ["wait"],
    ["pause", "s"],
    ["resume", "s"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "v", "1"],
    ["dead-letters", "retry", "--all"],
    ["dead-letters", "drop", "--all"],
    ["drop", "--yes"],
]


@pytest.fixture(autouse=True)
def _no_traceback() -> None:
    failures.show_tracebacks(False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_with_an_example(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([command, option]) == 0
    shown = capsys.readouterr().out
    assert "Usage: pgbridge" in shown
    assert "Example" in shown


GROUPS = {
    "dead-letters": ["list", "show", "retry", "drop"],
    "dev": ["up", "down"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_configuration(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in [[command, more] for more in GROUPS.get(command, [])] or [[command]]:
        assert call([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"--config +-c\b", shown), words
        assert "Example" in shown


def test_the_first_screen_says_what_to_type_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call([]) == 0
    shown = capsys.readouterr().out
    assert "Start here" in shown
    assert "First: pgbridge init" in shown
    for command in COMMANDS:
        assert command in shown


@pytest.mark.parametrize("arguments", READS_CONFIG, ids=" ".join)
def test_wrong_configuration_is_refused_by_every_command_that_reads_it(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text("[source]\ndsm = 'dbname=x'\n")
    assert call([*arguments, "-c", str(path)]) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "source.dsm" in shown.err
    assert "help: " in shown.err


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["check", "--nope"], ["preview"], ["wait", "--timeout", "soon"],
     ["dead-letters", "drop"], ["dev", "nope"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_exits_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text("[source]\ndsn = 'dbname=x'\n[views.v]\ntable='t'\n")
    if arguments[0] in ("wait", "dead-letters"):
        arguments = [*arguments, "-c", str(path)]
    assert call(arguments) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err


def test_unknown_views_and_sinks_name_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text(
        "[source]\ndsn = 'dbname=x'\n[sinks.cache]\ntype='memory'\n"
        "[views.product]\ntable='t'\n"
    )
    # The configuration may stand before the command, too.
    assert call(["-c", str(path), "preview", "prodct"]) == Exit.USAGE
    assert "'product'" in capsys.readouterr().err
    for words in (["dead-letters", "-c", str(path), "list"],
                  [f"--config={path}", "dead-letters", "list"]):  # fmt: skip
        assert call([*words, "prodct"]) == Exit.USAGE
        assert "'product'" in capsys.readouterr().err
    assert call(["pause", "cash", "-c", str(path)]) == Exit.USAGE
    assert "'cache'" in capsys.readouterr().err


def test_drop_without_a_terminal_needs_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text("[source]\ndsn = 'host=/nowhere dbname=x'\n")
    with open("/dev/null") as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert call(["drop", "-c", str(path)]) == Exit.USAGE
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "plan", "apply", "status", "wait"])
def test_a_source_that_is_away_ends_with_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text("[source]\ndsn = 'host=/nowhere dbname=x password=hunter2'\n")
    assert call([command, "-c", str(path)]) == Exit.FAILED
    shown = capsys.readouterr()
    assert "the source at /nowhere/x cannot be reached" in shown.out + shown.err
    assert "hunter2" not in shown.out + shown.err


@pytest.mark.parametrize("command", ["check", "plan", "run", "status"])
def test_an_address_without_a_host_does_not_show_its_password(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pgbridge.toml"
    path.write_text("[source]\ndsn = 'postgresql://me:hunter2/shop'\n")
    assert call([command, "-c", str(path)]) == Exit.USAGE
    shown = capsys.readouterr()
    assert "source.dsn has a port that is none" in shown.err
    assert "hunter2" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("wrong"), 2),
        (Transient("away"), 1),
        (Halt("stopped"), 1),
        (BridgeError("failed"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.tell(error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    # What to do is said also where nobody knew anything precise.
    assert ("help: " in shown.err) is isinstance(error, BridgeError)


def test_a_defect_tells_its_class_and_place_and_no_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for debug in (False, True):
        failures.show_tracebacks(debug)
        assert failures.tell(ValueError("a value of a row")) == 1
        shown = capsys.readouterr().err
        assert "ValueError" in shown
        assert ("a value of a row" in shown) is debug


def test_secrets_are_never_printed(capsys: pytest.CaptureFixture[str]) -> None:
    failures.hide(["s3cret"])
    failures.show_tracebacks(True)
    failures.tell(Halt("at s3cret and redis://u:pw99@h/0", hint="use s3cret"))
    shown = capsys.readouterr().err
    assert "s3cret" not in shown
    assert "pw99" not in shown


def test_the_place_in_a_query_is_shown_with_a_caret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    query = "select p.id,\n       now() as seen\n  from product p"
    refusal = QueryRefusal(
        "function now() is volatile", hint="leave it out", at=query.index("now")
    )
    failures.tell(ViewRefusal("product", query, refusal))
    assert capsys.readouterr().err.splitlines() == [
        "error: view product: function now() is volatile",
        "   2 |        now() as seen",
        "     |        ^^^^^",
        "help: leave it out",
    ]
