"""Commands: read from rows alone, due in log order, each once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.control.commands import (
    Agenda,
    Backfill,
    Cancel,
    Configure,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    command_id,
    parse,
)
from bridge.errors import Refusal
from bridge.store.rows import CommandRow, CommandState, GenerationKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)
G1 = {"sink": "es", "name": "v", "number": 1}
KEY = GenerationKey("es", "v", 1)


def row(
    number: int,
    kind: str = "backfill",
    state: CommandState = CommandState.PENDING,
    **arguments: Any,
) -> CommandRow:
    given = arguments or {"view": "v", "generations": [G1]}
    return CommandRow(number, kind, given, "me", NOW, state, "", None, None, None)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (
            row(1, view="v", target="es", keys=["1"], generations=[G1], rebuild=False),
            Backfill(1, "v", "es", (KEY,), ("1",), None, rebuild=False),
        ),
        (
            row(1, view="v", generations=[], rebuild=True),
            Backfill(1, "v", None, (), None, None, rebuild=True),
        ),
        (
            row(1, view="v", generations=[G1], condition="id > 1"),
            Backfill(1, "v", None, (KEY,), None, "id > 1", rebuild=False),
        ),
        (
            row(2, "promote", view="v", generations=[G1], force=True),
            Promote(2, "v", (KEY,), force=True),
        ),
        (row(3, "rollback", view="v", generations=[G1]), RollBack(3, "v", (KEY,))),
        (row(4, "pause", sink="es"), Pause(4, "es")),
        (row(5, "resume", sink="es"), Resume(5, "es")),
        (row(6, "cancel", id=1), Cancel(6, 1)),
        (row(7, "retry", view="v"), Retry(7, "v", None)),
        (row(7, "retry", view="v", keys=["a"]), Retry(7, "v", ("a",))),
        (row(8, "configure", digest="x"), Configure(8, {"digest": "x"})),
    ],
)
def test_each_kind_is_read(given: CommandRow, command: object) -> None:
    assert parse(given) == command


@pytest.mark.parametrize(
    "given",
    [
        row(1, "explode", view="v"),
        row(1, view=1, generations=[]),
        row(1, view="v"),
        row(1, view="v", generations=[{"sink": "es"}]),
        row(1, view="v", generations=[], keys="abc"),
        row(1, "pause", sink=None),
        row(1, "cancel", id="x"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused(given: CommandRow) -> None:
    with pytest.raises(Refusal):
        parse(given)


@pytest.mark.parametrize(
    ("prefix", "content", "number"),
    [
        ("pgbridge", b"command:17", 17),
        ("other", b"command:17", None),
        ("pgbridge", b"17", None),
        ("pgbridge", b"command:", None),
        ("pgbridge", b"command:-1", None),
        ("pgbridge", b"command:1; drop", None),
        ("pgbridge", b"command:" + b"9" * 20, None),
        ("pgbridge", b"marker:command:1", None),
    ],
)
def test_only_a_command_s_message_carries_an_id(
    prefix: str, content: bytes, number: int | None
) -> None:
    assert command_id(prefix, content) == number


def ids(rows: list[CommandRow]) -> list[int]:
    return [row.id for row in rows]


def test_commands_are_due_in_the_order_of_the_log_and_once() -> None:
    agenda = Agenda()
    agenda.announce(2, 100)
    agenda.announce(1, 200)
    agenda.look([row(1), row(2)], 300)
    assert ids(agenda.due(99)) == []
    assert ids(agenda.due(150)) == [2]
    assert ids(agenda.due(500)) == [1]
    assert ids(agenda.due(500)) == []
    assert agenda.place(1) == 200


def test_a_message_without_a_row_does_nothing() -> None:
    agenda = Agenda()
    agenda.announce(7, 100)
    agenda.look([], 300)
    assert ids(agenda.due(1000)) == []
    assert agenda.place(7) is None


def test_a_command_that_is_done_is_skipped_on_replay() -> None:
    agenda = Agenda()
    agenda.announce(1, 100)
    agenda.look([row(1)], 300)
    assert ids(agenda.due(300)) == [1]
    agenda.look([], 400)  # it has an outcome now
    agenda.announce(1, 100)
    agenda.look([], 500)
    assert ids(agenda.due(1000)) == []


def test_a_message_that_was_acknowledged_before_a_restart_is_not_waited_for() -> None:
    agenda = Agenda()
    agenda.look([row(1)], 300)
    assert ids(agenda.due(299)) == []
    agenda.look([row(1)], 900)
    assert ids(agenda.due(300)) == [1]


def test_a_row_that_is_ahead_of_the_stream_waits_for_its_place() -> None:
    agenda = Agenda()
    agenda.look([replace(row(1), log_end=700)], 300)
    assert ids(agenda.due(300)) == []
    agenda.announce(1, 650)
    assert ids(agenda.due(649)) == []
    assert ids(agenda.due(650)) == [1]


def test_one_begun_before_a_restart_goes_on_at_once() -> None:
    agenda = Agenda()
    agenda.look([row(1, state=CommandState.RUNNING)], 300)
    assert ids(agenda.due(0)) == [1]


def test_pause_resume_and_cancel_do_not_wait_for_the_log() -> None:
    agenda = Agenda()
    agenda.look(
        [row(4, "resume", sink="es"), row(3, "pause", sink="es"), row(2), row(5)], 300
    )
    assert ids(agenda.due(0)) == [3, 4]


@pytest.mark.parametrize("halted", [{KEY}, {"es"}])
def test_what_addresses_a_halted_part_does_not_wait_for_the_log(
    halted: set[Any],
) -> None:
    agenda = Agenda()
    agenda.look([row(1)], 300)
    assert ids(agenda.due(0, {"redis"})) == []
    assert ids(agenda.due(0, halted)) == [1]


def test_one_that_failed_for_now_is_due_again() -> None:
    agenda = Agenda()
    agenda.look([row(1, "pause", sink="es")], 300)
    assert ids(agenda.due(0)) == [1]
    assert ids(agenda.due(0)) == []
    agenda.again(1)
    assert ids(agenda.due(0)) == [1]
