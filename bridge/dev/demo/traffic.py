"""The shop's traffic: orders, prices, reviews, deletes, rows that move to others.

The one thing to know: products up to `RESERVED` are left alone, for `scenes.py`, which
shows what one change does.
"""

from __future__ import annotations

import asyncio
import random
import time
from importlib.resources import files

import psycopg

from bridge.store.queries import parse

RESERVED = 100
PRODUCTS, REVIEWS, CUSTOMERS, ORDERS, CATEGORIES = 2000, 5000, 300, 4000, 6
_STATEMENTS = parse(
    files(__package__).joinpath("traffic.sql").read_text("utf-8"), "traffic.sql"
)
# How often each happens, relative to the others.
_WEIGHTS = {
    "place": 30,
    "handle": 40,
    "archive": 12,
    "reprice": 20,
    "review": 14,
    "withdraw": 8,
    "correct": 6,
    "sort": 4,
    "introduce": 3,
    "discontinue": 1,
}
_STATEMENTS_MAX = 4
_AHEAD_MAX_S = 0.5


class Traffic:
    """One customer of the database, writing until cancelled."""

    def __init__(self, dsn: str, dice: random.Random) -> None:
        """Nothing is connected until `run`."""
        self.transactions = 0
        self.rows = 0
        self._dsn = dsn
        self._dice = dice
        self._last = {"place": ORDERS, "review": REVIEWS, "introduce": PRODUCTS}

    async def run(self, transactions_per_s: float) -> None:
        """Write, evenly, at most so many transactions a second."""
        async with await psycopg.AsyncConnection.connect(self._dsn) as connection:
            due = time.monotonic()
            while True:
                await self._transaction(connection)
                # What a busy machine could not do is not made up for in a burst.
                due = max(due + 1 / transactions_per_s, time.monotonic() - _AHEAD_MAX_S)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _transaction(self, connection: psycopg.AsyncConnection) -> None:
        chosen = self._dice.choices(
            list(_WEIGHTS),
            list(_WEIGHTS.values()),
            k=self._dice.randint(1, _STATEMENTS_MAX),
        )
        async with connection.transaction():
            changed = sum([await self._change(connection, name) for name in chosen])
        self.transactions += 1
        self.rows += changed

    async def _change(self, connection: psycopg.AsyncConnection, name: str) -> int:
        cursor = await connection.execute(_STATEMENTS[name], self._parameters())
        if cursor.description and (row := await cursor.fetchone()):
            self._last[name] = row[0]
        return max(cursor.rowcount, 0)

    def _parameters(self) -> dict[str, object]:
        """Some row of each table; one that is gone already is no change."""
        dice = self._dice
        return {
            "customer": dice.randint(1, CUSTOMERS),
            "product": dice.randint(RESERVED + 1, self._last["introduce"]),
            "review": dice.randint(REVIEWS // 2, self._last["review"]),
            "order": dice.randint(RESERVED + 1, self._last["place"]),
            "category": dice.randint(1, CATEGORIES),
            "price": dice.randint(500, 9500) / 100,
            "rating": dice.randint(1, 5),
            "reserved": RESERVED,
        }
