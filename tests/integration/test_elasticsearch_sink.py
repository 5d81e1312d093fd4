"""Indexes that are somebody else's, are built and published."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bridge.sink import (
    Column,
    Generation,
    Halt,
    Kind,
    Level,
    Operation,
    Position,
    Refusal,
    TypeShape,
)
from tests.fixtures.elasticsearch import (
    EPOCH,
    OTHER,
    OWNER,
    OpenSink,
    delete,
    generation,
    put,
    scalar,
    version,
)

# Somebody else.


@pytest.mark.parametrize("way", ["put", "delete"])
async def test_a_version_above_all_that_were_issued_is_foreign(
    way: str, sink: Any, one: Generation, es: httpx.Client
) -> None:
    await sink.write(one, [put("1", 10), put("2", 10)])
    doc = f"/{one.target.name}--g1/_doc/1"
    if way == "put":
        es.put(doc, json={"id": 9}).raise_for_status()  # leaves ours + 1
    else:
        es.delete(doc).raise_for_status()
    report = await sink.write(one, [put("1", 10), put("2", 10)])
    assert report.foreign == [0]
    assert report.superseded == 1
    # and mended by whatever is newer
    assert (await sink.write(one, [put("1", 12)])).kept == 1


async def test_an_enormous_version_is_foreign_also_after_a_restart(
    sink: Any, one: Generation, es: httpx.Client, open_sink: OpenSink
) -> None:
    await sink.write(one, [put("1", 10)])
    es.put(
        f"/{one.target.name}--g1/_doc/1",
        params={"version": version(1, EPOCH + 1), "version_type": "external"},
        json={"id": 9},
    ).raise_for_status()
    assert (await sink.write(one, [put("1", 11)])).foreign == [0]
    later = await open_sink()
    await later.claim(OWNER, EPOCH)
    assert (await later.write(one, [put("1", 12)])).foreign == [0]


async def test_a_replay_after_a_crash_finds_nothing_foreign(
    sink: Any, one: Generation, open_sink: OpenSink
) -> None:
    await sink.record(one, Position(EPOCH, 50))
    await sink.write(one, [put("1", 100), put("2", 1 << 40), delete("3", 100)])
    later = await open_sink()
    await later.claim(OWNER, EPOCH)
    report = await later.write(one, [put("1", 90), put("2", 90), put("3", 90)])
    assert report.superseded == 3
    assert report.foreign == []


async def test_nothing_is_written_over_what_is_not_ours(
    sink: Any, name: str, es: httpx.Client
) -> None:
    es.put(f"/{name}", json={}).raise_for_status()
    es.put(f"/{name}b--g1", json={"aliases": {f"{name}a": {}}}).raise_for_status()
    before = es.get(f"/{name}*").json()
    for target in (name, f"{name}a", f"{name}b"):
        one = generation(target)
        findings = await sink.examine(one.target, OWNER)
        assert [f.level for f in findings] == [Level.ERROR]
        assert findings[0].fix
        with pytest.raises(Halt):
            await sink.prepare(one, OWNER)
        assert not await sink.exists(one)
        assert await sink.published(one.target) is None
    await sink.drop(generation(f"{name}b"))  # nothing of it is there
    with pytest.raises(Halt):
        await sink.write(generation(f"{name}b"), [put("1", 10)])
    assert es.get(f"/{name}*").json() == before


async def test_another_bridge_keeps_its_targets(
    sink: Any, one: Generation, open_sink: OpenSink
) -> None:
    other = await open_sink()
    await other.claim(OTHER, 1)
    with pytest.raises(Halt, match="belongs to"):
        await other.prepare(one, OTHER)
    with pytest.raises(Halt):
        await other.prepare(Generation(one.target, 2), OWNER)
    await other.drop(one)  # nothing of its own is there
    assert await sink.exists(one)
    assert not await other.exists(one)
    findings = await other.examine(one.target, OTHER)
    assert [finding.level for finding in findings] == [Level.ERROR]
    beside = generation(f"{one.target.name}beside")
    await other.prepare(beside, OTHER)
    assert await other.exists(beside)
    assert await other.highest_epoch(OTHER) == 1
    assert await sink.highest_epoch(OWNER) == EPOCH


async def test_an_alias_taken_over_while_we_build_is_not_overwritten(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    name = one.target.name
    es.put(f"/{name}theirs", json={"aliases": {name: {}}}).raise_for_status()
    with pytest.raises(Halt) as halted:
        await sink.publish(one)
    assert "_aliases" in halted.value.hint
    assert list(es.get(f"/_alias/{name}").json()) == [f"{name}theirs"]


async def test_a_pipeline_given_to_the_index_stops_the_sink(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    es.put(
        f"/{one.target.name}--g1/_settings", json={"index.default_pipeline": "nosuch"}
    ).raise_for_status()
    with pytest.raises(Halt, match="pipeline"):
        await sink.write(one, [put("1", 10)])


async def test_the_write_alias_on_another_index_changes_nothing(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    name = one.target.name
    other = {"aliases": {f"{name}--g1.Write": {"is_hidden": True}}}
    es.put(f"/{name}theirs", json=other).raise_for_status()
    assert (await sink.write(one, [put("1", 10)])).kept == 1
    assert await sink.count(one) == 1


async def test_templates_of_the_cluster_change_nothing(
    sink: Any, name: str, es: httpx.Client
) -> None:
    template = {
        "index_patterns": [f"{name}*"],
        "priority": 123_456,
        "template": {
            "settings": {
                "number_of_replicas": 3,
                "refresh_interval": "1s",
                "default_pipeline": "nosuch",
                "gc_deletes": "1s",
            },
            "mappings": {
                "dynamic": True,
                "properties": {"title": {"type": "long"}},
            },
        },
    }
    es.put(f"/_index_template/{name}", json=template).raise_for_status()
    try:
        one = generation(name)
        await sink.prepare(one, OWNER)
        report = await sink.write(one, [put("1", 10, title="a"), put("2", 10, no=1)])
        assert report.kept == 1
        assert set(report.rejections) == {1}
    finally:
        es.delete(f"/_index_template/{name}").raise_for_status()


async def test_a_template_that_contradicts_is_told(
    sink: Any, name: str, es: httpx.Client
) -> None:
    template = {
        "index_patterns": [f"{name}*"],
        "priority": 123_457,
        "template": {"mappings": {"_routing": {"required": True}}},
    }
    es.put(f"/_index_template/{name}", json=template).raise_for_status()
    try:
        with pytest.raises(Halt, match="_routing"):
            await sink.prepare(generation(name), OWNER)
    finally:
        es.delete(f"/_index_template/{name}").raise_for_status()


# Building and publishing.


async def test_settings_while_building_and_when_published(
    sink: Any, name: str, es: httpx.Client
) -> None:
    wanted = {"number_of_replicas": 1, "refresh_interval": "7s", "number_of_shards": 2}
    one = generation(name, settings=wanted)
    await sink.prepare(one, OWNER)

    def held() -> dict[str, Any]:
        answer = es.get(f"/{name}--g1/_settings").json()
        found: dict[str, Any] = answer[f"{name}--g1"]["settings"]["index"]
        return found

    assert held()["number_of_replicas"] == "0"
    assert held()["refresh_interval"] == "-1"
    assert held()["number_of_shards"] == "2"
    await sink.write(one, [put("1", 10)])
    await sink.publish(one)
    assert held()["number_of_replicas"] == "1"
    assert held()["refresh_interval"] == "7s"
    assert held()["gc_deletes"] == "1h"
    assert es.get(f"/{name}/_count").json()["count"] == 1


async def test_readers_see_exactly_one_generation(
    sink: Any, name: str, es: httpx.Client
) -> None:
    first, second = generation(name, 1), generation(name, 2)
    for each in (first, second):
        await sink.prepare(each, OWNER)
        await sink.write(each, [put("1", 10), put(str(each.number + 1), 10)])
    for each in (first, second, first):
        await sink.publish(each)
        assert list(es.get(f"/_alias/{name}").json()) == [f"{name}--g{each.number}"]
        hits = es.get(f"/{name}/_search").json()["hits"]["hits"]
        assert {hit["_id"] for hit in hits} == {"1", str(each.number + 1)}
    assert (await sink.write(second, [put("1", 11)])).kept == 1  # is fed on


async def test_a_plain_write_through_the_readers_alias_is_refused(
    sink: Any, one: Generation, es: httpx.Client
) -> None:
    await sink.publish(one)
    answer = es.put(f"/{one.target.name}/_doc/1", json={"id": 1})
    assert answer.status_code == 400
    assert await sink.count(one) == 0


async def test_record_keeps_the_rest_of_the_identity(
    sink: Any, one: Generation, es: httpx.Client, open_sink: OpenSink
) -> None:
    def held() -> dict[str, Any]:
        mapping = es.get(f"/{one.target.name}--g1/_mapping").json()
        found: dict[str, Any] = mapping[f"{one.target.name}--g1"]["mappings"]
        return found

    before = held()
    await sink.record(one, Position(EPOCH, 0x16B3748))
    after = held()
    assert after["_meta"]["pgbridge"].pop("position") == "3:0/16B3748"
    assert before["_meta"]["pgbridge"].pop("position") == ""
    for side in (before, after):
        side["_meta"]["pgbridge"].pop("ceiling")
    assert after == before
    assert after["_meta"]["pgbridge"]["owner"] == str(OWNER)
    assert after["dynamic"] == "strict"
    # a newer epoch is not lost by what this process remembers
    later = await open_sink()
    await later.claim(OWNER, EPOCH + 1)
    await sink.record(one, Position(EPOCH, 0x16B3749))
    assert await later.highest_epoch(OWNER) == EPOCH + 1
    with pytest.raises(Halt):
        await (await open_sink()).claim(OWNER, EPOCH)


async def test_a_prepare_that_was_cut_off_is_finished(
    sink: Any, one: Generation, es: httpx.Client, open_sink: OpenSink
) -> None:
    index = f"/{one.target.name}--g1"
    meta = es.get(f"{index}/_mapping").json()[index[1:]]["mappings"]["_meta"]
    meta["pgbridge"]["uuid"] = ""  # killed between creation and identity
    es.put(f"{index}/_mapping", json={"_meta": meta}).raise_for_status()
    later = await open_sink()
    await later.claim(OWNER, EPOCH)
    assert not await later.exists(one)
    await later.prepare(one, OWNER)
    assert await later.exists(one)
    assert (await later.write(one, [put("1", 10)])).kept == 1


async def test_a_generation_made_for_other_mappings_is_not_taken(
    sink: Any, one: Generation
) -> None:
    changed = generation(one.target.name, mappings={"title": {"type": "keyword"}})
    assert sink.fingerprint(changed.target) != sink.fingerprint(one.target)
    with pytest.raises(Halt, match="other mappings"):
        await sink.prepare(changed, OWNER)


# What `plan` and `check` tell.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mappings": {"title": {"type": "nosuch"}}}, "nosuch"),
        ({"mappings": {"title": {"analyzer": "nosuch"}}}, "nosuch"),
        ({"mappings": {"price": {"index": "maybe"}}}, "maybe"),
        ({"settings": {"nosuch": 1}}, "nosuch"),
        ({"settings": {"number_of_shards": 0}}, "number_of_shards"),
        ({"mappings": {"titel": {"type": "text"}}}, "titel"),
    ],
)
async def test_what_cannot_be_made_is_told_before(
    options: dict[str, Any], told: str, sink: Any, name: str, es: httpx.Client
) -> None:
    with pytest.raises(Refusal) as refused:
        await sink.examine(generation(name, **options).target, OWNER)
    assert told in refused.value.message
    assert refused.value.hint
    assert es.get(f"/{name}*").json() == {}
    assert name not in es.get("/_index_template").text


async def test_wide_deep_and_strangely_named_views_can_be_made(
    sink: Any, name: str
) -> None:
    deep = scalar("int4")
    for _ in range(25):
        deep = TypeShape(Kind.OBJECT, "json", members=(("x", deep),))
    columns = (
        Column("id", scalar("int4")),
        Column("deep", deep),
        Column("a.b", scalar("text")),
        Column('q"uo\\te', scalar("text")),
        Column("Größe ☃", scalar("int4")),
        Column("_mine", scalar("int4")),
        *(Column(f"c{n}", scalar("text")) for n in range(1590)),
    )
    one = generation(name, columns=columns)
    assert await sink.examine(one.target, OWNER) == []
    await sink.prepare(one, OWNER)
    document: dict[str, Any] = {column.name: None for column in columns}
    document |= {"id": 1, "a.b": "x", 'q"uo\\te': "y", "Größe ☃": 3, "_mine": 4}
    report = await sink.write(one, [put("1", 10, **document)])
    assert report.kept == 1


@pytest.mark.parametrize("column", ["", " ", "_id", "_source", ".a", "a..b"])
async def test_names_that_are_refused_are_refused_by_the_server_too(
    column: str, sink: Any, name: str, es: httpx.Client
) -> None:
    """Else we would refuse what could be."""
    columns = (Column("id", scalar("int4")), Column(column, scalar("int4")))
    with pytest.raises(Refusal):
        await sink.examine(generation(name, columns=columns).target, OWNER)
    mapping = {"mappings": {"properties": {column: {"type": "integer"}}}}
    made = es.put(f"/{name}", json=mapping)
    written = es.put(f"/{name}/_doc/1", json={column: 1})
    assert not (made.is_success and written.is_success)


async def test_check_tells_the_version_and_finds_nothing_wrong(sink: Any) -> None:
    findings = await sink.check()
    assert any(finding.what.startswith("Elasticsearch ") for finding in findings)
    assert not [
        f for f in findings if f.level is Level.ERROR and "index t" not in f.what
    ]


async def test_vectors_stay_in_the_document(sink: Any, name: str) -> None:
    vector = TypeShape(Kind.ARRAY, "_float4", element=scalar("float4"))
    columns = (Column("id", scalar("int4")), Column("v", vector))
    one = generation(
        name, columns=columns, mappings={"v": {"type": "dense_vector", "dims": 3}}
    )
    assert await sink.examine(one.target, OWNER) == []
    await sink.prepare(one, OWNER)
    sent = Operation("1", ("1",), version(10), b'{"id":1,"v":[0.10,2,3.50]}')
    assert (await sink.write(one, [sent])).kept == 1
    assert (await sink.read(one, [("1",)]))["1"].document == sent.document
    async for page in sink.scan(one, documents=True):
        assert page[0].document == sent.document
