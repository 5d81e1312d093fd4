"""What must not be written: empty names, things left undone, places on one machine."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.sources import PACKAGES, ROOT, Source, sources

# Words that say nothing about what a thing is. `info` is what libraries call theirs.
BANNED = frozenset({"manager", "helper", "util", "common", "handler", "processor"})
BANNED |= {f"{word}s" for word in BANNED} | {"data", "info"}
# Names out of the replication protocol itself.
FIELD_TERMS = frozenset(
    {"XLogData", "parse_xlog_data", "get_copy_data", "put_copy_data"}
)
# Built from pieces so that this file does not hold what it looks for.
UNDONE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
MACHINE = re.compile(
    "|".join(
        [
            "/" + "work/",
            "/" + "srv/",
            "/" + r"home/\w",
            "/" + r"root/\.",
            "/Us" + "ers/",
        ]
    )
)
CODE = sources(*PACKAGES, "tests")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".sql", ".yaml", ".yml", ".json", ".sh", ""}


def defined(source: Source) -> Iterator[tuple[int, str]]:
    """Names that others read: of the module, its classes and its functions."""
    yield 1, source.path.stem
    for node in ast.walk(source.tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name


def banned(name: str) -> bool:
    """Whether the name is, or ends in, a banned word."""
    if name in FIELD_TERMS:
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    return words[-1] in BANNED


def test_names_say_what_things_are() -> None:
    assert [
        f"{source.name}:{line} {name}"
        for source in CODE
        for line, name in defined(source)
        if banned(name)
    ] == []


def test_banned_names_are_seen() -> None:
    assert banned("LaneManager")
    assert banned("string_utils")
    assert banned("_data")
    assert not banned("pgdata")
    assert not banned("data_directory")


def committed() -> list[Path]:
    """The text files of the project, as git lists them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # not a clone, or somebody else's
        names = [str(source.path.relative_to(ROOT)) for source in CODE]
    else:
        names = listed.stdout.split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and path.suffix in TEXT_SUFFIXES]


def offences(pattern: re.Pattern[str]) -> list[str]:
    """Where the pattern stands in the project."""
    found = []
    for path in committed():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}")
    return found


def test_nothing_is_marked_as_undone() -> None:
    assert offences(UNDONE) == []


def test_no_path_of_one_machine() -> None:
    assert offences(MACHINE) == []


def hints(source: Source) -> Iterator[tuple[int, str]]:
    """What errors tell the operator to do, as far as it stands in the source."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.keyword) or node.arg != "hint":
            continue
        match node.value:
            case ast.Constant(value=str(text)) if text:
                yield node.value.lineno, text
            case ast.JoinedStr(values=[*parts]) if parts:
                ends = (p.value if isinstance(p, ast.Constant) else "…" for p in parts)
                yield node.value.lineno, "".join(map(str, ends))


def amiss(hint: str) -> bool:
    """It is printed after `help: `: no capital but a name's, and no full stop."""
    name = re.match(r"Postgres|[A-Z]{2}", hint)
    return (hint[0].isupper() and not name) or hint.endswith(".")


def test_hints_are_written_alike() -> None:
    assert [
        f"{source.name}:{line} {hint}"
        for source in sources(*PACKAGES)
        for line, hint in hints(source)
        if amiss(hint)
    ] == []


def test_hints_that_are_not_are_seen() -> None:
    assert amiss("Choose another slot")
    assert amiss("choose another slot.")
    assert not amiss("Postgres 15 or later is needed")
    assert not amiss("see `pgbridge status`")
