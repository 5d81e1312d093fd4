"""What `check` and `plan` print of replica identities, executed just as it is printed:
`check` is clean then, and the log has every old value that the views need."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridge.cli import failures
from bridge.decode.transactions import TransactionAssembler
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.derive.view import ViewPlan
from bridge.live_digest import LiveDigest
from tests.fixtures.commands import asked

LONG = "a_name_of_very_many_letters_of_which_the_last_ones_tell_apart_"
SCHEMA = f"""
create table r (id int primary key, area box);
create schema "Odd. Schema";
create table plain (id int primary key, link int not null, x text);
create table nullable (id int primary key, link int, x text);
create table composite (a int, b text, link int not null, x text, primary key (a, b));
create table "Odd. Schema"."Order.""Line" ("Id" int primary key, "User" int not null);
create table {LONG}1 (id int primary key, link int not null);
create table {LONG}2 (id int primary key, link int not null);
create table taken (id int primary key, link int not null);
create unique index taken_bridge on taken (id);
alter table taken replica identity using index taken_bridge;
create table ready (id int primary key, link int not null, x int not null);
create unique index of_another on ready (id, x);
create unique index ready_index on ready (x, id, link);
create table partial (id int primary key, link int not null);
create unique index some_rows on partial (id, link) where link > 0;
create unique index by_expression on partial (id, link, (id + 1));
create table included (id int primary key, link int not null);
create unique index beside on included (id) include (link);
alter table included replica identity using index beside;
create table later (id int primary key deferrable, link int not null, n int not null);
create unique index at_once on later (n);
alter table later replica identity using index at_once;
create table places (id int primary key, spot point not null);
create table lists (id int primary key, links int[] not null);
create table made (id int primary key, link int not null,
    g int generated always as (link + 1) stored);
create table made_null (id int primary key, link int,
    g int generated always as (link + 1) stored);
create table nothing (id int primary key, link int not null);
alter table nothing replica identity nothing;
create table dropped (id int primary key, link int not null);
create unique index to_drop on dropped (id, link);
alter table dropped replica identity using index to_drop;
drop index to_drop;
create table keyless (n int not null unique, link int not null, x text);
alter table keyless replica identity using index keyless_n_key;
create table part (id int, day int, link int, primary key (id, day))
    partition by range (day);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20)
    partition by list (id);
create table "Odd. Schema".part_2_a partition of part_2 for values in (1, 2, 3);
create table part_2_b (link int not null, id int not null, day int not null);
alter table part_2 attach partition part_2_b default;
"""
CHILDREN = {
    **{
        name: f"{name} t where t.link = r.id"
        for name in (
            "plain", "nullable", "composite", f"{LONG}1", f"{LONG}2", "taken",
            "ready", "partial", "included", "later", "made", "made_null", "nothing",
            "dropped", "keyless", "part",
        )
    },
    "odd": '"Odd. Schema"."Order.""Line" t where t."User" = r.id',
    "places": "places t where t.spot <@ r.area",
    "lists": "lists t where r.id = any (t.links)",
}  # fmt: skip
"""By view: the rows that move from one root to another."""
ROWS = """
insert into plain values (1, 1);
insert into nullable values (1, 1), (2, null);
insert into composite values (1, 'x', 1);
insert into "Odd. Schema"."Order.""Line" values (1, 1);
insert into {long}1 values (1, 1);
insert into {long}2 values (1, 1);
insert into taken values (1, 1);
insert into ready values (1, 1, 1);
insert into partial values (1, 1);
insert into included values (1, 1);
insert into later values (1, 1, 1);
insert into places values (1, '(1, 1)');
insert into lists select 1, array_agg(g * 7919 % 10000) from generate_series(1, 3000) g;
insert into made values (1, 1);
insert into made_null values (1, 1);
insert into nothing values (1, 1);
insert into dropped values (1, 1);
insert into keyless values (1, 1);
insert into part values (1, 1, 1), (1, 11, 1), (9, 11, 1), (2, 1, null);
"""
MOVES = {
    "": "update {0} set link = 2; delete from {0}",
    CHILDREN["odd"]: 'update {0} set "User" = 2; delete from {0}',
    CHILDREN["places"]: "update {0} set spot = '(2, 2)'; delete from {0}",
    CHILDREN["lists"]: "update {0} set links = '{{2}}'; delete from {0}",
}
OLD = {
    "1",
    "(1,1)",
    "{" + ",".join(str(n * 7919 % 10000) for n in range(1, 3001)) + "}",
}
"""The links as they were before they moved."""
Command = Callable[..., tuple[int, str]]


def queries() -> dict[str, str]:
    """A view a table that rows of `r` count the rows of."""
    return {
        f"v{i}": f"select r.id, (select count(*) from {child}) as n from r"
        for i, child in enumerate(CHILDREN.values())
    }


@pytest.fixture
def command(
    any_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command of these views; gives its exit code and what it prints."""
    with psycopg.connect(any_database, autocommit=True) as own:
        own.execute(SCHEMA.encode())
        own.execute(ROWS.format(long=LONG).encode())
    path = tmp_path / "pgbridge.toml"
    name = f"t_{secrets.token_hex(6)}"
    views = "".join(
        f"[views.{view}]\nquery = '''{query}'''\n"
        f'[[views.{view}.targets]]\nsink = "mem"\n'
        for view, query in queries().items()
    )
    path.write_text(
        f'[source]\ndsn = "{any_database}"\nslot = "{name}"\npublication = "{name}"\n'
        f'[sinks.mem]\ntype = "memory"\n{views}'
    )
    failures.show_tracebacks(False)

    def ask(*arguments: str) -> tuple[int, str]:
        code, out, err = asked(capsys, path, *arguments)
        return code, out + err

    return ask


def errors(command: Command) -> list[dict[str, Any]]:
    _, found = command("check", "--json")
    return [each for each in json.loads(found) if each["level"] == "error"]


def execute(own: psycopg.Connection[Any], text: str) -> None:
    """As psql does: one statement after the other, each by itself."""
    for statement in text.split(";"):
        if statement.strip():
            own.execute(statement.encode())


def test_what_check_prints_is_enough(any_database: str, command: Command) -> None:
    found = errors(command)
    told = {each["what"].partition(" has ")[0] for each in found}
    assert len(told) == len(CHILDREN) + 2, "one a leaf"
    with psycopg.connect(any_database, autocommit=True) as own:
        for each in found:
            execute(own, each["fix"])
        uses = own.execute(
            "select indexrelid::regclass::text from pg_index"
            " where indrelid = 'ready'::regclass and indisreplident"
        ).fetchone()
    assert uses == ("ready_index",), "one that would do was there already"
    assert errors(command) == []


def test_what_plan_prints_puts_every_old_value_into_the_log(
    any_database: str, command: Command
) -> None:
    """Postgres takes the application's changes of what is published, too."""
    _, shown = command("plan")
    slot = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(any_database, autocommit=True) as own:
        for line in shown.splitlines():
            if line.startswith("help: "):
                execute(own, line.removeprefix("help: "))
        assert "error" not in command("plan")[1]
        own.execute(
            "create publication everything for all tables"
            " with (publish_via_partition_root = true)"
        )
        own.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
        )
        try:
            for child in CHILDREN.values():
                execute(own, MOVES.get(child, MOVES[""]).format(child.split(" t ")[0]))
            messages = own.execute(
                "select data from pg_logical_slot_get_binary_changes(%s, null, null,"
                " 'proto_version', '1', 'publication_names', 'everything')",
                (slot,),
            ).fetchall()
        finally:
            own.execute("select pg_drop_replication_slot(%s)", (slot,))
    plans = asyncio.run(planned(any_database))
    digest = LiveDigest(plans, {}, epoch=1)
    assembler = TransactionAssembler(digest.keep, describe=digest.describe)
    batches = list(digest(assembler.feed([row[0] for row in messages])))
    found = {plan.name: set[tuple[bytes | str | None, ...]]() for plan in plans}
    for batch in batches:
        for (view, _), rows in batch.images.items():
            found[view].update(rows)
        for view, keys in batch.reread.items():
            found[view].update(keys)
    links = {
        name: {os.fsdecode(row[0]) for row in found[f"v{i}"] if row[0] is not None}
        for i, name in enumerate(CHILDREN)
    }
    assert not [name for name, found in links.items() if not found & OLD], links


async def planned(dsn: str) -> list[ViewPlan]:
    definitions = [ViewDefinition(n, query=q) for n, q in queries().items()]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as own:
        catalog = await read_definitions(own, definitions, ["public"])
    return [plan_view(definition, catalog) for definition in definitions]
