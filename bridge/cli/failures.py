"""What went wrong, as one sentence, one of help, and an exit code.

The one thing to know: only errors of the bridge speak for themselves. Of any other
exception the class and the place are told, since its text may quote a row; `--debug`
shows the traceback.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress

from bridge.errors import BridgeError, Exit, QueryRefusal, Refusal, TimedOut, Transient

INTERRUPTED = 130
"""As a shell says it: ended by SIGINT."""
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$.]*(?:\(\))?|\S")
_NEGATIVE = re.compile(r"^No such option: -\d", re.IGNORECASE)
_secrets: set[str] = set()
_debug = False


def hide(secrets: Iterable[str]) -> None:
    """Texts that are printed as `***` from now on."""
    _secrets.update(text for text in secrets if len(text) >= 3)


def show_tracebacks(wanted: bool) -> None:
    """Whether `--debug` was given."""
    global _debug  # noqa: PLW0603  one process, one command
    _debug = wanted


def tracebacks_shown() -> bool:
    """Whether `--debug` was given."""
    return _debug


def tell(error: BaseException) -> int:
    """Print what went wrong to stderr; gives the exit code that goes with it."""
    if _debug and not isinstance(error, KeyboardInterrupt):
        lines = traceback.format_exception(error)
        sys.stderr.write(_scrub("".join(lines)))
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case BridgeError():
            _say(error.message, _excerpt(error), error.hint or _what_next(error))
            denied = isinstance(error, QueryRefusal) and error.denied
            if isinstance(error, TimedOut):
                return Exit.TIMED_OUT
            refused = isinstance(error, Refusal) and not denied
            return Exit.USAGE if refused else Exit.FAILED
        case _ if hasattr(error, "format_message"):  # wrong usage, told by typer
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "pgbridge"
            message = str(error.format_message()).rstrip(".")
            message = message.removeprefix("Invalid value: ")
            if not message:  # its help was printed already
                return int(Exit.USAGE)
            hint = f"see `{command} --help`"
            if _NEGATIVE.search(message):
                hint += "; keys that begin with - stand at the end, after `--`"
            _say(message[:1].lower() + message[1:], "", hint)
            return int(getattr(error, "exit_code", Exit.USAGE))
        case _:
            place = _place(error)
            _say(
                f"an unexpected {type(error).__name__}{place}",
                "",
                "this is a defect of pgbridge; `--debug` shows the traceback to report",
            )
            return Exit.FAILED


def _say(message: str, excerpt: str, hint: str) -> None:
    from rich.text import Text

    from bridge.cli.output import console

    error = console(sys.stderr)
    with suppress(OSError):  # the exit code tells it all the same
        error.print(Text.assemble(("error: ", "bold red"), _scrub(message)))
        if excerpt:
            error.print(excerpt)
        if hint:
            error.print(Text.assemble(("help: ", "bold cyan"), _scrub(hint)))


def _what_next(error: BridgeError) -> str:
    """What to do where whoever raised the error knew nothing more precise."""
    match error:
        case Transient():
            return "try again when it answers; `pgbridge check` tells how it is"
        case Refusal():
            return "put that right; nothing was changed"
        case _:
            return "`pgbridge status` and `pgbridge check` tell more"


def _excerpt(error: BridgeError) -> str:
    """The line of the query at fault with a caret under the place."""
    query = getattr(error, "query", None)
    if not isinstance(error, QueryRefusal) or error.at is None or not query:
        return ""
    at = min(error.at, len(query.rstrip()))
    start = query.rfind("\n", 0, at) + 1
    end = query.find("\n", at)
    line = query[start : end if end >= 0 else None].replace("\t", " ")
    number = str(query.count("\n", 0, at) + 1)
    word = _WORD.match(line, at - start)
    carets = "^" * (len(word[0]) if word else 1)
    return f"{number:>4} | {line.rstrip()}\n{'':>4} | {' ' * (at - start)}{carets}"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/bridge/" in frame.filename]
    if not ours:
        return ""
    file = ours[-1].filename.rpartition("/bridge/")[2]
    return f" in bridge/{file}, line {ours[-1].lineno}"


def _scrub(text: str) -> str:
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _URL_PASSWORD.sub(r"\1:***", text)
