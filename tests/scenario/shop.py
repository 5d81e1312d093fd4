"""A small shop under all sorts of traffic, and the views that follow it.

The one thing to know: whatever a writer does, some view has to follow it: rows that
come, go, change their key, move to another parent, or vanish with the whole table.
"""

from __future__ import annotations

import asyncio
import random

import psycopg

SCHEMA = """
create table category (id integer primary key, name text not null);
create table item (id bigint primary key, category_id integer, name text,
                   price numeric(10, 2) not null, note text);
create table review (id bigint primary key, item_id bigint, body text, rating integer);
create index on item (category_id);
create index on review (item_id);
alter table item alter note set storage external;
alter table category replica identity full;
alter table item replica identity full;
alter table review replica identity full;
insert into category select g, 'category ' || g % 7 from generate_series(1, 20) g;
insert into item
select g, g % 25, 'item ' || g, g % 97, repeat('long ', 500)
from generate_series(1, 1000) g;
insert into review
select g, g % 1100, 'review ' || g, g % 6 from generate_series(1, 2000) g
"""
VIEWS = {
    "item": 'table = "item"',
    "product": '''query = """
        select i.id, i.name, i.price, c.name as category,
               (select json_agg(json_build_object('body', r.body, 'rating', r.rating)
                                order by r.id)
                from review r where r.item_id = i.id) as reviews
        from item i join category c on c.id = i.category_id"""''',
    "shelf": '''query = """
        select c.name, count(*) as items, sum(i.price) as total
        from category c join item i on i.category_id = c.id group by c.name"""''',
    "cheap": 'query = "select id, name from item where price < 40"',
}
SHAPES = {
    "item": "a table",
    "product": "joins, with an array of children",
    "shelf": "a group",
    "cheap": "a condition",
}
"""What each view stands for."""
ITEMS, CATEGORIES, REVIEWS = 1000, 20, 2000


class Shop:
    """Writers of random transactions, until told to stop."""

    def __init__(
        self, dsn: str, seed: object, *, writers: int = 2, pause_s: float = 0.02
    ) -> None:
        self.committed = 0
        self.truncates = True
        """Whether tables are emptied now and then."""
        self._dsn = dsn
        self._pause_s = pause_s
        self._stopping = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._write(random.Random(f"{seed}/{number}")))
            for number in range(writers)
        ]

    async def stop(self) -> int:
        """Stop in order; how many transactions were committed."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self.committed

    async def _write(self, dice: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(self._dsn) as own:
                    while not self._stopping.is_set():
                        await self._transaction(own, dice)
                        await asyncio.sleep(dice.random() * self._pause_s)
            except psycopg.OperationalError:
                await asyncio.sleep(self._pause_s)  # the server is away, as is planned

    async def _transaction(
        self, own: psycopg.AsyncConnection[object], dice: random.Random
    ) -> None:
        try:
            for _ in range(dice.choice((1, 1, 2, 5))):
                await own.execute(self._statement(dice).encode())
        except (psycopg.IntegrityError, psycopg.errors.DeadlockDetected):
            await own.rollback()
            return
        if dice.random() < 0.1:
            await own.rollback()
        else:
            await own.commit()
            self.committed += 1

    def _statement(self, dice: random.Random) -> str:
        item, other = dice.randint(1, ITEMS), dice.randint(1, ITEMS + 100)
        category, review = dice.randint(1, CATEGORIES), dice.randint(1, REVIEWS)
        text = f"'{dice.random():.9f} ünï'"
        if self.truncates and dice.random() < 0.0005:
            return f"truncate {dice.choice(('review', 'review', 'item'))}"
        match dice.randint(0, 11):
            case 0:
                return f"delete from item where id = {item}"
            case 1 | 2 | 3:
                return (
                    f"insert into item values ({item}, {category}, {text}, {item % 97},"
                    " repeat('long ', 500)) on conflict (id) do update"
                    " set name = excluded.name, category_id = excluded.category_id"
                )
            case 4:
                return f"update item set id = {other} where id = {item}"
            case 5:
                return f"update item set category_id = {category} where id = {item}"
            case 6:
                return f"update category set name = {text} where id = {category}"
            case 7:
                return f"delete from review where id = {review}"
            case 8:
                return f"update review set item_id = {other} where id = {review}"
            case 9 | 10:
                return (
                    f"insert into review values ({review}, {other}, {text}, 3)"
                    " on conflict (id) do update set body = excluded.body"
                )
            case _:
                return f"update item set price = price + 1 where id % 50 = {item % 50}"
