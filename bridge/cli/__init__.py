"""The command `pgbridge`: a module a group of commands; parse, call, print.

The one thing to know: `main` is the only place where errors become exit codes, and
nothing heavy is imported before a command is chosen, so that `--help` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    _open_streams()
    sys.exit(call(sys.argv[1:] if arguments is None else arguments))


def call(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code. `--debug` may stand anywhere."""
    from bridge.cli import failures
    from bridge.cli.commands import app

    arguments = list(arguments)
    failures.show_tracebacks(False)
    if (wrong := _not_text(arguments)) is not None:
        return failures.tell(wrong)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    arguments = _config_last(options) + arguments[end:]
    failures.show_tracebacks(debug)
    try:
        outcome = app(args=arguments, prog_name="pgbridge", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, _Left):
        return 0  # nothing more to say, nothing went wrong
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        return failures.tell(error)
    return int(outcome or 0)


class _Left(Exception):
    """Whoever read our output has left."""


class _Stdout(io.FileIO):
    """Where results go. The first write that fails says so; what comes after it goes
    nowhere, also when Python flushes at its end."""

    failed = False

    def write(self, text: Any, /) -> int:
        if self.failed:
            return memoryview(text).nbytes
        try:
            return super().write(text)
        except BrokenPipeError:
            self.failed = True
            raise _Left from None
        except OSError as error:
            from bridge.errors import BridgeError

            self.failed = True
            raise BridgeError(
                f"the result cannot be written to stdout: {error.strerror}",
                hint="make room there, or let stdout lead elsewhere",
            ) from None


def _open_streams() -> None:
    """Streams that were closed before the start lead nowhere: else the first connection
    would be given the number of one, and be printed into."""
    for number, (name, mode) in enumerate(_STREAMS.items()):
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == number  # the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    sys.stdout.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Stdout(1, "wb", closefd=False)),
        encoding=sys.stdout.encoding,
        # Rather an escape than an end where the encoding lacks a character.
        errors="backslashreplace",
        line_buffering=sys.stdout.isatty(),
    )


def _not_text(arguments: Sequence[str]) -> Exception | None:
    """The refusal of an argument whose bytes are no text."""
    from bridge.errors import Refusal

    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            return Refusal(
                f"argument {number} is not UTF-8",
                hint="write it as UTF-8; `locale` shows what the terminal sends",
            )
    return None


def _config_last(arguments: list[str]) -> list[str]:
    """`-c FILE` may stand before the command: moved behind it, where it is taken."""
    match arguments:
        case ["dead-letters" | "dev" as group, *rest]:
            return [group, *_config_last(rest)]
        case ["-c" | "--config", file, command, *rest]:
            return [command, *rest, "-c", file]
        case [option, command, *rest] if option.startswith("--config="):
            return [command, *rest, option]
        case _:
            return arguments
