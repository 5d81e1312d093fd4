"""Random changes of rows, written down before they are made, and made fewer.

The one thing to know: a history is drawn whole from its seed, whatever a database says
to it, so that any part of it can be taken out and the rest be played again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, TypeAlias

from tests.property.derive.grammar import TABLES

FOLDED = ("x", "y")
"""Tables of citext and text: their values are letters."""
WRITTEN = (*TABLES, "part", *FOLDED)
IDS = 5
VALUES = (None, 0, 1, 1, 2, 2, 3)
LETTERS = ("null", "'a'", "'a'", "'A'", "'b'", "'B'", "'c'")
ROWS = 3


class Step(NamedTuple):
    """A statement; `undone`: it is taken back at once."""

    statement: str
    undone: bool = False


Transaction: TypeAlias = tuple[Step, ...]
Batch: TypeAlias = tuple[Transaction, ...]
"""Transactions that the bridge hears of together."""
Round: TypeAlias = tuple[Batch, ...]
"""Batches after which everything is compared."""


@dataclass(frozen=True)
class History:
    """Rows at first, and what is done to them."""

    rows: tuple[str, ...]
    rounds: tuple[Round, ...]

    def __str__(self) -> str:
        """As statements, a comment a batch and a comparison."""
        lines = [*self.rows]
        for batches in self.rounds:
            for number, batch in enumerate(batches, 1):
                lines.append(f"-- batch {number}")
                lines += [
                    f"{step.statement}{' -- rolled back' * step.undone}"
                    for transaction in batch
                    for step in transaction
                ]
            lines.append("-- compared")
        return "\n".join(lines)

    def fewer(self) -> Iterator[History]:
        """The same with one part less: a round, a batch, a transaction, a step, a row;
        large parts first."""
        for rounds in _without(self.rounds, depth=4):
            yield replace(self, rounds=rounds)
        for at in range(len(self.rows)):
            yield replace(self, rows=self.rows[:at] + self.rows[at + 1 :])


def _without(parts: tuple, depth: int) -> Iterator[tuple]:  # type: ignore[type-arg]
    for at in reversed(range(len(parts))):
        yield parts[:at] + parts[at + 1 :]
    if depth > 1:
        for at, part in enumerate(parts):
            for less in _without(part, depth - 1):
                yield (*parts[:at], less, *parts[at + 1 :])


async def shrunk(
    history: History, loses: Callable[[History], Awaitable[bool]]
) -> History:
    """A history that still loses, of which no part can be left out."""
    found = True
    while found:
        found = False
        for less in history.fewer():
            if await loses(less):
                history, found = less, True
                break
    return history


def drawn(dice: Random, rounds: int) -> History:
    """A history by chance."""
    rows = tuple(inserting(dice, table) for table in WRITTEN for _ in range(ROWS))
    return History(rows, tuple(_round(dice) for _ in range(rounds)))


def _round(dice: Random) -> Round:
    batches: list[Batch] = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        transaction = _transaction(dice)
        if batches and dice.random() < 0.5:  # one batch of several transactions
            batches[-1] = (*batches[-1], transaction)
        else:
            batches.append((transaction,))
    return tuple(batches)


def _transaction(dice: Random) -> Transaction:
    """One to four statements, some of them taken back."""
    steps = []
    for _ in range(dice.choice((1, 1, 2, 2, 3, 4))):
        if dice.random() < 0.08:
            steps.append(Step(changing(dice, dice.choice(WRITTEN)), undone=True))
        steps.append(Step(changing(dice, dice.choice(WRITTEN))))
    return tuple(steps)


def changing(dice: Random, table: str) -> str:
    """A statement that changes a row of the table, or its key."""
    number = _key(dice, table)
    match dice.randrange(10):
        case 0 | 1 | 2:
            return inserting(dice, table)
        case 3 | 4:
            return f"delete from {table} where id = {number}"
        case 5:
            other = _key(dice, table)
            return (
                f"update {table} set id = {other} where id = {number} "
                f"and not exists (select from {table} where id = {other})"
            )
        case 6:
            return (
                f"update {table} set a = {_value(dice, table)}, "
                f"b = {_value(dice, table)}, c = {_value(dice, table)} "
                f"where id = {number}"
            )
        case _:
            column = dice.choice("abc")
            value = _value(dice, table)
            return f"update {table} set {column} = {value} where id = {number}"


def inserting(dice: Random, table: str) -> str:
    """An insert that does nothing where the key is there."""
    values = ", ".join(_value(dice, table) for _ in "abc")
    return (
        f"insert into {table} values ({_key(dice, table)}, {values}) "
        "on conflict do nothing"
    )


def _key(dice: Random, table: str) -> str:
    if table in FOLDED:
        return dice.choice(LETTERS[1:])
    return str(dice.randint(1, IDS))


def _value(dice: Random, table: str) -> str:
    if table in FOLDED:
        return dice.choice(LETTERS)
    value = dice.choice(VALUES)
    if value == 1 and dice.random() < 0.2:
        return "1.0"
    return "null" if value is None else str(value)
