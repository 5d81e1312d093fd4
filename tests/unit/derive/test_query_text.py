"""What is read of a query's text, before any server has seen it."""

from __future__ import annotations

import pytest

from bridge.catalog.nodetree import nodes, uses
from bridge.derive import places
from bridge.derive.parse import check_condition, parse_source
from bridge.derive.statements import uninlined_expressions
from bridge.errors import QueryRefusal


@pytest.mark.parametrize(
    ("query", "why", "at"),
    [
        ("select id, from r", "syntax error", "from"),
        ("select 1; select 2", "2 statements", None),
        ("", "is empty", None),
        (";", "is empty", ";"),
        ("select id from r where", "syntax error at end", None),
        ("select 1;", "semicolon", ";"),
        ("delete from r", "not a `select`", "delete"),
        ("create table r (id int)", "not a `select`", "create"),
        ("with x as (delete from r returning *) select * from x", "changes data", None),
        ("with x as (insert into r values (1)) select 1", "changes data", None),
        ("select id into s from r", "makes a table", None),
        ("select id from r for update", "locks", None),
        ("select (select id from u for share) from r", "locks", None),
    ],
)
def test_only_one_select_that_reads_is_taken(
    query: str, why: str, at: str | None
) -> None:
    with pytest.raises(QueryRefusal, match=why) as refusal:
        parse_source(query)
    assert refusal.value.hint
    if "at end" in why:
        assert refusal.value.at == len(query)
    if at is not None:
        assert refusal.value.at == query.index(at)


def test_places_are_characters_and_not_bytes() -> None:
    query = "select 'äöü', now() from r"
    assert places.of_function(query, "now") == query.index("now")
    with pytest.raises(QueryRefusal) as refusal:
        parse_source("select 'äöü' as x y from r")
    assert refusal.value.at == "select 'äöü' as x y from r".index("y")


def test_places_are_found_by_what_is_named() -> None:
    query = "select a.id as k, current_date d from r a join r b on b.x = a.id"
    assert places.of_table(query, "b", "r") == query.index("r b")
    assert places.of_table(query, "gone", "r") == query.index("r a")
    assert places.of_table(query, "gone", "nosuch") is None
    assert places.of_function(query, "current_date") == query.index("current_date")
    assert places.of_output(query, "k") == query.index("a.id")
    assert places.of_output(query, "nosuch") is None


def test_expressions_may_all_be_inlined() -> None:
    query = (
        "with a as (select 1), b(x) as materialized (select ' as (select '), "
        'c as not materialized (values (1)), "as" as (with d as (select 2) '
        "select * from d) select a.* as y, cast(1 as int), f.x from a, "
        "json_to_record('{}') as f(x int)"
    )
    assert uninlined_expressions(query) == (
        "with a as NOT MATERIALIZED (select 1), b(x) as NOT MATERIALIZED (select "
        "' as (select '), c as not materialized (values (1)), \"as\" as NOT "
        "MATERIALIZED (with d as NOT MATERIALIZED (select 2) select * from d) "
        "select a.* as y, cast(1 as int), f.x from a, "
        "json_to_record('{}') as f(x int)"
    )


TREE = r"""({QUERY :commandType 1 :rtable ({RANGETBLENTRY :alias {ALIAS :aliasname
 a\ b\}\{ :colnames <>} :relid 16400 :tablesample <>} {RANGETBLENTRY :relid 0})
 :targetList ({TARGETENTRY :expr {FUNCEXPR :funcid 870 :funcresulttype 25 :args
 ({CONST :consttype 25 :constvalue 5 [ 20 0 0 0 120 ]} {OPEXPR :opno 98 :opfuncid 67})}
 :resname "x :funcid 1"} {TARGETENTRY :expr {AGGREF :aggfnoid 3175 :args ({AGGREF
 :aggfnoid 2803 :aggorder <> :aggdistinct <>}) :aggorder ({SORTGROUPCLAUSE :eqop 410
 :sortop 412}) :aggdistinct <>}} {TARGETENTRY :expr {SQLVALUEFUNCTION :op 3}})})"""


def test_objects_are_found_in_the_parse_of_postgres() -> None:
    found = uses(TREE)
    assert found.relations == {16400}
    assert found.functions == {870, 3175, 2803}
    assert found.operators == {98, 410, 412}
    assert found.types == {25}
    assert found.value_functions == {"3"}
    assert not found.sampled
    ordered = {a.function: a.ordered for a in found.aggregates}
    assert ordered == {3175: True, 2803: False}


def test_inner_nodes_come_before_those_that_hold_them() -> None:
    names = [node.name for node in nodes(TREE)]
    assert names[-1] == "QUERY"
    assert names.index("CONST") < names.index("FUNCEXPR")


@pytest.mark.parametrize(
    "text",
    ["id = 1) or (id = 2", "id = 1;", "id = 1; select 1", "id = 1 order by id", ""],
)
def test_a_condition_is_one_expression(text: str) -> None:
    with pytest.raises(QueryRefusal, match="one expression"):
        check_condition(text)
    check_condition("(id = 1) or (id = 2) -- both")
