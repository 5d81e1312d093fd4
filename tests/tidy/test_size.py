"""Nothing grows past what one can read at one go."""

from __future__ import annotations

import ast

from tests.tidy.sources import PACKAGES, Source, sources

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
EVERYTHING = sources(*PACKAGES, "tests")


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which may be as long as it needs."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_modules_are_short() -> None:
    lengths = {source.name: len(source.lines) for source in EVERYTHING}
    assert {n: x for n, x in lengths.items() if x > MODULE_LINES_MAX} == {}


def too_long(source: Source) -> list[str]:
    """Its functions that are, and do not say why."""
    return [
        f"{source.name}:{node.lineno} {node.name}: {length(node)} lines"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length(node) > FUNCTION_LINES_MAX
        and not any(
            "# long: " in line
            for line in source.lines[node.lineno - 2 : node.body[0].lineno - 1]
        )
    ]


def test_functions_are_short_or_say_why_not() -> None:
    assert [found for source in EVERYTHING for found in too_long(source)] == []


def test_a_long_function_is_seen() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES_MAX))
    function = ast.parse(f'def f():\n    """Doc."""\n{body}\n').body[0]
    assert isinstance(function, ast.FunctionDef)
    assert length(function) == FUNCTION_LINES_MAX + 1
