"""Views that a database suggests: along its foreign keys, runnable as they stand."""

from __future__ import annotations

from bridge.control.proposals import ForeignKey, Table, propose, view_name


def table(oid: int, name: str, *columns: str, key: int = 1, rows: int = 1) -> Table:
    leaf = {
        "name": f"public.{name}", "table": name, "identity": "d",
        "primary_key": list(columns[:key]), "keys": [], "carried": columns[:key],
        "nullable": [], "unfit": [], "generated": [], "taken": [],
    }  # fmt: skip
    return Table(oid, "public", name, rows, columns, columns[:key], (leaf,))


CATEGORY = table(1, "category", "id", "name")
PRODUCT = table(2, "product", "id", "title", "category_id")
REVIEW = table(3, "review", "id", "product_id", "body")
LINK = table(4, "product_tag", "product_id", "tag_id", key=2)
TAG = table(5, "tag", "id", "name")
TABLES = {t.oid: t for t in (CATEGORY, PRODUCT, REVIEW, LINK, TAG)}
KEYS = [
    ForeignKey(2, 1, ("category_id",), ("id",), nullable=False),
    ForeignKey(3, 2, ("product_id",), ("id",), nullable=True),
    ForeignKey(4, 2, ("product_id",), ("id",), nullable=False),
    ForeignKey(4, 5, ("tag_id",), ("id",), nullable=False),
]


def test_the_table_that_most_belongs_to_comes_first_and_link_tables_never() -> None:
    names = [proposal.name for proposal in propose(TABLES, KEYS)]
    assert names[0] == "product"
    assert "product-tag" not in names
    assert set(names) == {"product", "category", "review", "tag"}


def test_a_referenced_row_gives_its_label() -> None:
    product = propose(TABLES, KEYS)[0]
    assert "c.name as category" in product.query
    assert "join category c on c.id = p.category_id" in product.query


def test_a_reference_that_may_be_null_is_a_left_join() -> None:
    (review,) = [p for p in propose(TABLES, KEYS) if p.name == "review"]
    assert "left join product p on p.id = r.product_id" in review.query


def test_children_wait_for_the_identity_that_they_need() -> None:
    product = propose(TABLES, KEYS)[0]
    assert "review" not in product.query
    ((column, statement),) = product.later
    assert "json_agg" in column
    assert "on public.review (id, product_id)" in statement
    assert "product_tag" in product.query  # its key carries the link


def test_tables_without_a_key_are_left_out() -> None:
    keyless = Table(9, "public", "log", 1, ("at",), (), ())
    assert propose({9: keyless}, []) == []


def test_names_that_sql_or_a_view_cannot_have() -> None:
    odd = Table(9, "Other", "Odd Table", 1, ("Id", "user"), ("Id",), ())
    (proposal,) = propose({9: odd}, [])
    assert proposal.name == "odd-table"
    assert 'o."Id", o."user"' in proposal.query
    assert 'from "Other"."Odd Table" o' in proposal.query
    assert view_name("1é") == "t-1"
