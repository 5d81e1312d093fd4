"""Joined, nested, grouped and aggregated views under all sorts of traffic; one document
changed a thousand times.

PGBRIDGE_TEST_VIEW_ROUNDS is how many rounds of transactions there are (default 6),
PGBRIDGE_TEST_FAN_OUT in how many documents the hot row is (default 20,000).
"""

from __future__ import annotations

import os
from contextlib import suppress
from random import Random

import psycopg
import pytest

from tests.integration.test_planner_corpus import CORPUS, read
from tests.scenario.harness import eventually
from tests.scenario.world import Bridge

pytestmark = pytest.mark.scenario

ROUNDS = int(os.environ.get("PGBRIDGE_TEST_VIEW_ROUNDS", "4"))
TRANSACTIONS = 40
FAN_OUT = int(os.environ.get("PGBRIDGE_TEST_FAN_OUT", "20000"))
VIEWS = (
    "shop_product shop_order shop_category_counts shop_customer_spent "
    "shop_customer_last_order shop_products_sold blog_post blog_post_authors "
    "ticket_board crm_owner_null_group"
).split()
IDS = 6
COLUMNS = {
    "category": {"name": "name", "parent_id": "id"},
    "product": {"title": "name", "price": "number", "category_id": "must"},
    "review": {
        "product_id": "must",
        "customer_id": "must",
        "rating": "id",
        "body": "text",
    },
    "customer": {"email": "email", "name": "text"},
    "orders": {"customer_id": "must", "state": "state", "placed": "time"},
    "order_line": {"product_id": "must", "quantity": "must", "price": "number"},
    "author": {"name": "name"},
    "post": {"author_id": "id", "title": "text", "slug": "slug", "likes": "must"},
    "comment": {"post_id": "must", "author_id": "id", "hidden": "flag"},
    "post_author": {"rank": "must"},
    "company": {"owner_id": "id", "name": "name"},
    "person": {"company_id": "uuid", "name": "name"},
    "project": {"name": "name"},
    "ticket": {"project": "must", "title": "text", "state": "done"},
}
"""The columns that change, and what is put into them."""
KEYS = {
    "order_line": ("order_id", "line"),
    "post_author": ("post_id", "author_id"),
    "project": ("tenant", "id"),
    "ticket": ("tenant", "id"),
}
CASCADES = """
delete from order_line where order_id not in (select id from orders);
delete from comment where post_id not in (select id from post);
alter table order_line add foreign key (order_id) references orders on delete cascade
    on update cascade;
alter table comment add foreign key (post_id) references post on delete cascade;
alter table orders add foreign key (customer_id) references customer on delete cascade;
"""


class Writer:
    """Random transactions over the corpus' tables."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice

    def value(self, kind: str) -> str:
        dice = self.dice
        n = dice.randint(1, IDS)
        return {
            "id": dice.choice((str(n), str(n), "null")),
            "must": str(n),
            "name": f"'name {dice.randint(1, 3)}'",
            "text": dice.choice(("null", f"'line {n}\nübër \"{n}\"'")),
            "number": f"{n * 10}.{n}0",
            "email": f"'m{n}@x'",
            "state": f"'{dice.choice(('cart', 'paid', 'sent'))}'",
            "time": dice.choice(("null", f"'2024-01-0{n} 10:00Z'")),
            "slug": f"'slug {dice.randint(1, 1 << 40)}'",
            "flag": dice.choice(("true", "false")),
            "done": f"'{dice.choice(('open', 'done'))}'",
            "uuid": dice.choice(("null", _uuid(n))),
        }[kind]

    def key(self, table: str) -> dict[str, str]:
        names = KEYS.get(table, ("id",))
        if table in ("company", "person"):
            return {"id": _uuid(self.dice.randint(1, IDS))}
        return {name: str(self.dice.randint(1, IDS)) for name in names}

    def statement(self) -> str:
        dice = self.dice
        table = dice.choice(list(COLUMNS))
        columns, key = COLUMNS[table], self.key(table)
        where = " and ".join(f"{name} = {value}" for name, value in key.items())
        match dice.randrange(20):
            case 0 if dice.random() < 0.2:
                return f"truncate {table}" + (" cascade" if dice.random() < 0.5 else "")
            case 0 | 1 | 2 | 3:
                return f"delete from {table} where {where}"
            case 4 | 5:  # the row moves to another key
                name, value = dice.choice(list(self.key(table).items()))
                return f"update {table} set {name} = {value} where {where}"
            case 6:
                column, kind = dice.choice(list(columns.items()))
                if kind == "slug":
                    column, kind = "author_id", "id"
                return f"update {table} set {column} = {self.value(kind)}"
            case 7 | 8 | 9 | 10 | 11:
                column, kind = dice.choice(list(columns.items()))
                return f"update {table} set {column} = {self.value(kind)} where {where}"
        names = ", ".join([*key, *columns])
        values = ", ".join([*key.values(), *map(self.value, columns.values())])
        return f"insert into {table} ({names}) values ({values}) on conflict do nothing"

    def transaction(self, connection: psycopg.Connection) -> None:
        """Some statements; savepoints rolled back, and now and then everything.

        TRUNCATE locks readers out, so that Postgres may end it as a deadlock.
        """
        with (
            suppress(psycopg.errors.DeadlockDetected),
            connection.transaction(force_rollback=self.dice.random() < 0.1),
        ):
            for _ in range(self.dice.choice((1, 1, 2, 3, 6))):
                undone = self.dice.random() < 0.15
                try:
                    with connection.transaction(force_rollback=undone):
                        for _ in range(self.dice.choice((1, 1, 2))):
                            connection.execute(self.statement().encode())
                except (psycopg.IntegrityError, psycopg.NotSupportedError):
                    pass  # a key that is there, a table that others refer to


def _uuid(number: int) -> str:
    return f"'00000000-0000-0000-0000-{number:012}'"


def tables(own: psycopg.Connection) -> list[str]:
    """All that have rows of their own."""
    listed = own.execute(
        "select quote_ident(relname) from pg_class where relkind = 'r'"
        " and relnamespace = 'public'::regnamespace order by 1"
    )
    return [str(name) for (name,) in listed]


async def test_documents_of_many_tables_follow_all_traffic(
    bridge: Bridge, seed: int
) -> None:
    """Multi-statement transactions, savepoints, rollbacks, rows that move to another
    parent, key changes, TRUNCATE, cascades: every document in both sinks is what its
    query gives."""
    with psycopg.connect(bridge.dsn, autocommit=True) as own:
        own.execute((CORPUS / "schema.sql").read_bytes())
        own.execute((CORPUS / "rows.sql").read_bytes())
        own.execute(CASCADES)
        own.execute("create unique index old on product (id, category_id)")
        own.execute("alter table product replica identity using index old")
        for table in COLUMNS:
            if table != "product":
                own.execute(f"alter table {table} replica identity full".encode())
        definitions = {}
        for name in VIEWS:
            case = read(CORPUS / f"{name}.sql")
            key = f"key = {list(case.key)}" if case.given else ""
            definitions[name] = f"query = '''{case.query}'''\n{key}"
        bridge.configure(definitions)
        bridge.daemon.start()
        await bridge.ready()
        writer = Writer(Random(seed))
        for _ in range(ROUNDS):
            for _ in range(TRANSACTIONS):
                writer.transaction(own)
            await bridge.settled(empty=True)
        for table in tables(own):  # no view is empty in the end
            own.execute(f"delete from {table}".encode())
        own.execute((CORPUS / "rows.sql").read_bytes())
        await bridge.settled()
    await bridge.ends_exact()
    print(f"{ROUNDS * TRANSACTIONS} transactions, {len(VIEWS)} views, seed {seed}")


BOOKS = """
create table publisher (id int primary key, name text not null);
create table book (id int primary key, publisher_id int not null, title text not null);
create index on book (publisher_id);
alter table book replica identity full;
insert into publisher select g, 'publisher ' || g from generate_series(1, 10) g
"""
BOOK = """query = '''
  select b.id, b.title, p.name as publisher
    from book b join publisher p on p.id = b.publisher_id'''"""


async def test_a_thousand_changes_of_one_document_are_one_write(bridge: Bridge) -> None:
    """In one transaction, through the row itself and through the joined one."""
    bridge.execute(*BOOKS.split(";\n"), "insert into book values (1, 1, 'new')")
    bridge.configure({"book": BOOK})
    bridge.daemon.start()
    await bridge.ready()
    before = await bridge.daemon.metric("pgbridge_documents_total")
    bridge.transaction(
        *(
            f"update book set title = 'title {n}' where id = 1"
            if n % 2
            else f"update publisher set name = 'name {n}' where id = 1"
            for n in range(1000)
        )
    )
    await bridge.settled()
    assert bridge.value("book", "1") == {
        "id": 1,
        "title": "title 999",
        "publisher": "name 998",
    }
    after = await bridge.daemon.metric("pgbridge_documents_total")
    assert after - before == 2  # one in each sink
    await bridge.ends_exact()


async def test_a_row_in_very_many_documents_holds_up_no_other(bridge: Bridge) -> None:
    """While its documents are derived, what was committed after it is already there;
    what is still to be done is a metric."""
    bridge.execute(
        *BOOKS.split(";\n"),
        "insert into book select g, 1, 'book ' || g"
        f" from generate_series(1, {FAN_OUT}) g",
        f"insert into book values ({FAN_OUT + 1}, 2, 'other')",
        "analyze book",
    )
    bridge.configure({"book": BOOK})
    bridge.daemon.start()
    await bridge.ready()
    bridge.execute(
        "update publisher set name = 'hot' where id = 1",
        f"update book set title = 'after' where id = {FAN_OUT + 1}",
    )

    async def overtaken() -> bool:
        found = bridge.value("book", str(FAN_OUT + 1))
        return bool(found["title"] == "after")

    # Looked at often: all of it takes less than a second where nothing else runs.
    await eventually(overtaken, every_s=0.005)
    written = sum(
        (bridge.value("book", str(n)) or {}).get("publisher") == "hot"
        for n in range(1, FAN_OUT + 1, FAN_OUT // 100)
    )
    assert written < 100, "all of it went before what was committed after it"
    left = await bridge.daemon.metric("pgbridge_fan_out_waiting_keys")
    assert left <= FAN_OUT
    hot = bridge.one(
        "select count(*) from book b join publisher p on p.id = b.publisher_id"
        " where p.name = 'hot'"
    )
    assert hot == FAN_OUT
    await bridge.settled()
    assert await bridge.daemon.metric("pgbridge_fan_out_keys") >= 1
    assert await bridge.daemon.metric("pgbridge_fan_out_waiting_keys") == 0
    derived = await bridge.daemon.metric("pgbridge_derived_keys_total")
    assert FAN_OUT < derived < 2 * FAN_OUT
    built = await bridge.daemon.metric("pgbridge_backfill_documents_total")
    assert built == 2 * (FAN_OUT + 1)  # in each sink
    await bridge.ends_exact()
