"""Key templates: from a key to the name of its value, and which templates are safe.

The one thing to know: two keys must never share a name. Encoded parts hold no `:`, so
a template is safe exactly when a `:` stands between each two of its placeholders. And
none may have a name of the bridge's own: under a template that begins with a column
only the whole name tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import TypeAlias

from bridge.sink import Parts, Refusal, encode_part, key_text

GENERATION = "generation"
RESERVED = "pgbridge:"
DIGEST = "sha256:"

_Piece: TypeAlias = tuple[str, str | None]
"""A literal and the placeholder that follows it, None after the last."""


def pieces(template: str) -> list[_Piece]:
    """The template taken apart; `{{` and `}}` are literal braces."""
    try:
        found = list(Formatter().parse(template))
    except ValueError:
        raise Refusal(
            "`key` has a brace without its partner", hint="write `{{` for a literal one"
        ) from None
    whole: list[_Piece] = []
    for literal, name, form, conversion in found:
        if form or conversion or name == "":
            raise Refusal(
                "`key` has a placeholder that is more or less than a column's name",
                hint="write {column}",
            )
        if whole and whole[-1][1] is None:
            literal = whole.pop()[0] + literal  # noqa: PLW2901 - `{{` splits literals
        whole.append((literal, name))
    return whole


def check_template(template: str) -> None:
    """Refusal for what can be seen without knowing the view's key."""
    whole = pieces(template)
    names = [name for _, name in whole if name is not None]
    if not names or set(names) == {GENERATION}:
        raise Refusal("`key` names no key column", hint='for example "product:{id}"')
    if len(set(names)) < len(names):
        raise Refusal("`key` names a column twice", hint="name each once")
    if is_reserved(template):
        raise Refusal(
            f"`key` begins with `{RESERVED}`, where the bridge keeps its own",
            hint="choose another beginning",
        )
    for literal, name in whole[1:]:
        if name is not None and ":" not in literal:
            raise Refusal(
                "`key` has two placeholders without a `:` between them, so that two "
                "keys could get one name",
                hint="put a `:` between them",
            )


def is_reserved(name: str) -> bool:
    """Whether only the bridge itself may have a key of that name, or beginning."""
    return name.startswith(RESERVED)


def columns(template: str) -> list[str]:
    """The key columns that the template names, in its order."""
    return [name for _, name in pieces(template) if name and name != GENERATION]


def has_generation(template: str) -> bool:
    """Whether generations stand side by side under this template."""
    return any(name == GENERATION for _, name in pieces(template))


def pattern(template: str, name: str, columns: int, generation: int) -> str:
    """What is the same for generations, of whatever targets, whose values may be named
    alike; of a key of so many columns."""
    if not template:
        return f"{name}:{':'.join(['{}'] * columns)}"
    found = ""
    for literal, placeholder in pieces(template):
        found += literal
        if placeholder is not None:
            found += str(generation) if placeholder == GENERATION else "{}"
    return found


@dataclass(frozen=True, slots=True)
class Naming:
    """Names of the values of one generation.

    `order` is empty where the whole key text stands between `prefix` and `suffix`,
    which is nearly always; else `literals` stand between the parts so ordered.
    """

    prefix: str
    suffix: str
    literals: tuple[str, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def may_be_reserved(self) -> bool:
        """Whether some key would give a name that only the bridge may have."""
        return RESERVED.startswith(self.prefix)

    def of_text(self, text: str) -> str | None:
        """The name of a value by its key's text.

        None when that is a digest, and the template needs the parts.
        """
        if not self.order:
            return f"{self.prefix}{text}{self.suffix}"
        return None if text.startswith(DIGEST) else self._join(text.split(":"))

    def of_parts(self, parts: Parts) -> str:
        """The name of a value by its key's parts."""
        if not self.order:
            return f"{self.prefix}{key_text(parts)}{self.suffix}"
        return self._join([encode_part(part) for part in parts])

    def _join(self, encoded: list[str]) -> str:
        body = "".join(
            encoded[part] + literal
            for part, literal in zip(self.order, (*self.literals, ""), strict=True)
        )
        return f"{self.prefix}{body}{self.suffix}"


def naming(template: str, name: str, key: tuple[str, ...], generation: int) -> Naming:
    """How the values of a generation are named.

    Refusal when the template does not name just the key's columns, or all names would
    be the bridge's own.
    """
    if is_reserved(template or f"{name}:"):
        raise Refusal(
            f"all its keys would begin with `{RESERVED}`, where the bridge keeps its"
            " own",
            hint='give the target a `key`, for example "product:{id}"',
        )
    if not template:
        return Naming(f"{name}:", "")
    require_key(template, key)
    literals = [""]  # before, between and after the key's columns
    order: list[int] = []
    for literal, column in pieces(template):
        literals[-1] += literal
        if column == GENERATION:
            literals[-1] += str(generation)
        elif column is not None:
            order.append(key.index(column))
            literals.append("")
    prefix, *between, suffix = literals
    if order == list(range(len(key))) and set(between) <= {":"}:
        return Naming(prefix, suffix)  # such parts, so joined, are the key's text
    return Naming(prefix, suffix, tuple(between), tuple(order))


def require_key(template: str, key: tuple[str, ...]) -> None:
    """Refusal when the template does not name just these columns."""
    named = columns(template)
    if unknown := [column for column in named if column not in key]:
        raise Refusal(
            f"`key` names {{{unknown[0]}}}, which is not a key column",
            hint=f"the key is {', '.join(key)}",
        )
    if missing := [column for column in key if column not in named]:
        raise Refusal(
            f"`key` leaves out the key column {{{missing[0]}}}, so that several "
            "documents would get one name",
            hint=f"name each of {', '.join(key)}",
        )
