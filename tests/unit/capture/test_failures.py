"""The SQLSTATE decides what happens next, and nothing private is quoted."""

from __future__ import annotations

import pytest

from bridge.capture.failures import SlotActive, SlotLost, refusal
from bridge.errors import Halt, Transient


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        (None, Transient),
        ("08006", Transient),
        ("53300", Transient),
        ("55006", SlotActive),
        ("57P01", Transient),
        ("57P03", Transient),
        ("58P01", SlotLost),
        ("58030", Transient),
        ("28P01", Halt),
        ("28000", Halt),
        ("3D000", Halt),
        ("42501", Halt),
        ("42704", Halt),
        ("55000", Halt),
        ("XX000", Halt),
    ],
)
def test_each_state_is_classed(sqlstate: str | None, kind: type[Exception]) -> None:
    error = refusal(sqlstate, "ERROR:  no", doing="cannot start")
    assert type(error) is kind
    assert error.hint
    assert error.message.startswith("cannot start: no")
