"""Log lines: coloured on a terminal, one JSON object a line elsewhere; on stderr.

The one thing to know: whatever is logged, by us or by a library, passes `Scrubber`,
which puts `***` in the place of every secret of the configuration.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

_SECRET_LENGTH_MIN = 3
"""A shorter one would also be found in words that have nothing to do with it."""
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_LIBRARIES_TOO_LOUD = ("elastic_transport", "elasticsearch", "uvicorn", "watchfiles")


class Scrubber:
    """A step of the log's chain: no secret passes, wherever it stands."""

    def __init__(self) -> None:
        self._known: list[str] = []
        self._pattern: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """From now on also these texts are replaced; earlier ones stay hidden."""
        known = set(self._known)
        known.update(text for text in secrets if len(text) >= _SECRET_LENGTH_MIN)
        self._known = sorted(known, key=len, reverse=True)
        if self._known:
            self._pattern = re.compile("|".join(map(re.escape, self._known)))

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._pattern is not None:
            text = self._pattern.sub("***", text)
        return _URL_PASSWORD.sub(r"\1:***", text)

    def value(self, value: Any) -> Any:
        """The same for whatever is logged, down into lists and mappings."""
        match value:
            case str():
                return self.text(value)
            case int() | float() | None:
                return value
            case dict():
                return {name: self.value(item) for name, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The event without secrets, as a step of structlog's chain."""
        for name, value in event.items():
            if not name.startswith("_"):  # structlog's own
                event[name] = self.value(value)
        return event


scrubber = Scrubber()


def configure(
    secrets: Iterable[str] = (),
    *,
    json: bool | None = None,
    debug: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for the whole process.

    `json` defaults to whether the stream is no terminal. Tracebacks and debug lines
    are written only with `debug`.
    """
    stream = sys.stderr if stream is None else stream
    json = not stream.isatty() if json is None else json
    scrubber.hide(secrets)
    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if debug else _name_exception,
        _without_empty,
        scrubber,
    ]
    last: list[Any] = (
        [structlog.processors.EventRenamer("message"), _json_renderer()]
        if json
        else [structlog.dev.ConsoleRenderer(pad_event_to=30)]
    )
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    output = logging.StreamHandler(stream)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(logging.WARNING)
    logging.getLogger("bridge").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("sinks").setLevel(logging.DEBUG if debug else logging.INFO)
    for name in _LIBRARIES_TOO_LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a part, under the package's name (`bridge.deliver`).

    Call it as `log.warning("sink is down", sink=name, hint=…)`: a fixed sentence and
    named values, never a value of a row.
    """
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def _without_empty(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A reason or hint that there is none of is not told."""
    empty = [name for name, value in event.items() if value is None or value == ""]
    for name in empty:
        if name != "event":
            del event[name]
    return event


def _json_renderer() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer(sort_keys=False, default=str)


def _name_exception(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Only the class of an exception: its text may quote a row, its traceback is for
    `--debug`."""
    if info := event.pop("exc_info", None):
        raised = info if isinstance(info, BaseException) else sys.exc_info()[1]
        if isinstance(info, tuple):
            raised = info[1]
        event["error"] = type(raised).__name__
    return event
