"""Who may import whom, and who may look outside."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.tidy.sources import PACKAGES, ROOT, Source, sources

BRIDGE = sources("bridge")
SINKS = sources("sinks")
CODE = sources(*PACKAGES)
TESTS = sources("tests")
READS_ENVIRONMENT = ("bridge/config", "bridge/dev/")
PARSES_QUERIES = "bridge/derive/"


def within(name: str, module: str) -> bool:
    """Whether `name` is `module` or something in it."""
    return name == module or name.startswith(f"{module}.")


def imports_of(found: list[Source], module: str) -> list[str]:
    """Where these files import the module, or something in it."""
    return [
        f"{source.name}:{line} {name}"
        for source in found
        for line, name in source.imports()
        if within(name, module)
    ]


def test_every_module_says_what_it_is_for() -> None:
    assert [s.name for s in CODE if not ast.get_docstring(s.tree)] == []


def test_the_environment_is_read_in_one_place() -> None:
    reads = [
        f"{source.name}:{node.lineno}"
        for source in CODE
        if not source.name.startswith(READS_ENVIRONMENT)
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "getenv"))
    ]
    assert reads == []


def test_plug_ins_import_the_contract_alone() -> None:
    assert [found for source in SINKS for found in foreign(source)] == []


def foreign(source: Source) -> list[str]:
    """What a plug-in's file imports of the project beside its own and the contract."""
    own = ".".join(source.name.split("/")[:2])
    in_tests = "test" in source.path.stem or "tests" in source.path.parts
    return [
        f"{source.name}:{line} {name}"
        for line, name in source.imports()
        if name.split(".")[0] in PACKAGES
        and not within(name, own)
        and not (within(name, "bridge.sink") and names_contract(name))
        and not (in_tests and within(name, "bridge.sink.conformance"))
    ]


def names_contract(name: str) -> bool:
    """Whether it is the contract itself, or a name it exports; no module inside it."""
    inner = name.split(".")[2:]
    folder = ROOT / "bridge" / "sink"
    return not inner or not (
        (folder / f"{inner[0]}.py").exists() or (folder / inner[0]).is_dir()
    )


def test_queries_are_parsed_in_derive_alone() -> None:
    elsewhere = [s for s in CODE if not s.name.startswith(PARSES_QUERIES)]
    assert imports_of(elsewhere, "pglast") == []


def test_sinks_do_not_talk_to_postgres() -> None:
    assert imports_of(SINKS, "psycopg") == []


def test_docker_is_no_package() -> None:
    """Or testcontainers' `import docker` would find it."""
    assert not list((ROOT / "docker").rglob("__init__.py"))


def sleeps(tree: ast.AST) -> list[int]:
    """Lines that wait for time: `sleep` of a constant other than 0, or in a thread."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Attribute(value=ast.Name(id=module), attr="sleep"):
                blocking = module == "time"
            case ast.Name(id="sleep"):
                blocking = False
            case _:
                continue
        constant = node.args and isinstance(node.args[0], ast.Constant)
        if blocking or (constant and node.args[0].value != 0):  # type: ignore[attr-defined]
            found.append(node.lineno)
    return found


def test_what_is_cancelled_ends() -> None:
    """`asyncio.wait_for` of 3.11 returns what came at the same moment, and the loop
    that called it goes on for good; `asyncio.timeout` does not."""
    called = [
        f"{source.name}:{node.lineno}"
        for source in sources(*PACKAGES)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    ]
    assert called == []


PACED = ("tests/simulation/", "tests/bench/")
"""Under a clock of its own, and paced by rates: there a delay is not a guess."""
TIMED = {
    "tests/unit/test_deliver.py",
    "tests/unit/test_gate.py",
    "tests/unit/test_pipeline.py",
}
"""They show that something does *not* happen, which no condition can."""


def test_tests_wait_for_conditions_and_not_for_time() -> None:
    assert [
        f"{source.name}:{line}"
        for source in TESTS
        if not source.name.startswith(PACED) and source.name not in TIMED
        for line in sleeps(source.tree)
    ] == []


def test_sleeps_are_seen() -> None:
    seen = (
        "import time\ntime.sleep(x)\nawait asyncio.sleep(0.1)\nawait asyncio.sleep(0)"
    )
    assert sleeps(
        ast.parse(f"async def f():\n    {seen.replace(chr(10), chr(10) + '    ')}")
    ) == [3, 4]


def test_an_import_is_seen_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "bridge" / "derive" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import pglast.ast\nfrom pglast import ast\nfrom ..sink import Sink\n"
        "from . import plan\n\ndef f():\n    from bridge.cli import app\n"
    )
    source = Source(path, tmp_path)
    assert sorted(name for _, name in source.imports()) == [
        "bridge.cli.app",
        "bridge.derive.plan",
        "bridge.sink.Sink",
        "pglast.ast",
        "pglast.ast",
    ]
