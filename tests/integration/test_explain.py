"""`explain`: the rows that a document is made of, and how a view is kept; and what
`check` says of an index that is missing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor

from bridge.cli import failures
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.lineage import lineage
from bridge.derive.plan import plan_ways
from tests.fixtures.commands import asked
from tests.integration.test_planner_corpus import CORPUS, FILES, Case, read, rows

PRODUCT = """
select p.id, p.title, c.name as category,
       (select json_agg(json_build_object('rating', r.rating, 'by', u.name)
                        order by r.id)
          from review r join customer u on u.id = r.customer_id
         where r.product_id = p.id and r.rating > 2) as reviews,
       (select array_agg(t.name order by t.id)
          from product_tag pt join tag t on t.id = pt.tag_id
         where pt.product_id = p.id) as tags
  from product p left join category c on c.id = p.category_id
"""
BY_CATEGORY = """
select c.name as category, count(p.id) as products, max(p.price) as dearest
  from product p left join category c on c.id = p.category_id and c.parent_id = 1
 group by c.name
"""
Explain = Callable[..., Any]


@pytest.fixture
def dsn(database: str) -> str:
    """The corpus' tables and rows."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((CORPUS / "schema.sql").read_bytes())
        connection.execute((CORPUS / "rows.sql").read_bytes())
    return database


@pytest.fixture
def command(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Runs a command of two views; gives its exit code and what it prints."""
    path = tmp_path / "pgbridge.toml"
    slot = f"t_{secrets.token_hex(6)}"
    path.write_text(
        f'[source]\ndsn = "{dsn}"\nslot = "{slot}"\n[sinks.mem]\ntype = "memory"\n'
        f"[views.product]\nquery = '''{PRODUCT}'''\n"
        '[[views.product.targets]]\nsink = "mem"\n'
        f"[views.dearest]\nquery = '''{BY_CATEGORY}'''\n"
        '[[views.dearest.targets]]\nsink = "mem"\n'
        '[views.person]\ntable = "person"\n[[views.person.targets]]\nsink = "mem"\n'
    )
    failures.show_tracebacks(False)

    def ask(*arguments: str) -> tuple[int, str]:
        code, out, err = asked(capsys, path, *arguments)
        return code, out + err

    return ask


def table_rows(found: str) -> dict[str, list[list[str]]]:
    return {t["occurrence"]: t["rows"] for t in json.loads(found)["tables"]}


def test_every_row_of_a_document_is_told(command: Explain) -> None:
    code, found = command("explain", "product", "1", "--json")
    assert code == 0
    assert table_rows(found) == {
        "p": [["1"]],
        "c": [["2"]],
        "r": [["1"], ["2"]],
        "u": [["1"], ["2"]],
        "pt": [["1", "1"], ["1", "2"]],
        "t": [["1"], ["2"]],
    }
    _, text = command("explain", "product", "1")
    assert "public.product_tag pt, by product_id, tag_id: 1:1, 1:2" in text


def test_rows_that_a_condition_leaves_out_are_not_told(
    command: Explain, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update review set rating = 1 where id = 1")
    assert table_rows(command("explain", "product", "1", "--json")[1])["r"] == [["2"]]
    nothing = table_rows(command("explain", "product", "9", "--json")[1])
    assert not any(nothing.values())


def test_rows_of_a_group(command: Explain) -> None:
    found = table_rows(command("explain", "dearest", "novels", "--json")[1])
    assert found == {"p": [["1"], ["2"]], "c": [["2"]]}
    code, text = command("explain", "dearest", "%00")
    assert code == 0
    assert "the group without a key" in text


def test_a_key_of_another_type_is_refused(command: Explain) -> None:
    for words in (("explain", "product", "abc"), ("preview", "product", "--key=abc")):
        code, text = command(*words)
        assert (code, "does not fit the types" in text) == (2, True)
        assert "Traceback" not in text


def test_another_text_of_a_key_is_told_as_it_is_written(command: Explain) -> None:
    """Its document would be shown, and be missing in every target."""
    for words in (("explain", "product", "01"), ("preview", "product", "--key=01")):
        code, text = command(*words)
        assert (code, "'01' is written '1'" in text) == (2, True), text
    code, text = command("explain", "dearest", "n" * 600)
    assert (code, "is written 'sha256:" in text) == (2, True), text


async def test_a_row_of_a_document_is_one_whose_change_derives_it(dsn: str) -> None:
    """Of every accepted query of the corpus, and every key that it has."""
    connection = await AsyncConnection.connect(
        dsn, autocommit=True, cursor_factory=AsyncRawCursor
    )
    counted = 0
    async with connection:
        for name, case in {path.stem: read(path) for path in FILES}.items():
            if case.accepted:
                counted += await _told_and_found(connection, name, case)
    assert counted > 200


async def _told_and_found(
    connection: AsyncConnection[Any], name: str, case: Case
) -> int:
    definition = ViewDefinition(
        name,
        query=case.query,
        key=case.key if case.given else None,
        functions=case.functions,
    )
    catalog = await read_definitions(connection, [definition], ["public"])
    planned = plan_ways(definition, catalog)
    key_columns = len(planned.plan.shape.key)
    keys = [
        tuple(row[:key_columns])
        for row in await rows(connection, planned.plan.scan_sql, None, None)
    ]
    counted = 0
    for source, way in zip(lineage(planned, catalog), planned.ways, strict=True):
        for key in keys:
            if None in key:
                continue
            for row in await rows(connection, source.sql, *key, 100):
                counted += 1
                images = await _images(
                    connection, source.table, source.columns, row, way
                )
                found = images
                if way.query.sql is not None:
                    columns = [list(column) for column in zip(*images, strict=True)]
                    found = await rows(connection, way.query.sql, *columns)
                assert key in map(tuple, found), (name, source.table, row, key)
    return counted


async def _images(
    connection: AsyncConnection[Any],
    table: str,
    key: tuple[str, ...],
    row: tuple[str, ...],
    way: Any,
) -> list[Any]:
    listed = ", ".join(f"{column}::text" for column in way.query.columns)
    where = " and ".join(f"{c}::text = ${i + 1}" for i, c in enumerate(key))
    return await rows(connection, f"select {listed} from {table} where {where}", *row)


def test_a_view_is_told_with_its_key_queries_and_identities(command: Explain) -> None:
    code, found = command("explain", "product", "--json")
    assert code == 0
    view = json.loads(found)
    assert view["key"] == ["id"]
    assert not view["from_the_log"]
    tables = {table["table"]: table for table in view["tables"]}
    review = tables["public.review"]
    assert review["identity"] == ["product_id"]
    assert "replica identity using index review_bridge" in review["lacks"][0]["fix"]
    assert tables["public.category"]["lacks"] == []
    queries = {query["occurrence"]: query for query in view["key_queries"]}
    assert queries["p"]["sql"] is None
    assert queries["c"]["plan"]
    assert queries["c"]["scans"] == [
        {
            "table": "public.product",
            "columns": ["category_id"],
            "fix": "create index concurrently on public.product (category_id);",
        }
    ]
    # There is an index, but of another column first.
    assert queries["t"]["scans"][0]["columns"] == ["tag_id"]
    assert "product_pkey" in view["documents"]["indexes"]


def test_an_index_that_serves_is_told(command: Explain, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create index by_category on product (category_id)")
    code, text = command("explain", "product")
    assert code == 0
    assert "indexes     by_category" in text
    assert "public.product is read whole" not in text
    assert "made of the rows in the log" in command("explain", "person")[1]


def test_check_asks_for_an_index_until_it_is_there(command: Explain, dsn: str) -> None:
    fix = "create index concurrently on public.product_tag (tag_id);"
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert fix not in command("check")[1]  # small tables are read whole quickly
        connection.execute(
            "insert into product_tag select g / 50 + 10, g % 50"
            " from generate_series(1, 20000) g"
        )
        connection.execute("analyze product_tag")
        _, text = command("check")
        assert "a change of tag looks for product_tag.tag_id without an index" in text
        assert fix in text
        connection.execute(fix.encode())
        assert fix not in command("check")[1]
