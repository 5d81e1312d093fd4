"""What can go wrong, sorted by what happens next.

    BridgeError
    ├── Transient      wait and make the same call again
    │   └── TimedOut       a command does not: exit 3
    ├── Halt           stop that part and tell the operator
    │   └── ViewHalt       that part is one view
    └── Refusal        wrong configuration or query: exit 2, nothing was touched
        └── QueryRefusal   with the place in the query

The one thing to know: bugs are not here. They are asserted, and an exception that is
none of these halts the part in which it was raised.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar


class Exit(IntEnum):
    """Exit codes of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    TIMED_OUT = 3
    HALTED = 4


class BridgeError(Exception):
    """One sentence of what is wrong, and in `hint` one of what to do.

    Neither ever holds a secret or a value of a row.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


ErrorT = TypeVar("ErrorT", bound=BridgeError)


def first_of(errors: BaseExceptionGroup[ErrorT]) -> ErrorT:
    """The first of a group's errors, however deep it lies."""
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def errors_in(error: BaseException) -> list[BridgeError] | None:
    """The declared errors of an exception or group; None when there is any other.

    Cancellations beside them are left out: they follow from the rest.
    """
    if isinstance(error, BridgeError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return None
    found: list[BridgeError] = []
    for inner in error.exceptions:
        of_inner = errors_in(inner)
        if of_inner is None:
            return None
        found += of_inner
    return found


class Transient(BridgeError):
    """Not available now; the same call later is the right answer."""


class TimedOut(Transient):
    """What a command waited for did not come: it cannot say what it was asked."""


class Halt(BridgeError):
    """Going on would be a guess; the operator decides, with the hint's command."""


class ViewHalt(Halt):
    """What was found concerns one view alone, by its plan's name; the others go on."""

    def __init__(self, view: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.view = view


class Refusal(BridgeError):
    """The configuration or the command line asks for what cannot be."""


class QueryRefusal(Refusal):
    """A query that cannot be kept; `at` is the place in its text, in characters.

    `denied`: nothing is wrong with it, but the role lacks a right.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        at: int | None = None,
        denied: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.at = at
        self.denied = denied


def sentence(error: BridgeError) -> str:
    """What is wrong and what to do, in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def first_problem(error: BaseException) -> BridgeError | None:
    """What decides what happens next: a refusal or halt before what can be waited for.

    None when there is anything that is not a declared error: a bug.
    """
    found = errors_in(error)
    if found is None:
        return None
    for kind in (Refusal, Halt, Transient):
        for problem in found:
            if isinstance(problem, kind):
                return problem
    return None
