"""Random changes of rows, written down before they are made, and made fewer.

The one thing to know: a history is drawn whole from its seed, whatever a database says
to it, so that any part of it can be taken out and the rest be played again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, TypeAlias

from tests.property.derive.schema import Column, Schema, Table, quoted

ROWS = 4
"""How many rows of each table are tried at first."""


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


def drawn(dice: Random, schema: Schema, rounds: int) -> History:
    """A history by chance."""
    rows = tuple(inserting(dice, table) for table in schema.tables for _ in range(ROWS))
    return History(rows, tuple(_round(dice, schema) for _ in range(rounds)))


def _round(dice: Random, schema: Schema) -> Round:
    batches: list[Batch] = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        transaction = _transaction(dice, schema)
        if batches and dice.random() < 0.5:  # one batch of several transactions
            batches[-1] = (*batches[-1], transaction)
        else:
            batches.append((transaction,))
    return tuple(batches)


def _transaction(dice: Random, schema: Schema) -> Transaction:
    """One to four statements, some of them taken back."""
    steps = []
    for _ in range(dice.choice((1, 1, 2, 2, 3, 4))):
        if dice.random() < 0.08:
            steps.append(Step(changing(dice, schema), undone=True))
        steps.append(Step(changing(dice, schema)))
    return tuple(steps)


def changing(dice: Random, schema: Schema) -> str:
    """A statement that changes rows of a table, or their keys.

    It may be refused, by a key or a reference.
    """
    table = dice.choice(schema.tables)
    match dice.randrange(60):
        case 0:
            return f"truncate {table}{dice.choice((' cascade', ' cascade', ''))}"
        case 1 | 2:
            return f"delete from {table} where {_alike(dice, table)}"
        case 3 | 4:
            return f"update {table} set {_set(dice, table, 1)}"
        case 5 | 6:
            of = f"where {_alike(dice, table)}"
            return f"update {table} set {_set(dice, table, 1)} {of}"
        case case if case < 24:
            return inserting(dice, table)
        case case if case < 32:
            return f"delete from {table} where {_one(dice, table)}"
        case case if case < 38:
            return f"update {table} set {_key(dice, table)} where {_one(dice, table)}"
        case case if case < 44:
            return (
                f"update {table} set {_set(dice, table, 3)} where {_one(dice, table)}"
            )
    return f"update {table} set {_set(dice, table, 1)} where {_one(dice, table)}"


def inserting(dice: Random, table: Table) -> str:
    """An insert that does nothing where the key is there."""
    names = ", ".join(quoted(column.name) for column in table.written)
    values = ", ".join(_value(dice, column) for column in table.written)
    return f"insert into {table} ({names}) values ({values}) on conflict do nothing"


def _value(dice: Random, column: Column) -> str:
    if not column.not_null and dice.random() < 0.15:
        return "null"
    return dice.choice(column.kind.values)


def _set(dice: Random, table: Table, count: int) -> str:
    """New values of some columns, of the key as well."""
    columns = dice.sample(table.written, k=min(count, len(table.written)))
    return ", ".join(f"{quoted(c.name)} = {_value(dice, c)}" for c in columns)


def _key(dice: Random, table: Table) -> str:
    """A new value of a column of a key."""
    column = table.column(dice.choice(dice.choice(table.keys)))
    return f"{quoted(column.name)} = {_value(dice, column)}"


def _alike(dice: Random, table: Table) -> str:
    """A condition that several rows may meet."""
    fit = [c for c in table.columns if c.kind.family.compares and c.kind.values]
    column = dice.choice(fit)
    return f"{quoted(column.name)} = {dice.choice(column.kind.values)}"


def _one(dice: Random, table: Table) -> str:
    """A condition that one row meets, of which there may be none."""
    key = ", ".join(quoted(name) for name in table.keys[0])
    place = dice.randrange(ROWS)
    return (
        f"({key}) = (select {key} from {table} order by {key} offset {place} limit 1)"
    )
