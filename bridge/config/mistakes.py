"""What pydantic found wrong with the file, as a sentence and what to write instead.

The one thing to know: a place is told as it would be written in the file
(`views.product.targets[0].sink`), and no value is quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bridge.config import schema
from bridge.config.nearest import nearest
from bridge.config.values import parse_size
from bridge.errors import Refusal


def refusal(error: ValidationError, table: Mapping[str, Any]) -> Refusal:
    """The most telling thing that pydantic found, in a sentence: a misspelt key comes
    before the missing one that it leaves."""
    found = error.errors(include_url=False, include_input=False)
    first = min(found, key=lambda item: item["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if part != "[key]"]
    place, context = _place(location), first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden":
            return unknown(place, str(location[-1]), _valid_keys(location[:-1]))
        case "missing":
            return _misspelt(table, location) or _missing(place)
        case "value_error":
            message = first["msg"].removeprefix("Value error, ")
            what, _, form = message.partition(" such as ")
            return Refusal(f"{place} {what}", hint=_form(form))
        case "model_type" | "dict_type":
            one = _place(location[:-1]) if isinstance(location[-1], int) else ""
            written = f"[[{one}]]" if one else f"[{place}]"
            return Refusal(f"{place} is not a table", hint=f"write {written}")
        case "tuple_type" if location[-1] == "targets":
            return Refusal(
                f"{place} is not a list of tables", hint=f"write [[{place}]]"
            )
        case "tuple_type":
            return Refusal(f"{place} is not a list", hint='write ["…"]')
        case "string_type":
            return Refusal(f"{place} is not a text", hint='write "…"')
        case "string_too_short":
            return Refusal(f"{place} is empty", hint='write "…", or leave it out')
        case "enum":
            return Refusal(
                f"{place} is another word", hint=f"write {context['expected']}"
            )
        case "int_type" | "int_from_float" | "float_type" | "finite_number":
            return Refusal(f"{place} is not a number", hint="write it without quotes")
        case "greater_than" | "greater_than_equal":
            least = "at least" if "ge" in context else "more than"
            bound = _amount(context["ge" if "ge" in context else "gt"], location)
            return Refusal(f"{place} is too small", hint=f"write {least} {bound}")
        case "less_than_equal":
            bound = _amount(context["le"], location)
            return Refusal(f"{place} is too large", hint=f"write at most {bound}")
        case _:
            message = first["msg"].removeprefix("Input ")
            return Refusal(f"{place} {message[0].lower()}{message[1:]}", hint=_form())


def _misspelt(
    table: Mapping[str, Any], location: Sequence[str | int]
) -> Refusal | None:
    """What stands there in the place of a missing key, if it looks like it: of a sink
    or target, whose other keys are the plug-in's, it is not known to be unknown."""
    part: Any = table
    for name in location[:-1]:
        part = part[name]
    wanted = str(location[-1])
    if not isinstance(part, Mapping) or not (
        near := get_close_matches(wanted, part, n=1)
    ):
        return None
    place = _place([*location[:-1], near[0]])
    return unknown(place, near[0], _valid_keys(location[:-1]))


def _missing(place: str) -> Refusal:
    if place == "source":
        hint = "write [source] with dsn = …; `pgbridge init` writes a whole file"
    else:
        hint = "write it; it has no default"
    return Refusal(f"{place} is missing", hint=hint)


def _amount(number: float, location: Sequence[str | int]) -> str:
    """A bound as it would be written there."""
    if location[-1] in ("memory", "wal_budget"):
        for unit in ("TiB", "GiB", "MiB"):
            if number % parse_size(f"1{unit}") == 0:
                return f"{number / parse_size(f'1{unit}'):.0f}{unit}"
    return f"{number:g}"


def unknown(place: str, key: str, valid: Sequence[str]) -> Refusal:
    """That no such key may stand there, with the nearest that may."""
    return Refusal(
        f"unknown key {place}; the nearest valid one is {nearest(key, valid)!r}",
        hint=f"valid here: {', '.join(valid)}",
    )


def _form(such_as: str = "") -> str:
    """What to do about a value of the wrong form."""
    if such_as:
        return f"write it as in {such_as}"
    return "docs/settings.md tells every setting with its form"


def _place(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _valid_keys(location: Sequence[str | int]) -> list[str]:
    """The keys that may stand at a place of the file."""
    model: type[BaseModel] = schema.File
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in get_args(annotation) if _is_model(a)]
            model = annotation if _is_model(annotation) else inner[0]  # type: ignore[assignment]
    names = list(model.model_fields)
    if model is schema.Source:
        names += ["dsn_file", "admin_dsn_file"]
    return names


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
