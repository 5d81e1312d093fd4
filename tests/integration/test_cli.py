"""The command line on a real server: what it finds, makes, shows and takes away."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bridge.cli import call, failures
from bridge.errors import Exit
from bridge.store.locks import LEASE, LOCK_CLASS
from sinks.memory import store
from tests.fixtures.commands import asked

SHOP = """
create table category (id int primary key, name text not null);
create table product (
    id bigint primary key, title text, price numeric,
    category_id int not null references category
);
create table review (
    id bigint primary key, product_id bigint not null references product, body text
);
insert into category values (1, 'books'), (2, 'toys');
insert into product select i, 'p' || i, i, 1 + i % 2 from generate_series(1, 5) i;
insert into review select i, 1 + i % 5, 'r' || i from generate_series(1, 9) i;
"""
PRODUCT = """
[views.product]
table = "product"
[[views.product.targets]]
sink = "mem"
name = "products"
"""
JOINED = """
[views.product]
query = '''
  select p.id, p.title, c.name as category,
         (select json_agg(r.body order by r.id)
            from review r where r.product_id = p.id) as reviews
    from product p join category c on c.id = p.category_id
'''
[[views.product.targets]]
sink = "mem"
"""


@dataclass
class Shop:
    """A database, a configuration of it, and the command line in between."""

    dsn: str
    path: Path
    slot: str
    capture: pytest.CaptureFixture[str]

    def write(self, views: str, *, dsn: str | None = None, more: str = "") -> None:
        self.path.write_text(
            f'[source]\ndsn = "{dsn or self.dsn}"\nslot = "{self.slot}"\n{more}\n'
            f'[sinks.mem]\ntype = "memory"\n{views}'
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        return asked(self.capture, self.path, *arguments)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command prints as JSON."""
        found, out, err = self(*arguments, "--json")
        assert found == code, err
        return json.loads(out)

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str) -> Any:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return None if row is None else row[0]


@pytest.fixture
def make_shop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Shop]:
    def make(dsn: str) -> Shop:
        slot = f"t_{secrets.token_hex(6)}"
        shop = Shop(dsn, tmp_path / "pgbridge.toml", slot, capsys)
        shop.execute(SHOP)
        shop.write(PRODUCT)
        return shop

    failures.show_tracebacks(False)
    return make


@pytest.fixture
def shop(make_shop: Callable[[str], Shop], database: str) -> Shop:
    return make_shop(database)


@pytest.fixture
def role(shop: Shop) -> Iterator[str]:
    """A dsn of a role that may log in and nothing else."""
    name = f"t_{secrets.token_hex(6)}"
    shop.execute(f"create role {name} login password 'pw'")
    given = conninfo_to_dict(shop.dsn)
    yield make_conninfo("", **given | {"user": name, "password": "pw"})
    shop.write("")
    assert shop("drop", "--yes")[0] == 0
    shop.execute(f"drop owned by {name} cascade; drop role {name}")


def actions(steps: Any) -> dict[str, str]:
    return {f"{step['kind']} {step['name']}": step["action"] for step in steps["steps"]}


def test_plan_apply_plan_drop(
    make_shop: Callable[[str], Shop], any_database: str
) -> None:
    shop = make_shop(any_database)
    assert actions(shop.json("plan", code=2)) == {
        "schema bridge": "create",
        "publication pgbridge": "create",
        f"slot {shop.slot}": "create",
        "target mem/products": "create",
    }
    assert shop.value("select to_regnamespace('bridge')") is None
    code, out, _ = shop("apply")
    assert code == 0
    assert "pgbridge run" in out  # the slot holds log until then, which it says
    assert set(actions(shop.json("plan")).values()) == {"keep"}
    assert shop("apply")[0] == 0
    assert shop.value("select count(*) from bridge.generation") == 1
    assert shop("drop", "--yes", "--targets")[0] == 0
    assert shop.value("select count(*) from product") == 5
    assert shop.value("select to_regnamespace('bridge')") is None
    assert shop.value("select count(*) from pg_publication") == 0
    assert "create" in actions(shop.json("plan", code=2)).values()
    assert shop("drop", "--yes")[0] == 0


def test_an_edit_is_a_rebuild_and_a_removal_stops_and_prunes(shop: Shop) -> None:
    assert shop("apply")[0] == 0
    shop.write(PRODUCT.replace('"product"', '"product"\ncolumns = ["id", "title"]', 1))
    (step,) = [s for s in shop.json("plan", code=2)["steps"] if s["kind"] == "target"]
    assert step["action"] == "rebuild"
    assert "query" in step["why"]
    shop.write("")
    found = actions(shop.json("plan", code=2))
    assert found["target mem/products"] == "drop"
    assert found["publication pgbridge"] == "update"
    assert shop("apply")[0] == 0
    assert actions(shop.json("plan"))["target mem/products"] == "keep"
    assert shop("apply", "--prune")[0] == 0
    assert "target mem/products" not in actions(shop.json("plan"))
    assert shop.value("select count(*) from bridge.target") == 0
    assert shop.value("select count(*) from bridge.view") == 0


def test_a_slot_that_is_gone_is_a_new_epoch_and_everything_is_built_again(
    shop: Shop,
) -> None:
    assert shop("apply")[0] == 0
    shop.execute(f"select pg_drop_replication_slot('{shop.slot}')")
    found = actions(shop.json("plan", code=2))
    assert found[f"slot {shop.slot}"] == "create"
    assert found["target mem/products"] == "rebuild"
    assert shop("apply")[0] == 0
    assert shop.value("select epoch from bridge.source") == 2
    # The build of the old history was dropped: it missed changes.
    assert shop.value("select array_agg(number) from bridge.generation") == [2]
    assert set(actions(shop.json("plan")).values()) == {"keep"}


def test_what_is_in_the_way_of_a_view_is_found_with_the_statement_that_mends_it(
    make_shop: Callable[[str], Shop], any_database: str
) -> None:
    shop = make_shop(any_database)
    shop.write(JOINED)
    findings = shop.json("check", code=1)
    (error,) = [each for each in findings if each["level"] == "error"]
    assert "no old product_id" in error["what"]
    code, _, err = shop("plan")
    assert code == 2
    assert "create unique index concurrently review_bridge" in err
    # Nothing is published that would lack what the view needs.
    assert shop("apply")[0] == Exit.USAGE
    assert shop.value("select count(*) from pg_publication") == 0
    shop.execute(*[s for s in error["fix"].split(";") if s.strip()])
    assert "error" not in {each["level"] for each in shop.json("check")}
    assert shop("apply")[0] == 0


def test_a_table_without_partitions_is_planned_and_made(shop: Shop) -> None:
    shop.execute("create table event (id int primary key) partition by range (id)")
    shop.write('[views.v]\ntable = "event"\n[[views.v.targets]]\nsink = "mem"')
    assert shop("check")[0] == 0
    assert shop("plan")[0] == Exit.USAGE
    assert shop("apply")[0] == 0
    assert shop("preview", "v")[:2] == (0, "")


def test_a_role_gets_by_with_the_grants_that_check_prints(
    shop: Shop, role: str
) -> None:
    shop.write(PRODUCT, dsn=role)
    for _ in range(2):  # what a view reads is known only once it may
        code, out, _ = shop("check", "--json")
        errors = [each for each in json.loads(out) if each["level"] == "error"]
        if not errors:
            break
        assert code == 1
        for error in errors:
            statements = error["fix"].partition("  --")[0].split(";")
            shop.execute(*[s for s in statements if s.strip()])
    assert shop("check")[0] == 0
    code, _, err = shop("apply")
    assert code == 0, err
    assert shop.value("select count(*) from pg_publication_rel") == 1


def test_a_table_that_may_not_be_read_is_no_wrong_configuration(
    shop: Shop, role: str
) -> None:
    """The source refuses: 1 of those who look, 4 of the daemon; with the way out."""
    name = conninfo_to_dict(role)["user"]
    shop.execute(
        f"grant create on database {shop.value('select current_database()')} to {name}"
    )
    shop.write(PRODUCT, dsn=role)
    for command, expected in (
        ("check", Exit.FAILED),
        ("plan", Exit.FAILED),
        ("apply", Exit.FAILED),
        ("run", Exit.HALTED),
    ):
        code, out, err = shop(command)
        assert code == expected, command
        assert "may not read public.product" in out + err
        assert "grant select on public.product to" in out + err
    assert shop.value("select to_regnamespace('bridge')") is None


def test_admin_dsn_does_what_the_role_may_not(shop: Shop, role: str) -> None:
    name = conninfo_to_dict(role)["user"]
    shop.execute(
        f"alter role {name} replication",
        f"grant select on all tables in schema public to {name}",
    )
    shop.write(PRODUCT, dsn=role)
    assert shop("apply")[0] == Exit.FAILED
    assert shop.value("select to_regnamespace('bridge')") is None
    shop.write(PRODUCT, dsn=role, more=f'admin_dsn = "{shop.dsn}"')
    code, _, err = shop("apply")
    assert code == 0, err
    assert shop.value("select count(*) from pg_publication_rel") == 1
    assert shop.value(
        "select nspowner::regrole::text from pg_namespace where nspname = 'bridge'"
    ) == sql.Identifier(str(name)).as_string(None).strip('"')


def test_wrong_credentials_and_databases_end_with_1(shop: Shop, role: str) -> None:
    given = conninfo_to_dict(role)
    wrong = make_conninfo("", **given | {"dbname": "no_such_database"})
    shop.write(PRODUCT, dsn=wrong)
    for command in ("check", "plan", "apply", "status", "preview product"):
        code, out, err = shop(*command.split())
        assert code == Exit.FAILED, command
        assert "no_such_database" in out + err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ("query = 'select id, now() as at from product'", "now()"),
        ("query = 'delete from product returning id'", "select"),
        ("query = 'select id, titel from product'", "titel"),
        ("query = ';'", "the query is empty"),
        ("query = 'select id from product where '", "at end of input"),
        ("table = 'nowhere'", "nowhere"),
        ("table = 'product'\ncolumns = ['id', 'titel']", "titel"),
        ("query = 'select title from product'", "key"),
        ("query = 'select id, title as id from product'", "columns are called id"),
    ],
)
def test_a_view_that_cannot_be_kept_is_refused_with_2(
    shop: Shop, view: str, says: str
) -> None:
    shop.write(f"[views.product]\n{view}\n[[views.product.targets]]\nsink = 'mem'")
    for command in ("plan", "apply", "check"):
        code, out, err = shop(command)
        assert code == Exit.USAGE, command
        assert out == ""
        assert says in err
        assert "view product" in err
    assert shop.value("select to_regnamespace('bridge')") is None


@pytest.mark.parametrize(
    ("sink", "option", "said"),
    [
        ("search", "mappings = { nosuch = { type = 'text' } }", "nosuch"),
        ("search", "mappings = { title = { type = 'nosuch' } }", "nosuch"),
        ("cache", "key = 'p:{nid}'", "`key` names {nid}"),
    ],
)
@pytest.mark.parametrize("command", ["check", "plan", "apply"])
def test_what_a_target_cannot_be_is_refused_with_its_place(
    shop: Shop,
    es_url: str,
    redis_url: str,
    command: str,
    sink: str,
    option: str,
    said: str,
) -> None:
    shop.write(
        f"[sinks.search]\ntype = 'elasticsearch'\nurl = '{es_url}'\n"
        f"[sinks.cache]\ntype = 'redis'\nurl = '{redis_url}'\n{PRODUCT}"
        f"[[views.product.targets]]\nsink = '{sink}'\nname = '{shop.slot}'\n{option}\n"
    )
    code, _, err = shop(command)
    assert code == Exit.USAGE, err
    assert "views.product.targets[1]: " in err
    assert said in err
    assert shop.value("select to_regnamespace('bridge')") is None


def test_preview_prints_the_bytes_that_postgres_makes(shop: Shop) -> None:
    shop.write(JOINED)
    code, out, err = shop("preview", "product", "--key", "2", "99")
    assert code == 0
    document = '{"id":2,"title":"p2","category":"books","reviews":["r1", "r6"]}\n'
    assert out == document
    assert "no document 99" in err
    code, out, _ = shop("preview", "product", "--limit", "3")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1, 2, 3]


def test_status_before_and_after(shop: Shop) -> None:
    assert shop.json("status")["targets"] == []
    assert shop("apply")[0] == 0
    found = shop.json("status")
    assert set(found["source"]) >= {
        "state", "reason", "position", "lag_bytes", "retained_bytes"
    }  # fmt: skip
    assert found["source"]["state"] == "stopped"
    (sink,) = found["sinks"]
    assert set(sink) >= {"name", "type", "state", "reason", "owed_keys"}
    (target,) = found["targets"]
    assert set(target) >= {
        "view", "sink", "name", "state", "reason", "generation", "building",
        "previous", "documents", "position", "lag_bytes", "lag_seconds",
        "dead_letters", "progress",
    }  # fmt: skip
    assert (target["state"], target["building"]) == ("building", 1)
    assert (target["position"], target["lag_bytes"]) == (None, None)
    assert "products" in shop("status")[1]


def test_a_target_that_the_daemon_cannot_take_up_is_told_with_what_it_takes(
    shop: Shop,
) -> None:
    """Nothing is written down of it, and an operator looks there all the same."""
    assert shop("apply")[0] == 0
    shop.write(
        PRODUCT + "[views.tag]\ntable = 'tag'\n[[views.tag.targets]]\nsink = 'mem'\n"
    )
    shop.execute(
        "create table tag (id int primary key)",
        "insert into bridge.daemon (host, pid, version, token, state) "
        "values ('here', 1, '0', gen_random_uuid(), 'streaming')",
    )
    assert len(shop.json("status")["targets"]) == 1  # no daemon is there
    with psycopg.connect(shop.dsn, autocommit=True) as daemon:
        daemon.execute("select pg_advisory_lock(%s, %s)", [LOCK_CLASS, LEASE])
        one, other = shop.json("status")["targets"]
        assert set(one) == set(other)
        assert (other["name"], other["state"]) == ("tag", "halted")
        assert 'add table only "public"."tag"' in other["reason"]
        assert "`pgbridge apply`" in other["reason"]
        _, out, _ = shop("status")
        assert "halted: the publication lacks" in out
        assert "1 of 2 targets needs attention" in out


def test_commands_that_need_the_daemon_say_that_it_is_not_there(shop: Shop) -> None:
    assert shop("apply")[0] == 0
    for command in ("promote product", "backfill product"):
        code, _, err = shop(*command.split())
        assert code == Exit.FAILED, command
        assert "no daemon" in err
    code, _, err = shop("pause", "mem")
    assert code == 0
    assert "no daemon" in err
    (sink,) = shop.json("status")["sinks"]
    assert (sink["state"], "from the daemon's start" in sink["reason"]) == (
        "paused",
        True,
    )
    assert shop("resume", "mem")[0] == 0
    assert shop.json("status")["sinks"][0]["state"] == "ok"
    code, _, err = shop("wait", "--timeout", "100ms")
    assert code == Exit.TIMED_OUT
    assert "mem/products (building)" in err
    assert shop("wait", "--lsn", "zero")[0] == Exit.USAGE
    assert shop("backfill", "product", "--target", "nope", "--detach")[0] == Exit.USAGE


def test_dead_letters_are_listed_shown_and_dropped(shop: Shop) -> None:
    assert shop("apply")[0] == 0
    assert shop.json("dead-letters", "list") == []
    shop.execute(
        "insert into bridge.dead_letter (sink, name, number, key, view, parts, stage,"
        " reason, version) values ('mem', 'products', 1, '7', 'product', '{7}',"
        " 'deliver', 'too large', 9007199254740993)"
    )
    (letter,) = shop.json("dead-letters", "list", "product")
    assert letter["version"] == "9007199254740993"
    assert set(letter) >= {
        "view", "key", "sink", "name", "stage", "reason", "version", "first_seen",
        "attempts",
    }  # fmt: skip
    assert "too large" in shop("dead-letters", "show", "product", "7")[1]
    assert shop.json("status")["targets"][0]["dead_letters"] == 1
    assert shop("dead-letters", "drop", "product", "7")[0] == 0
    assert shop.json("dead-letters", "list") == []


def test_init_proposes_views_that_can_be_planned(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    assert call(["init", "--dsn", shop.dsn, "-c", str(path)]) == 0
    assert path.stat().st_mode & 0o077 == 0
    assert call(["init", "-c", str(path)]) == Exit.USAGE
    text = path.read_text()
    views = text[text.index("[views.") :].replace('"search"', '"mem"')
    shop.write("\n".join(part for part in views.split("\n\n") if '"cache"' not in part))
    found = actions(shop.json("plan", code=2))
    assert {"target mem/product", "target mem/category", "target mem/review"} <= set(
        found
    )
    assert "error" not in {each["level"] for each in shop.json("check")}


def test_plan_prints_what_it_would_run(shop: Shop) -> None:
    shop.write(JOINED)
    shop.execute("alter table review replica identity full")
    code, text, _ = shop("plan", "--sql")
    assert code == 2
    assert "create publication" in text
    assert "-- view product: keys of changed rows of c" in text
    statements = shop.json("plan", "--sql", code=2)["sql"]
    assert all(statement in text for statement in statements)


def test_explain_tells_tables_document_and_targets(shop: Shop) -> None:
    assert shop("apply")[0] == 0
    found = shop.json("explain", "product", "3")
    assert json.loads(found["source"]["document"])["title"] == "p3"
    assert found["tables"][0]["table"] == "public.product"
    (target,) = found["targets"]
    assert (target["sink"], target["state"]) == ("mem", "building")


def test_a_table_that_others_may_not_see_is_a_finding_with_its_grant(
    shop: Shop, role: str
) -> None:
    name = conninfo_to_dict(role)["user"]
    shop.write(PRODUCT, dsn=role)
    findings = shop.json("check", code=1)
    fixes = " ".join(each["fix"] for each in findings)
    assert f"alter role {name} replication;" in fixes
    assert f"grant select on public.product to {name};" in fixes


def test_a_database_that_takes_the_place_of_another_is_the_one_from_then_on(
    shop: Shop,
) -> None:
    """Said once: what was restored out of another cluster is asked about no more."""
    assert shop("apply")[0] == 0
    shop.execute("update bridge.source set system_identifier = '7'")
    store("mem").clear()  # as cluster 7 the sink does not know the bridge yet
    code, _, err = shop("apply")
    assert code == 1
    assert "apply --take-over" in err
    assert shop("apply", "--take-over")[0] == 0
    code, _, err = shop("apply")
    assert code == 0, err
