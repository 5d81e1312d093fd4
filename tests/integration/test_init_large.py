"""`init --dsn` on a database of dozens of tables: what it writes runs."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from random import Random

import psycopg
import pytest

from bridge.cli import call, failures
from bridge.errors import Exit

NAMES = (
    "customer order order_line product category review tag product_tag left user group "
    "Mixed table.with.dots invoice payment shipment warehouse stock supplier address "
    "ticket comment attachment employee department project task task_tag select event "
    "session log setting country currency price audit"
).split()
LATER = "# one more column, once the log carries what it needs"
LEADING = ("customer", "product", "order")


def made(dice: Random) -> list[str]:
    """Statements that make a schema: links, also to tables themselves, composite and
    partitioned ones, some without a key, and names that must be quoted."""
    statements: list[str] = []
    keyed: list[str] = []
    for name in NAMES:
        table = f'"{name}"'
        columns = [f'"{column}" text' for column in dice.sample(COLUMNS, 4)]
        match dice.randrange(8):
            case 0:
                key = ["a integer not null", '"Where" text not null']
                columns += [*key, 'primary key (a, "Where")']
            case 1:
                columns.append("at timestamptz not null")  # no key
            case 2:
                columns += ["id bigint not null", "day date not null"]
                columns.append("primary key (id, day)")
            case _:
                columns.append("id bigint primary key")
                links = dice.sample(keyed, min(len(keyed), dice.choice((0, 1, 2, 3))))
                links += [name for name in LEADING if name in keyed]
                for other in dict.fromkeys(links):
                    null = dice.choice(("", " not null"))
                    columns.append(
                        f'"{other}_id" bigint{null} references "{other}" (id)'
                    )
                if dice.random() < 0.3:
                    columns.append(f'"parent_id" bigint references {table} (id)')
                if dice.random() < 0.2:
                    columns.append("made text generated always as ('x') stored")
                keyed.append(name)
        by_range = " partition by range (day)" if "day date not null" in columns else ""
        statements.append(f"create table {table} ({', '.join(columns)}){by_range}")
        if by_range:
            statements.append(f'create table "{name}_1" partition of {table} default')
    return statements


COLUMNS = (
    "name", "title", "Title", "from", "json", "line\nbreak", "it's", "${HOME}", "\\",
    '""quoted""', "value", "left", "body", "email", "percent%", "q1", "row", "ünïcode",
)  # fmt: skip


def of_memory(dsn: str, text: str) -> str:
    """The views of a file with a sink that is always there."""
    name = f"t_{secrets.token_hex(6)}"
    views = text[text.index("[views.") :].replace('"search"', '"mem"')
    kept = [part for part in views.split("\n\n") if '"cache"' not in part]
    return (
        f'[source]\ndsn = "{dsn}"\nslot = "{name}"\npublication = "{name}"\n'
        '[sinks.mem]\ntype = "memory"\n' + "\n\n".join(kept)
    )


def toml(text: str) -> str:
    """As it stands in a string over several lines."""
    escaped = text.replace("\\", "\\\\").replace('"""', '""\\"')
    return escaped.replace("${", "$${")


def with_later(text: str) -> tuple[str, list[str]]:
    """Every view with the columns that wait for a statement, and those statements."""
    statements: list[str] = []
    views = []
    for view in text.split("\n[views."):
        later: list[str] = []
        for part in view.split(LATER)[1:]:
            lines = [line for line in part.splitlines()[1:] if line.startswith("#")]
            column = [line[6:] for line in lines if line.startswith("#     ")]
            statements += [line[4:] for line in lines if line[6:] not in column]
            later.append(toml("\n".join(column)))
        views.append(
            view.replace(
                "\n    from ", "".join(f",\n{c}" for c in later) + "\n    from ", 1
            )
        )
    return "\n[views.".join(views), statements


def test_what_init_writes_runs_as_it_is(
    database: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(database, autocommit=True) as own:
        for statement in made(Random(seed)):
            own.execute(statement.encode())
    failures.show_tracebacks(False)
    path = tmp_path / "pgbridge.toml"
    assert call(["init", "--dsn", database, "-c", str(path)]) == 0
    text = path.read_text()
    print(text)
    names = re.findall(r"(?m)^\[views\.(.*)\]", text)
    assert names[0] in LEADING, "what most belongs to comes first"
    assert len(names) == 6
    complete, statements = with_later(text)
    assert statements
    for step in (text, complete):
        path.write_text(of_memory(database, step))
        capsys.readouterr()
        code = call(["plan", "-c", str(path)])
        assert code == Exit.USAGE, capsys.readouterr()
        assert "error" not in capsys.readouterr().err
        call(["check", "--json", "-c", str(path)])
        found = json.loads(capsys.readouterr().out)
        assert not [each for each in found if each["level"] == "error"]
        with psycopg.connect(database, autocommit=True) as own:
            for statement in statements:
                own.execute(statement.encode())
        statements = []
