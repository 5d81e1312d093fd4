"""The files that the rules of style are asked of, parsed once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bridge", "sinks")


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path
    root: Path = ROOT

    @property
    def name(self) -> str:
        """Its path below the root."""
        return self.path.relative_to(self.root).as_posix()

    @functools.cached_property
    def text(self) -> str:
        """What is written in it."""
        return self.path.read_text()

    @functools.cached_property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()

    @functools.cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, self.name)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every module it imports, by its full name, with the line.

        `from a import b` gives `a.b`: b may be a module.
        """
        package = self.name.removesuffix(".py").split("/")[:-1]
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    for name in names:
                        yield node.lineno, name.name
                case ast.ImportFrom(module=module, names=names, level=level):
                    above = package[: len(package) - level + 1] if level else []
                    base = [*above, *(module or "").split(".")]
                    for name in names:
                        yield node.lineno, ".".join([*filter(None, base), name.name])


def sources(*folders: str) -> list[Source]:
    """Every Python file below these folders of the project."""
    found: list[Path] = []
    for folder in folders:
        found.extend((ROOT / folder).rglob("*.py"))
    return [Source(path) for path in sorted(found)]
