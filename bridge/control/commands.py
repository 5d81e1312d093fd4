"""What operators ask for, read from its rows, and when it is to be carried out.

The one thing to know: a row decides *what*, its message in the log only *when*.
Anybody may emit a message, so one without an open row means nothing, and an id that
has an outcome is skipped however often the log repeats it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from bridge.errors import Refusal
from bridge.store.rows import CommandRow, CommandState, GenerationKey

MESSAGE_PREFIX = "pgbridge"
"""Prefix of all logical messages of the bridge."""
_COMMAND = b"command:"
_ID_DIGITS_MAX = 19
_ANNOUNCED_MAX = 10_000
"""Anybody may emit messages. One that is not remembered is taken for one that was
acknowledged before its command was carried out."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Derive documents of a view again. At most one of the last three is given."""

    id: int
    view: str
    target: str | None
    """SINK or SINK/NAME as it was asked for; None: every target."""
    generations: tuple[GenerationKey, ...]
    """As they were when it was issued: live, else building."""
    keys: tuple[str, ...] | None
    condition: str | None
    rebuild: bool


@dataclass(frozen=True, slots=True)
class Promote:
    """Let readers see these generations, that were building when it was issued."""

    id: int
    view: str
    generations: tuple[GenerationKey, ...]
    force: bool
    """In spite of dead letters that the live generation has not."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Let readers see these generations again, previous when it was issued."""

    id: int
    view: str
    generations: tuple[GenerationKey, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop writing to a sink."""

    id: int
    sink: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on writing to a sink."""

    id: int
    sink: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the backfills that a command started."""

    id: int
    command: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Derive the dead letters of a view again; `keys` None: all of them."""

    id: int
    view: str
    keys: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Configure:
    """The edited configuration holds from its place in the log."""

    id: int
    arguments: Mapping[str, Any]


Command: TypeAlias = (
    Backfill | Promote | RollBack | Pause | Resume | Cancel | Retry | Configure
)


def parse(row: CommandRow) -> Command:
    """The command of a row. Refusal when the row is not one that this version knows
    (it was issued by a newer one, or by hand)."""
    given = row.arguments
    try:
        match row.kind:
            case "backfill":
                return Backfill(
                    row.id,
                    _text(given["view"]),
                    _maybe_text(given.get("target")),
                    _generations(given["generations"]),
                    _keys(given.get("keys")),
                    _maybe_text(given.get("condition")),
                    given.get("rebuild") is True,
                )
            case "promote":
                return Promote(
                    row.id,
                    _text(given["view"]),
                    _generations(given["generations"]),
                    given.get("force") is True,
                )
            case "rollback":
                return RollBack(
                    row.id, _text(given["view"]), _generations(given["generations"])
                )
            case "pause":
                return Pause(row.id, _text(given["sink"]))
            case "resume":
                return Resume(row.id, _text(given["sink"]))
            case "cancel":
                return Cancel(row.id, int(given["id"]))
            case "retry":
                return Retry(row.id, _text(given["view"]), _keys(given.get("keys")))
            case "configure":
                return Configure(row.id, given)
    except (KeyError, TypeError, ValueError):
        pass
    raise Refusal(
        f"command {row.id} ({row.kind}) cannot be read by this version",
        hint="issue it again with the functions of the schema bridge",
    )


def command_id(prefix: str, content: bytes) -> int | None:
    """The id that a logical message carries; None for every other message."""
    digits = content.removeprefix(_COMMAND)
    if prefix != MESSAGE_PREFIX or digits == content:
        return None
    if not digits.isdigit() or len(digits) > _ID_DIGITS_MAX:
        return None
    return int(digits)


class Agenda:
    """When each open command is due, and each only once.

    `announce` is told of messages as the stream passes them, `look` of the open rows
    as the table shows them; `due` gives what is to be carried out now.
    """

    def __init__(self) -> None:
        self._rows: dict[int, CommandRow] = {}
        self._announced: dict[int, int] = {}
        self._seen_at: dict[int, int] = {}
        self._given: set[int] = set()

    def announce(self, command: int, lsn: int) -> None:
        """The stream passed the message of `command`, in a commit that ends at `lsn`.

        It may come before the row was looked at, and again when the log is replayed.
        """
        if len(self._announced) < _ANNOUNCED_MAX or command in self._rows:
            self._announced.setdefault(command, lsn)

    def look(self, rows: Iterable[CommandRow], passed: int) -> None:
        """These are all open rows; the stream has told the log up to `passed`.

        A command whose message has not come when the stream has reached the end that
        the log had when its row was read was acknowledged before it was carried out,
        and will not be announced again.
        """
        self._rows = {row.id: row for row in rows}
        for command, row in self._rows.items():
            self._seen_at.setdefault(command, max(row.log_end, passed))
        # What is not open has an outcome: its place in the log is of no use.
        for known in (self._announced, self._seen_at):
            for command in [c for c in known if c not in self._rows]:
                if known is self._seen_at or known[command] <= passed:
                    del known[command]
        self._given &= self._rows.keys()

    def due(
        self, processed: int, halted: Collection[GenerationKey | str] = ()
    ) -> list[CommandRow]:
        """What is to be carried out now, in order, and is not given again.

        First what does not wait for the stream (`at_once`), by id; then what the
        stream has passed, in the order of the log. `processed` is the position up to
        which the stream has been taken; `halted` names generations and sinks.
        """
        ready: list[tuple[int, int, CommandRow]] = []
        for command, row in self._rows.items():
            place = self._due_at(row, halted)
            if command not in self._given and place <= processed:
                ready.append((place, command, row))
        ready.sort(key=lambda item: item[:2])
        self._given.update(command for _, command, _ in ready)
        return [row for _, _, row in ready]

    def _due_at(self, row: CommandRow, halted: Collection[GenerationKey | str]) -> int:
        if row.state is CommandState.RUNNING or at_once(row, halted):
            return 0  # begun before a restart, or not waiting for the stream
        return self._announced.get(row.id, self._seen_at[row.id])

    def again(self, command: int) -> None:
        """It could not be carried out for now: it is due as before."""
        self._given.discard(command)

    def place(self, command: int) -> int | None:
        """End of the commit that issued it; None when the stream has not told."""
        return self._announced.get(command)


def at_once(row: CommandRow, halted: Collection[GenerationKey | str] = ()) -> bool:
    """Whether a command is taken from the table without waiting for its place.

    `pause`, `resume` and `cancel` always are; others when a part that they address
    has halted, since the stream may not get there without them.
    """
    try:
        command = parse(row)
    except Refusal:
        return True  # so that its failure is told at once
    match command:
        case Pause() | Resume() | Cancel():
            return True
        case Backfill() | Promote() | RollBack():
            return any(
                key in halted or key.sink in halted for key in command.generations
            )
        case Retry() | Configure():
            return False
        case _:
            assert_never(command)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _maybe_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _keys(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(key) for key in value)


def _generations(value: object) -> tuple[GenerationKey, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(
        GenerationKey(_text(g["sink"]), _text(g["name"]), int(g["number"]))
        for g in value
    )
