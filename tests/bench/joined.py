"""Documents of many tables: first build, live changes, one parent of many documents.

    publisher ◀── book ◀── written ──▶ author          publisher ◀── book ◀── review

The one thing to know: what the servers allow is Postgres making the same documents by
`copy (select row_to_json …) to stdout`, since that is most of the work.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from typing import NamedTuple

import httpx
import psycopg

from tests.bench import ceilings
from tests.bench.stand import (
    Measured,
    Stand,
    ceiling,
    compare,
    execute,
    flushed,
    is_live,
    less,
    note,
    show,
    stands_at,
    until,
)
from tests.scenario.harness import Daemon

TABLES = """
create table publisher (id integer primary key, name text not null, country text);
create table author (id integer primary key, name text not null, born date);
create table book (
    id integer primary key, publisher_id integer not null, title text not null,
    price numeric(10, 2), published date);
create table written (
    book_id integer not null, author_id integer not null, place integer not null,
    primary key (book_id, author_id));
create table review (
    id integer primary key, book_id integer not null, rating integer not null,
    body text);
create unique index book_bridge on book (id, publisher_id);
alter table book replica identity using index book_bridge;
create unique index review_bridge on review (id, book_id);
alter table review replica identity using index review_bridge;
create index on book (publisher_id);
create index on written (author_id);
create index on review (book_id)
"""
_FILL = """
insert into publisher
select g, 'publisher ' || g, 'country ' || g % 40
  from generate_series(1, {publishers}) g;
insert into author
select g, 'author ' || g, date '1900-01-01' + g % 30000
  from generate_series(1, {authors}) g;
insert into book
select g, 1 + g % {publishers}, 'title of book ' || g, g % 100 + 0.99,
       date '2000-01-01' + g % 9000
  from generate_series(1, {books}) g;
insert into written
select g, 1 + (g * 2 + n) % {authors}, n
  from generate_series(1, {books}) g, generate_series(0, 1) n;
insert into review
select g, 1 + g % {books}, g % 5 + 1, 'words about it ' || g
  from generate_series(1, {books}) g;
analyze publisher, author, book, written, review
"""
BOOK = """
select b.id, b.title, b.price, b.published, p.name as publisher, p.country,
       (select json_agg(json_build_object('name', a.name, 'born', a.born)
                        order by w.place, w.author_id)
          from written w join author a on a.id = w.author_id
         where w.book_id = b.id) as authors
  from book b join publisher p on p.id = b.publisher_id
"""
SHELF = """
select p.id, p.name, count(b.id) as books, sum(b.price) as worth,
       (select json_agg(json_build_object(
                 'title', k.title,
                 'rating', (select avg(r.rating)::numeric(4, 2)
                              from review r where r.book_id = k.id),
                 'reviews', (select count(*) from review r where r.book_id = k.id))
               order by k.id)
          from book k where k.publisher_id = p.id) as titles
  from publisher p left join book b on b.publisher_id = p.id
 group by p.id, p.name
"""
_MIXED = (
    "update book set price = price + 1 where id = {book}",
    "update review set rating = 1 + rating % 5 where id = {book}",
    "update author set born = born + 1 where id = {author}",
    "update written set place = 1 - place where book_id = {book}",
)


class Size(NamedTuple):
    """How many rows there are; each publisher has `books / publishers` of them."""

    books: int
    publishers: int

    @property
    def authors(self) -> int:
        """A writer has ten books."""
        return max(self.books // 5, 10)


def _view(query: str) -> str:
    return f"query = '''{query}'''"


def _database(stand: Stand, size: Size) -> tuple[str, str]:
    name, dsn = stand.database(TABLES)
    books, publishers, authors = size.books, size.publishers, size.authors
    sizes = {"books": books, "publishers": publishers, "authors": authors}
    execute(dsn, *_FILL.format(**sizes).split(";\n"))
    return name, dsn


async def build(stand: Stand) -> None:
    """First builds into Elasticsearch: a book with publisher and authors; a publisher
    with books and what their reviews give, three levels deep."""
    size = Size(stand.rows // 4, stand.rows // 40)
    for what, query, documents in (
        ("build joined", BOOK, size.books),
        ("build three levels", SHELF, size.publishers),
    ):
        name, dsn = _database(stand, size)
        allowed = ceiling(stand, ceilings.copied(dsn, query))
        daemon = stand.daemon(name, dsn, "elasticsearch", _view(query))
        daemon.start()
        run = await until(stand, daemon, is_live)
        await daemon.stop()
        compare(what, documents, "documents/s", run, "copy", allowed)


async def live(stand: Stand) -> None:
    """Changes of single rows, each in its own transaction: of one table in the order of
    its key, and of four tables at random."""
    size = Size(20_000, 2000)
    name, dsn = _database(stand, size)
    async with AsyncExitStack() as stack:
        daemon = await _running(stand, stack, name, dsn)
        dice = random.Random(1)
        count = max(stand.rows // 50, 100)
        in_order = [_MIXED[0].format(book=1 + n % size.books) for n in range(count)]
        mixed = [
            dice.choice(_MIXED).format(
                book=dice.randint(1, size.books), author=dice.randint(1, size.authors)
            )
            for _ in range(count)
        ]
        for what, statements in (("live, sorted", in_order), ("live, mixed", mixed)):
            before, began = stand.spent(daemon), time.perf_counter()
            execute(dsn, "set synchronous_commit = off", *statements)
            wrote = time.perf_counter() - began
            await until(stand, daemon, stands_at(flushed(dsn)))
            took = time.perf_counter() - began
            run = Measured(took, less(stand.spent(daemon), before))
            show(what, count, "changes/s", run)
            note(f"written in {wrote:.1f} s, in all documents after {took:.1f} s")


async def fan_out(stand: Stand) -> None:
    """One parent of 2,000 and of 100,000 documents, and another key meanwhile."""
    for documents in (2000, stand.rows // 2):
        name, dsn = _database(stand, Size(documents * 2, 2))
        async with AsyncExitStack() as stack:
            daemon = await _running(stand, stack, name, dsn)
            seen: list[float] = []
            other = asyncio.create_task(_others(stand, name, dsn, seen))
            before, began = stand.spent(daemon), time.perf_counter()
            execute(dsn, "update publisher set name = 'changed' where id = 1")
            await until(stand, daemon, stands_at(flushed(dsn)))
            took = time.perf_counter() - began
            spent = less(stand.spent(daemon), before)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
            what = f"one row in {documents:,} documents"
            show(what, documents, "documents/s", Measured(took, spent))
            seen.sort()
            middle = f"{seen[len(seen) // 2] * 1e3:.0f}" if seen else "no"
            worst = f"{seen[-1] * 1e3:.0f}" if seen else "no"
            note(
                f"{took:.2f} s; another document meanwhile after {middle} ms"
                f" (worst {worst} ms, {len(seen)} changes)"
            )


async def _running(stand: Stand, stack: AsyncExitStack, name: str, dsn: str) -> Daemon:
    """A daemon that keeps the books in Elasticsearch, level; stopped with the stack."""
    daemon = stand.daemon(name, dsn, "elasticsearch", _view(BOOK))
    daemon.start()
    stack.push_async_callback(daemon.stop)
    await until(stand, daemon, is_live)
    return daemon


async def _others(stand: Stand, name: str, dsn: str, seen: list[float]) -> None:
    """Change one book of another publisher again and again: from commit to a get."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own,
        httpx.AsyncClient(
            base_url=stand.servers.elasticsearch.url, verify=False
        ) as client,
    ):
        for number in range(1_000_000):
            title = f"changed {number}"
            # Even keys belong to publisher 1.
            await own.execute("update book set title = %s where id = 1", [title])
            began = time.perf_counter()
            while True:
                answer = await client.get(f"/{name}/_doc/1?_source_includes=title")
                if answer.json().get("_source", {}).get("title") == title:
                    break
                await asyncio.sleep(0.002)
            seen.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)
