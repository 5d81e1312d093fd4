"""Tables that the log describes otherwise than their views were planned for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.derive.digest import Digester
from bridge.derive.route import Redescribed
from bridge.derive.view import DescribedColumn, TableUse, ViewPlan
from tests.unit.derive.test_digest import (
    EPOCH,
    INT8,
    TEXT,
    T,
    digest,
    direct_plan,
    insert,
    relation,
    transactions,
    update,
)


def described_plan() -> ViewPlan:
    """The rows of `t`, with the columns as they were when it was planned."""
    known = (DescribedColumn("id", INT8, -1), DescribedColumn("a", TEXT, -1))
    use = TableUse(T, frozenset({"id", "a"}), frozenset({"id"}), known)
    return replace(direct_plan(), tables=(use,))


OTHERWISE = [
    pytest.param((("id", INT8), ("b", TEXT)), id="renamed"),
    pytest.param((("id", INT8), ("a", INT8)), id="another type"),
]


@pytest.mark.parametrize("columns", OTHERWISE)
def test_nothing_is_made_of_a_table_described_otherwise(
    columns: tuple[tuple[str, int], ...],
) -> None:
    """In order with the data: what came before is given out, nothing from there on."""
    rel = relation(columns=columns)
    digester = Digester([described_plan()], {}, epoch=EPOCH)
    [before] = digester.digest(transactions([insert(b"1", b"x", b"")]))
    assert before.puts
    with pytest.raises(Redescribed) as raised:
        list(digester.digest(transactions([insert(b"2", b"3", rel=rel)])))
    assert raised.value.view == "v"
    assert "public.t" in raised.value.message


def test_a_column_that_the_view_does_not_read_may_come_and_go() -> None:
    rel = relation(columns=(("id", INT8), ("a", TEXT), ("new", INT8)))
    assert digest(described_plan(), [insert(b"1", b"x", b"5", rel=rel)]).puts


@pytest.mark.parametrize("columns", OTHERWISE)
def test_log_of_before_the_plan_is_read_back(
    columns: tuple[tuple[str, int], ...],
) -> None:
    """The key is there: the row is read as it is now."""
    rel = relation(columns=columns)
    digester = Digester([described_plan()], {}, epoch=EPOCH, planned=100)
    [batch] = digester.digest(transactions([insert(b"2", b"3", rel=rel)]))
    assert list(batch.reread["v"]) == [("2",)]
    assert not batch.puts
    assert not batch.sweeps


def test_log_of_before_the_plan_that_lacks_the_key_is_swept() -> None:
    """And it is an error again beyond, for a description that was taken before too."""
    rel = relation(columns=(("old", INT8), ("a", TEXT)), identity=("old",))
    digester = Digester([described_plan()], {}, epoch=EPOCH, planned=100)
    [batch] = digester.digest(transactions([insert(b"2", b"3", rel=rel)]))
    assert batch.sweeps == {"v"}
    assert not batch.empty
    bodies = [insert(b"2", b"3", rel=rel)], [insert(b"2", b"3", rel=rel)]
    with pytest.raises(Redescribed):
        list(digester.digest(transactions(*bodies)))


def test_log_of_before_the_plan_that_lacks_old_values_is_swept() -> None:
    rel = relation(identity=())
    digester = Digester([direct_plan()], {}, epoch=EPOCH, planned=100)
    [batch] = digester.digest(transactions([update((b"1", b"x", b""), rel=rel)]))
    assert batch.sweeps == {"v"}
