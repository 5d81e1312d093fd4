"""Log lines never hold a secret, and exceptions show only their class."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bridge.observe import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_secrets_are_scrubbed_wherever_they_stand(stream: io.StringIO) -> None:
    logs.configure(["hunter2", "k=="], stream=stream)
    log = logs.logger("bridge.test")
    log.info("opened hunter2", url=["redis://u:other@h/0"], nested={"a": "x hunter2"})
    logging.getLogger("foreign").warning("said %s", "hunter2")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "other" not in text
    first, second = map(json.loads, text.splitlines())
    assert first["message"] == "opened ***"
    assert first["nested"] == {"a": "x ***"}
    assert second["message"] == "said ***"


def test_exception_text_is_left_out_unless_debugging(stream: io.StringIO) -> None:
    for debug, shown in ((False, False), (True, True)):
        logs.configure(stream=stream, debug=debug)
        try:
            raise ValueError("a value of a row")
        except ValueError:
            logs.logger("bridge.test").error("it failed", exc_info=True)
        assert ("a value of a row" in stream.getvalue()) is shown
        assert "ValueError" in stream.getvalue()


def test_debug_lines_only_when_debugging(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.logger("bridge.test").debug("fine")
    assert stream.getvalue() == ""
