"""Key templates: names that never coincide, and refusals of those that could."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.keys import key_text
from bridge.sink import Refusal
from sinks.redis.template import (
    RESERVED,
    check_template,
    has_generation,
    is_reserved,
    naming,
)

PART = st.one_of(st.none(), st.text(max_size=8), st.text(min_size=500, max_size=520))
PAIRS = st.tuples(PART, PART)


@pytest.mark.parametrize(
    ("template", "key", "parts", "name"),
    [
        ("", ("id",), ("7",), "products:7"),
        ("", ("a", "b"), ("x:y", None), "products:x%3Ay:%00"),
        ("product:{id}", ("id",), ("a:b%",), "product:a:b%"),
        ("p:{generation}:{id}", ("id",), ("7",), "p:3:7"),
        ("{id}:of:{generation}", ("id",), ("7",), "7:of:3"),
        ("{{{id}}}:x", ("id",), ("7",), "{7}:x"),
        ("p:{a}:{b}", ("a", "b"), ("x:y", "z"), "p:x%3Ay:z"),
        ("p:{b}:{a}:e", ("a", "b"), ("x", "z%"), "p:z%25:x:e"),
        ("{b}:{generation}:{a}", ("a", "b"), (None, "z"), "z:3:%00"),
    ],
)
def test_names(
    template: str, key: tuple[str, ...], parts: tuple[str | None, ...], name: str
) -> None:
    made = naming(template, "products", key, 3)
    assert made.of_text(key_text(parts)) == made.of_parts(parts) == name


@pytest.mark.parametrize(
    "template",
    [
        "",
        "nothing",
        "p:{generation}",
        "p:{a}{b}",
        "p:{a}-{b}",
        "p:{generation}{a}",
        "{a}/{generation}",
        "p:{a}:{a}",
        "p:{a!r}",
        "p:{a:>3}",
        "p:{}",
        "p:{a",
        "p:a}",
        "pgbridge:{a}",
    ],
)
def test_templates_that_are_refused(template: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_template(template)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("template", "key"),
    [("p:{idd}", ("id",)), ("p:{a}", ("a", "b")), ("p:{a}:{b}", ("a",))],
)
def test_templates_that_do_not_name_the_key(
    template: str, key: tuple[str, ...]
) -> None:
    check_template(template)
    with pytest.raises(Refusal) as caught:
        naming(template, "products", key, 1)
    assert caught.value.hint


def test_side_by_side() -> None:
    assert has_generation("p:{generation}:{id}")
    assert not has_generation("p:{{generation}}:{id}")


@pytest.mark.parametrize(
    ("template", "name"),
    [("", "pgbridge"), ("pgbridge:{id}", "p"), ("pgbridge:{generation}:{id}", "p")],
)
def test_what_names_nothing_but_the_bridges_own_is_refused(
    template: str, name: str
) -> None:
    with pytest.raises(Refusal) as caught:
        naming(template, name, ("id",), 1)
    assert caught.value.hint


@pytest.mark.parametrize(
    "template", ["{id}", "p{id}", "{id}:e", "pgbridge{id}", "x{id}"]
)
@given(st.text(max_size=4))
def test_names_that_are_the_bridges_own_are_known_before_they_are_made(
    template: str, rest: str
) -> None:
    made = naming(template, "products", ("id",), 1)
    for literal in ("", "p", "pgbridge", "x"):
        text = (RESERVED + rest).removeprefix(literal)
        own = is_reserved(made.of_parts((text,)))
        assert made.may_be_reserved or not own


@pytest.mark.parametrize(
    "template", ["p:{a}:{b}", "{b}:x{a}", "{b}-:-{a}:{generation}"]
)
@given(one=PAIRS, other=PAIRS)
def test_two_keys_never_get_one_name(
    template: str, one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    made = naming(template, "products", ("a", "b"), 1)
    if key_text(one) != key_text(other):
        assert made.of_parts(one) != made.of_parts(other)
    for parts in (one, other):
        assert made.of_text(key_text(parts)) in (None, made.of_parts(parts))
