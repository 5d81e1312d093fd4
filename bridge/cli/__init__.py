"""The command `pgbridge`: a module a group of commands; parse, call, print.

The one thing to know: `main` is the only place where errors become exit codes, and
nothing heavy is imported before a command is chosen, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    sys.exit(call(sys.argv[1:] if arguments is None else arguments))


def call(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code. `--debug` may stand anywhere."""
    from bridge.cli import failures
    from bridge.cli.commands import app

    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    arguments = _config_last(options) + arguments[end:]
    failures.show_tracebacks(debug)
    try:
        outcome = app(args=arguments, prog_name="pgbridge", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left: nothing more to say, nothing went wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        return failures.tell(error)
    return int(outcome or 0)


def _config_last(arguments: list[str]) -> list[str]:
    """`-c FILE` may stand before the command: moved behind it, where it is taken."""
    match arguments:
        case ["-c" | "--config", file, command, *rest]:
            return [command, *rest, "-c", file]
        case [option, command, *rest] if option.startswith("--config="):
            return [command, *rest, option]
        case _:
            return arguments
