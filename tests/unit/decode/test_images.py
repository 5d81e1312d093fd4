"""A generated reader gives what the general one gives, for every layout."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.changes import ABSENT, UNCHANGED, Value
from bridge.decode.images import (
    GENERATED_COLUMNS_MAX,
    Layout,
    general_reader,
    generated_source,
    image_reader,
)
from bridge.decode.pgoutput import MessageError
from tests.unit.decode.examples import image

VALUES = st.one_of(
    st.none(), st.just(UNCHANGED), st.binary(max_size=5), st.binary(max_size=600)
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Layout, list[Value], bytes, bytes]:
    """A layout, a row for it, and bytes that stand before and after the row."""
    row = draw(st.lists(VALUES, max_size=12))
    places = st.one_of(st.none(), st.integers(0, len(row) - 1)) if row else st.none()
    outputs = draw(st.lists(places, max_size=14))
    markers = draw(st.sampled_from([(UNCHANGED, ABSENT), (True, ...)]))
    layout = Layout(len(row), tuple(outputs), *markers)
    return layout, row, draw(st.binary(max_size=30)), draw(st.binary(max_size=3))


@given(rows())
def test_generated_general_and_expected_are_the_same(
    example: tuple[Layout, list[Value], bytes, bytes],
) -> None:
    layout, row, before, after = example
    buffer = before + image(row) + after
    values = [layout.unchanged if value is UNCHANGED else value for value in row]
    expected = tuple(
        layout.absent if place is None else values[place] for place in layout.outputs
    )
    end = len(buffer) - len(after)
    assert general_reader(layout)(buffer, len(before)) == (expected, end)
    assert general_reader(layout)(memoryview(buffer), len(before)) == (expected, end)
    assert image_reader(layout)(buffer, len(before)) == (expected, end)


@given(rows())
def test_no_reader_accepts_a_truncated_row(
    example: tuple[Layout, list[Value], bytes, bytes],
) -> None:
    layout, row, before, _ = example
    whole = before + image(row)
    for length in range(len(before), len(whole)):
        for reader in (general_reader(layout), image_reader(layout)):
            try:
                _, end = reader(whole[:length], len(before))
            except (IndexError, struct.error):
                continue
            # A value cut short: the caller compares the end with the buffer's.
            assert end > length


def layout_of(width: int) -> Layout:
    return Layout(width, tuple(range(width)), UNCHANGED, ABSENT)


@pytest.mark.parametrize("width", [3, 300])
def test_another_number_of_columns_is_an_error(width: int) -> None:
    for reader in (general_reader(layout_of(width)), image_reader(layout_of(width))):
        with pytest.raises(MessageError, match=f"2 columns for a table of {width}"):
            reader(image([b"1", b"2"]), 0)


@pytest.mark.parametrize("wanted", [(0, 1), (1,)])
def test_an_unknown_kind_of_value_is_an_error(wanted: tuple[int, ...]) -> None:
    layout = Layout(2, wanted, UNCHANGED, ABSENT)
    for reader in (general_reader(layout), image_reader(layout)):
        with pytest.raises(MessageError, match="0x62"):
            reader(b"\0\2b\0\0\0\1xn", 0)


def test_wide_tables_are_read_too() -> None:
    row: list[Value] = [str(n).encode() for n in range(GENERATED_COLUMNS_MAX + 500)]
    read, _ = image_reader(layout_of(len(row)))(image(row), 0)
    assert read == tuple(row)


def test_the_source_holds_numbers_only() -> None:
    layout = Layout(2, (1, None), unchanged="U secret", absent="A secret")
    assert "secret" not in generated_source(layout)
