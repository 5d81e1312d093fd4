"""Inferred mappings, and what the user may lay over them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sink import Column, Kind, Refusal, Shape, Target, TypeShape
from sinks.elasticsearch.fieldtypes import KEYWORD, OPAQUE, STORED, TEXT
from sinks.elasticsearch.mapping import build_mapping, depth, paths
from sinks.elasticsearch.plan import plan


def scalar(name: str, modifier: int = -1) -> TypeShape:
    return TypeShape(Kind.SCALAR, name, modifier=modifier)


def array(element: TypeShape) -> TypeShape:
    return TypeShape(Kind.ARRAY, f"_{element.name}", element=element)


def made_of(**members: TypeShape) -> TypeShape:
    return TypeShape(Kind.OBJECT, "json", members=tuple(members.items()))


JSONB = TypeShape(Kind.JSON, "jsonb")
REVIEWS = array(made_of(rating=scalar("int2"), body=scalar("text")))


def numeric(precision: int, scale: int) -> TypeShape:
    return scalar("numeric", ((precision << 16) | (scale & 0x7FF)) + 4)


def shape(**columns: TypeShape) -> Shape:
    return Shape(tuple(Column(n, t) for n, t in columns.items()), ())


def fields(overrides: dict[str, Any] | None = None, **columns: TypeShape) -> Any:
    return build_mapping(shape(**columns), overrides or {})["properties"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (scalar("bool"), {"type": "boolean"}),
        (scalar("int2"), {"type": "short"}),
        (scalar("int4"), {"type": "integer"}),
        (scalar("int8"), {"type": "long"}),
        (numeric(18, 0), {"type": "long", "ignore_malformed": True}),
        (numeric(19, 0), {"type": "double", "ignore_malformed": True}),
        (numeric(10, 2), {"type": "double", "ignore_malformed": True}),
        (numeric(3, -2), {"type": "double", "ignore_malformed": True}),
        (scalar("numeric"), {"type": "double", "ignore_malformed": True}),
        (scalar("text"), TEXT),
        (scalar("citext"), TEXT),
        (scalar("varchar", 24), KEYWORD),
        (scalar("uuid"), KEYWORD),
        (scalar("interval"), KEYWORD),
        (scalar("timestamptz"), {"type": "date", "ignore_malformed": True}),
        (scalar("bytea"), STORED),
        (scalar("a_type_of_an_extension"), OPAQUE),
        (TypeShape(Kind.ENUM, "mood"), KEYWORD),
        (TypeShape(Kind.RANGE, "int4range", element=scalar("int4")), KEYWORD),
        (TypeShape(Kind.MULTIRANGE, "int4multirange"), KEYWORD),
        (JSONB, OPAQUE),
        (array(array(scalar("int4"))), {"type": "integer"}),
        (made_of(), OPAQUE),
        (
            REVIEWS,
            {
                "type": "object",
                "properties": {"rating": {"type": "short"}, "body": TEXT},
            },
        ),
    ],
)
def test_inferred(given: TypeShape, field: dict[str, Any]) -> None:
    assert fields(x=given)["x"] == field


def test_the_mapping_is_strict() -> None:
    assert build_mapping(shape(x=scalar("text")), {})["dynamic"] == "strict"


def test_a_new_type_drops_what_does_not_fit_it() -> None:
    assert fields({"t": {"type": "keyword"}}, t=scalar("text"))["t"] == {
        "type": "keyword"
    }
    assert fields({"t": {"type": "text"}}, t=scalar("varchar"))["t"] == {"type": "text"}


def test_a_new_type_keeps_what_fits_it() -> None:
    merged = fields(
        {
            "price": {"type": "scaled_float", "scaling_factor": 100},
            "at": {"type": "date_nanos"},
            "code": {"type": "wildcard"},
            "reviews": {"type": "nested"},
        },
        price=numeric(10, 2),
        at=scalar("timestamptz"),
        code=scalar("varchar"),
        reviews=REVIEWS,
    )
    assert merged["price"]["ignore_malformed"] is True
    assert merged["at"] == {"type": "date_nanos", "ignore_malformed": True}
    assert merged["code"] == {"type": "wildcard", "ignore_above": 8191}
    assert merged["reviews"]["type"] == "nested"
    assert set(merged["reviews"]["properties"]) == {"rating", "body"}


def test_the_same_type_is_merged_deeply() -> None:
    merged = fields(
        {"t": {"analyzer": "english", "fields": {"sort": {"type": "keyword"}}}},
        t=scalar("text"),
    )["t"]
    assert merged["type"] == "text"
    assert merged["analyzer"] == "english"
    assert set(merged["fields"]) == {"keyword", "sort"}
    assert "sort" not in TEXT["fields"]  # the table itself is not touched


def test_a_member_by_its_full_name_or_by_properties() -> None:
    for override in (
        {"reviews.body": {"type": "keyword"}},
        {"reviews": {"properties": {"body": {"type": "keyword"}}}},
    ):
        merged = fields(override, reviews=REVIEWS)["reviews"]["properties"]
        assert merged == {"rating": {"type": "short"}, "body": {"type": "keyword"}}


def test_json_is_indexed_as_far_as_the_user_maps_it() -> None:
    merged = fields({"data": {"properties": {"a": {"type": "long"}}}}, data=JSONB)
    assert merged["data"] == {
        "type": "object",
        "dynamic": False,
        "properties": {"a": {"type": "long"}},
    }
    assert fields({"data": {"type": "flattened"}}, data=JSONB)["data"] == {
        "type": "flattened"
    }
    assert fields({"data": {"dynamic": True}}, data=JSONB)["data"]["dynamic"] is True


def test_a_misspelt_column_is_named() -> None:
    with pytest.raises(Refusal) as refused:
        fields({"titel": {"type": "text"}}, title=scalar("text"))
    assert "title" in refused.value.hint


def test_fields_that_other_fields_feed_are_no_mistake() -> None:
    merged = fields(
        {
            "title": {"copy_to": "everything"},
            "everything": {"type": "text"},
            "name": {"type": "alias", "path": "title"},
        },
        title=scalar("text"),
    )
    assert merged["everything"] == {"type": "text"}


def test_a_dot_in_a_name_is_a_step_into_an_object() -> None:
    merged = fields(
        {"a.b": {"type": "keyword"}},
        **{"a.b": scalar("text"), "a.c": scalar("int4")},
    )
    assert merged == {
        "a": {
            "type": "object",
            "properties": {"b": {"type": "keyword"}, "c": {"type": "integer"}},
        }
    }


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a.b"],
        ["a.b", "a"],
        ["a.b", "a.b.c"],
        [""],
        [" "],
        ["a."],
        [".a"],
        ["a..b"],
        ["_id"],
        ["_source"],
        ["_routing"],
    ],
)
def test_names_that_cannot_be_fields(names: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        fields(**dict.fromkeys(names, scalar("int4")))
    assert refused.value.hint


def test_a_member_without_a_name() -> None:
    with pytest.raises(Refusal):
        fields(x=TypeShape(Kind.OBJECT, "json", members=(("", scalar("int4")),)))


def test_other_names_are_fields() -> None:
    names = ["_mine", "Ünï cödé", "order", 'quo"ted', "a-b"]
    assert list(fields(**dict.fromkeys(names, scalar("int4")))) == names


def test_paths_and_depth() -> None:
    mapping = fields(reviews=REVIEWS, id=scalar("int4"))
    assert set(paths(mapping)) == {
        "reviews",
        "reviews.rating",
        "reviews.body",
        "reviews.body.keyword",
        "id",
    }
    assert depth(mapping) == 2


def target(options: dict[str, Any], **columns: TypeShape) -> Target:
    return Target("v", "s", "t", shape(**columns), options)


def test_limits_are_raised_for_wide_and_deep_views() -> None:
    wide = plan(target({}, **{f"c{n}": scalar("text") for n in range(1600)}))
    assert wide.building["index.mapping.total_fields.limit"] == 3200
    deep = scalar("int4")
    for _ in range(30):
        deep = made_of(x=deep)
    assert plan(target({}, x=deep)).building["index.mapping.depth.limit"] == 31
    assert "index.mapping.depth.limit" not in plan(target({}, x=REVIEWS)).building


def test_settings_are_applied_when_published() -> None:
    made = plan(
        target(
            {"settings": {"number_of_replicas": 2, "index.refresh_interval": "5s"}},
            x=scalar("int4"),
        )
    )
    assert made.building["index.number_of_replicas"] == 0
    assert made.building["index.refresh_interval"] == "-1"
    assert made.building["index.gc_deletes"] == "1h"
    assert made.serving["index.number_of_replicas"] == 2
    assert made.serving["index.refresh_interval"] == "5s"


def test_the_fingerprint_tells_mappings_and_settings_apart() -> None:
    base = plan(target({}, x=scalar("int4"))).fingerprint
    assert base == plan(target({}, x=scalar("int4"))).fingerprint
    others = [
        target({}, x=scalar("int8")),
        target({}, y=scalar("int4")),
        target({"mappings": {"x": {"index": False}}}, x=scalar("int4")),
        target({"settings": {"number_of_replicas": 2}}, x=scalar("int4")),
        target({"settings": {"number_of_shards": 2}}, x=scalar("int4")),
    ]
    assert len({base, *(plan(other).fingerprint for other in others)}) == 6
