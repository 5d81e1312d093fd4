"""Who writes to the simulated server: small transactions over a few rows.

The one thing to know: nobody waits for a lock here; a row that is locked is left alone.
"""

from __future__ import annotations

import asyncio
import random

from tests.simulation import views
from tests.simulation.source import Server, Txn


class Writers:
    """All of them; `write` is their life."""

    def __init__(self, server: Server, dice: random.Random, pause_s: float) -> None:
        self._server = server
        self._dice = dice
        self.pause_s = pause_s
        self.swap_chance, self.delete_chance = 0.12, 0.3
        self.bad_chance = 0.0
        """Share of items of which a document cannot be made."""
        self._titles = 0

    async def write(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(self._dice.expovariate(1 / self.pause_s))
            if not self._server.down:
                self.transaction()
        if self._dice.random() < 0.3:
            await self.leave()

    async def leave(self) -> None:
        """Take every item away, so that whatever comes back stays."""
        server = self._server
        for id_ in list(server.tables["item"]):
            await asyncio.sleep(self._dice.expovariate(1 / self.pause_s))
            row, locks = server.tables["item"].get(id_), server.locked()
            free = not locks & {("item", id_), ("item", -1)}
            if row is not None and free and not server.down:
                server.begin(Txn(0, [("item", row, None)], {("item", id_)}))

    def row(self, table: str, id_: int) -> views.Row:
        dice = self._dice
        self._titles += 1
        match table:
            case "item":
                bad = self.bad_chance and dice.random() < self.bad_chance
                title = f"{views.BAD if bad else ''}t{self._titles}"
                return (id_, dice.randint(1, 5), title)
            case "category":
                return (id_, dice.choice("abc"))
            case _:
                return (id_, dice.randint(1, 7), f"b{self._titles}")

    def transaction(self, *, truncate: str | None = None) -> None:
        """A few changes of rows that nobody else has locked."""
        dice, server = self._dice, self._server
        locked = server.locked()
        if any((t, -1) in locked for t in views.COLUMNS):
            return  # a table is locked as a whole
        tables = {name: dict(rows) for name, rows in server.tables.items()}
        txn = Txn(0, [], set(), truncated=truncate)
        if truncate is not None:
            if locked:
                return
            txn.locks.add((truncate, -1))
            tables[truncate] = {}
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            table = dice.choice(("item", "item", "category", "review"))
            rows, id_ = tables[table], dice.randint(1, 7)
            if (table, id_) in locked:
                continue
            old = rows.get(id_)
            if table == "item" and old and dice.random() < self.swap_chance:
                other = dice.randint(1, 7)
                if other == id_ or (table, other) in locked:
                    continue
                self._swap(txn, rows, id_, other)
                continue
            gone = old and dice.random() < self.delete_chance
            new = None if gone else self.row(table, id_)
            txn.changes.append((table, old, new))
            txn.locks.add((table, id_))
            if new is None:
                rows.pop(id_, None)
            else:
                rows[id_] = new
        if txn.changes or truncate:
            server.begin(txn)

    def _swap(self, txn: Txn, rows: dict[int, views.Row], one: int, two: int) -> None:
        """`update … set id = …`: the ids of two rows change places, or one moves."""
        first, second = rows.get(one), rows.get(two)
        assert first is not None
        rows[two] = (two, *first[1:])
        txn.changes.append(("item", first, rows[two]))
        if second is None:
            del rows[one]
        else:
            rows[one] = (one, *second[1:])
            txn.changes.append(("item", second, rows[one]))
        txn.locks |= {("item", one), ("item", two)}
