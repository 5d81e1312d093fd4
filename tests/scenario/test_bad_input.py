"""What cannot be is refused: one sentence of what is wrong, one of what to do, the exit
code of the contract, and nothing is made anywhere.

The one thing to know: a case is an edit of a file that would work; the commands run as
their user runs them, and what every server holds is compared at the end.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
import redis

from bridge.dev import ElasticsearchServer
from tests.fixtures.waiting import DEADLINE_S

pytestmark = pytest.mark.scenario

FILE = """
[source]
dsn = "{dsn}"
slot = "t_spine"
publication = "t_spine"
[daemon]
http = ""
[sinks.search]
type = "elasticsearch"
url = "{es}"
[sinks.cache]
type = "redis"
url = "{redis}"
[views.item]
table = "item"
[[views.item.targets]]
sink = "search"
name = "tproducts"
[[views.item.targets]]
sink = "cache"
name = "tproducts"
"""
ALL = ("check", "plan", "apply", "run")
AT_ONCE = 3


class Case(NamedTuple):
    """`old` in the file becomes `new`; the command says all of `says`."""

    what: str
    old: str
    new: str
    says: Sequence[str]
    codes: dict[str, int] = {}
    """By command; empty: one of them, each in its turn, ends with 2."""


def query(text: str) -> str:
    """In the place of the table."""
    return f'query = """{text}"""'


TABLE = 'table = "item"'
WRITTEN = (
    Case("a key", "slot =", "slott =", ["source.slott", "is 'slot'"]),
    Case("a target's key", "name =", "nmae =", ["targets[0].nmae", "'name'"]),
    Case("a sink's key", 'url = "{es}"', 'ulr = "{es}"', ["search.ulr", "'url'"]),
    Case("a section", "[daemon]", "[deamon]", ["deamon", "'daemon'"]),
    Case("a variable", "{dsn}", "${{NOT_SET_HERE}}", ["NOT_SET_HERE"]),
    Case("not TOML", "[daemon]", "[daemon", ["is not TOML"]),
    Case("a duration", 'http = ""', 'ready_lag = "soon"', ["ready_lag"]),
    Case("a size", 'http = ""', 'memory = "much"', ["memory"]),
    Case("two of one name", '"cache"\nname', '"search"\nname', ["both 'tproducts'"]),
    Case("no such sink", 'sink = "cache"', 'sink = "cahce"', ["'cahce'", "'cache'"]),
    Case("no such type", '"redis"\n', '"rdis"\n', ["sinks.cache.type", "redis"]),
    Case("a slot's name", 't_spine"\np', 'x; drop"\np', ["source.slot"]),
    Case("a publication's name", 'n = "t_spine', "n = \"a'b", ["source.publication"]),
    Case("a view's name", "[views.item]", '[views."it;em"]', ["it;em"]),
    Case("a sink's name", "[sinks.cache]", '[sinks."Cache*"]', ["Cache*"]),
    Case("a target's name", '"tproducts"', '"../_all"', ["targets[0].name"]),
    Case("a connection string", "{dsn}", "postgres//x y", ["source.dsn"]),
    Case("no such table", TABLE, 'table = "itme"', ["itme"]),
    Case("no such schema", TABLE, 'table = "shop.item"', ['"shop"']),
    Case("no such column", TABLE, f'{TABLE}\ncolumns = ["id", "nmae"]', ["nmae"]),
    Case("no such column", TABLE, query("select id, nmae from item"), ["nmae"]),
    Case("no key", TABLE, 'table = "keyless"', ["key"]),
    Case("no key", TABLE, query("select name from item"), ["key"]),
    Case("unlogged", TABLE, 'table = "fleeting"', ["unlogged"]),
    Case("not a select", TABLE, query("delete from item returning id"), ["select"]),
    Case("two statements", TABLE, query("select 1; drop table item"), ["one"]),
    Case("twice", TABLE, query("select id, n, name as n from item"), ["called n"]),
    Case("volatile", TABLE, query("select id, now() as at from item"), ["now()"]),
    Case("a mapping", 's"\n[', 's"\nmappings = {{ x = {{}} }}\n[', ["targets[0]", "x"]),
    Case("a template", 's"\n$', 's"\nkey = "p:{{nid}}"\n', ["targets[1]", "nid"]),
)  # fmt: skip


@dataclass
class Ground:
    """A file that would work, and what the servers in it hold."""

    directory: Path
    dsn: str
    es: str
    redis: str

    def text(self, case: Case, **instead: str) -> str:
        """The file of the case, over other servers where they are given."""
        edited = re.sub(
            case.old if case.old.endswith("$") else re.escape(case.old),
            lambda _: case.new,
            FILE,
            count=1,
        )
        assert edited != FILE or not case.old, case.what
        servers = {"dsn": self.dsn, "es": self.es, "redis": self.redis}
        return edited.format(**servers | instead)

    def held(self) -> dict[str, object]:
        """Everything that there is, in every server."""
        with psycopg.connect(self.dsn, autocommit=True) as own:
            rows = [
                own.execute(query).fetchall()
                for query in (
                    "select slot_name from pg_replication_slots order by 1",
                    "select oid, * from pg_publication order by 1",
                    "select nspname from pg_namespace order by 1",
                    "select oid, relreplident from pg_class order by 1",
                )
            ]
        with httpx.Client(base_url=self.es, trust_env=False, timeout=60) as es:
            indexes = es.get("/_all?expand_wildcards=all").json()
        with redis.Redis.from_url(self.redis) as cache:
            keys = sorted(cache.keys("*"))  # type: ignore[arg-type]
        return {"source": rows, "search": indexes, "cache": keys}

    async def refuses(self, *cases: tuple[Case, str]) -> None:
        """Each case with its file is refused, and nothing is made."""
        before = await asyncio.to_thread(self.held)
        turns = asyncio.Semaphore(AT_ONCE)
        runs = []
        for number, (case, text) in enumerate(cases):
            path = self.directory / f"{number}.toml"
            path.write_text(text)
            turn = ALL[number % len(ALL)]
            for command, code in (case.codes or {turn: 2}).items():
                runs.append(self._refused(turns, case, path, command, code))
        wrong = [each for each in await asyncio.gather(*runs) if each]
        assert not wrong, "\n\n".join(wrong)
        assert await asyncio.to_thread(self.held) == before

    async def _refused(
        self, turns: asyncio.Semaphore, case: Case, path: Path, command: str, code: int
    ) -> str:
        async with turns:
            process = await asyncio.create_subprocess_exec(
                Path(sys.executable).with_name("pgbridge"),
                *(command, "-c", path),
                env={k: v for k, v in os.environ.items() if k != "NOT_SET_HERE"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                told = await asyncio.wait_for(process.communicate(), DEADLINE_S)
            except TimeoutError:
                process.kill()
                told = await process.communicate()
        out, err = (each.decode() for each in told)
        shown = f"{case.what}: {command}, exit {process.returncode}\n{out}{err}"
        if process.returncode != code or not all(
            word in out + err for word in case.says
        ):
            return shown
        if "Traceback" in err or "defect" in err:
            return shown
        lines = [line for line in err.splitlines() if not line.startswith("{")]
        errors = [line for line in lines if line.startswith("error: ")]
        helps = [line for line in lines if line.startswith("help: ")]
        return "" if len(errors) == len(helps) == 1 and lines[-1] in helps else shown


SETUP = """
create table item (id int primary key, n int, name text);
create table keyless (n int);
create unlogged table fleeting (id int primary key);
insert into item select g, g, 'x' from generate_series(1, 100) g
"""


def execute(dsn: str, text: str) -> None:
    """Statements, each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as own:
        for statement in text.split(";"):
            own.execute(statement.encode())


@pytest.fixture
def ground(
    tmp_path: Path,
    database: str,
    private_elasticsearch: ElasticsearchServer,
    redis_url: str,
) -> Ground:
    execute(database, SETUP)
    return Ground(tmp_path, database, private_elasticsearch.url, redis_url)


async def test_what_is_written_wrong(ground: Ground) -> None:
    """In the file, or in a view's query or a target's options."""
    await ground.refuses(*((case, ground.text(case)) for case in WRITTEN))
