"""What cannot be is refused: one sentence of what is wrong, one of what to do, the exit
code of the contract, and nothing is made anywhere.

The one thing to know: a case is an edit of a file that would work; the commands run as
their user runs them, and what every server holds is compared at the end.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
import redis

from bridge.dev import ElasticsearchServer, PostgresServer
from tests.fixtures.forkserver import forkserver
from tests.fixtures.http_faults import Answer, MakeHttpFaults, Request
from tests.fixtures.private import MakePostgres, MakeValkey
from tests.fixtures.waiting import DEADLINE_S
from tests.scenario.harness import unused_port

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
LOOKING = {"check": 1, "apply": 1}
"""A sink that refuses halts alone: the daemon goes on."""
ENDING = {"check": 1, "run": 4}, {"plan": 1, "apply": 1}
"""A source that refuses ends the daemon too. Two of the four, each in its turn."""
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
            environment = {k: v for k, v in os.environ.items() if k != "NOT_SET_HERE"}
            exit_code, out, err = await asyncio.to_thread(
                forkserver().run, [command, "-c", str(path)], environment, DEADLINE_S
            )
        shown = f"{case.what}: {command}, exit {exit_code}\n{out}{err}"
        if exit_code != code or not all(word in out + err for word in case.says):
            return shown
        if "Traceback" in err or "defect" in err:
            return shown
        if command == "check" and code == 1:
            found = re.findall(r"^  error +\S.*\n {13}\S", out, re.MULTILINE)
            return "" if found and not err else shown
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


@pytest.mark.slow
async def test_a_source_that_refuses_or_cannot_serve(
    ground: Ground, make_postgres: MakePostgres
) -> None:
    """Unreachable, wrong credentials, `wal_level`, encoding, missing privileges."""
    plain = await asyncio.to_thread(make_postgres, settings={"wal_level": "replica"})
    await asyncio.to_thread(prepare, plain)
    latin = ground.dsn.rpartition("/")[0] + "/latin"
    with psycopg.connect(ground.dsn, autocommit=True) as own:
        own.execute(
            "create database latin encoding 'LATIN1' template template0 locale 'C'"
        )
        own.execute("create role t_less login")
        own.execute("create role t_reads login replication")
        own.execute("create role t_keeps login replication")
        own.execute("grant select on item to t_reads, t_keeps")
        (name,) = own.execute("select current_database()").fetchone() or ("",)
        own.execute(f"grant create on database {name} to t_keeps".encode())
    execute(latin, SETUP)
    asked = f"127.0.0.1:{plain.port}"
    away = f"postgresql://postgres@127.0.0.1:{unused_port()}/x"
    user = ground.dsn.replace
    try:
        unfit = (
            ("role", user("postgres@", "nobody@"), ['"nobody"']),
            ("database", f"{ground.dsn}_no", ["does not exist"]),
            ("password", f"postgresql://t:no@{asked}/x", ["password"]),
            ("wal_level", plain.dsn, ["wal_level is replica"]),
            ("encoding", latin, ["LATIN1, not UTF8"]),
            ("no right", user("postgres@", "t_less@"), ["grant select on"]),
            ("no schema", user("postgres@", "t_reads@"), ["grant"]),
            ("no owner", user("postgres@", "t_keeps@"), ["publi"]),
        )
        unreachable = Case("away", "", "", ["cannot be reached"], LOOKING)
        await ground.refuses(
            (unreachable, ground.text(EMPTY, dsn=away)),
            *(
                (Case(what, "", "", says, codes), ground.text(EMPTY, dsn=dsn))
                for codes, (what, dsn, says) in zip(cycle(ENDING), unfit, strict=False)
            ),
        )
        for dsn in (plain.dsn, latin):
            with psycopg.connect(dsn, autocommit=True) as own:
                made = "select to_regnamespace('bridge'), count(*) from pg_publication"
                assert own.execute(made).fetchone() == (None, 0)
    finally:
        with psycopg.connect(ground.dsn, autocommit=True) as own:
            own.execute("drop owned by t_less, t_reads, t_keeps")
            own.execute("drop role t_less, t_reads, t_keeps")
            own.execute("drop database latin")


EMPTY = Case("", "", "", ())


def prepare(server: PostgresServer) -> None:
    """A role that needs a password, and the table."""
    execute(server.dsn, "create role t login password 'right';" + SETUP)
    rules = server.pgdata / "pg_hba.conf"
    ask = "host all t 127.0.0.1/32 scram-sha-256\n"
    rules.write_text(ask + rules.read_text())
    execute(server.dsn, "select pg_reload_conf()")


async def test_a_sink_that_refuses_or_has_something_in_the_way(
    ground: Ground, make_valkey: MakeValkey, http_faults: MakeHttpFaults
) -> None:
    """Unreachable, wrong credentials, somebody else's index, alias and key, and limits
    of disk and shards that the build would pass."""
    locked = await asyncio.to_thread(make_valkey)
    with redis.Redis.from_url(locked.url) as cache:
        cache.config_set("requirepass", "right")
    guarded = await http_faults(ground.es)
    guarded.judge = no_entry
    away = f"127.0.0.1:{unused_port()}"
    wrong = locked.url.replace("redis://", "redis://:no@")
    with httpx.Client(base_url=ground.es, trust_env=False, timeout=60) as es:
        for index in ("tindex", "tgen--g1", "other"):
            es.put(f"/{index}").raise_for_status()
        alias = {"add": {"index": "other", "alias": "talias"}}
        es.post("/_aliases", json={"actions": [alias]}).raise_for_status()
    with redis.Redis.from_url(ground.redis) as cache:
        cache.set("tkeys:7", "an application's")
    await ground.refuses(
        *(
            (Case(what, "", "", says, LOOKING), ground.text(EMPTY, **instead))
            for what, says, instead in (
                ("away", [away, "cannot be reached"], {"es": f"http://{away}"}),
                ("away", [away, "cannot be reached"], {"redis": f"redis://{away}"}),
                ("password", ["search"], {"es": guarded.url}),
                ("password", ["refuses the user"], {"redis": wrong}),
            )
        ),
        *(
            (Case(f"in the way {name}", "", "", [name], LOOKING), renamed(ground, name))
            for name in ("tindex", "tgen", "talias", "tkeys")
        ),
    )
    full = await http_faults(ground.es)
    full.judge = little_disk
    what = Case("disk", "", "", ["MiB are left before"], LOOKING)
    await ground.refuses((what, ground.text(EMPTY, es=full.url)))
    limit = {"persistent": {"cluster.max_shards_per_node": 4}}
    with httpx.Client(base_url=ground.es, trust_env=False, timeout=60) as es:
        es.put("/_cluster/settings", json=limit).raise_for_status()
        try:
            what = Case("shards", "", "", ["shards are needed"], LOOKING)
            await ground.refuses((what, ground.text(EMPTY)))
        finally:
            limit["persistent"]["cluster.max_shards_per_node"] = None  # type: ignore[assignment]
            es.put("/_cluster/settings", json=limit).raise_for_status()


def renamed(ground: Ground, name: str) -> str:
    """The file with both targets called so."""
    return ground.text(EMPTY).replace("tproducts", name)


def no_entry(_: Request) -> Answer:
    """What a server with security says to an unknown user."""
    reason = "unable to authenticate user"
    error = {"type": "security_exception", "reason": reason}
    return Answer(401, {"error": {"root_cause": [error], **error}, "status": 401})


def little_disk(request: Request) -> Answer | None:
    """What a node says whose disk is full up to where its indexes become read-only."""
    if "disk.threshold_enabled" in request.path.replace("%5C", ""):
        on = {"cluster.routing.allocation.disk.threshold_enabled": "true"}
        return Answer(200, {"defaults": on})
    if request.path.startswith("/_nodes/stats/fs"):
        total = {"total_in_bytes": 1 << 40, "available_in_bytes": (1 << 40) // 20}
        return Answer(200, {"nodes": {"a": {"name": "a", "fs": {"total": total}}}})
    return None
