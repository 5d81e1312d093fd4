"""Where one document comes from, row by row, and where it has got to.

The one thing to know: everything is asked at this moment, the rows and the document in
one snapshot; a target whose version is lower than another's is only not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from bridge.config import Config
from bridge.control.planning import open_sinks, plan_one, sink_target
from bridge.control.session import session
from bridge.control.survey import Remembered, remember
from bridge.derive.lineage import RowSource, lineage
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, Refusal
from bridge.keys import Parts, key_text
from bridge.position import Position, format_lsn
from bridge.sink import Generation, Sink, Target
from bridge.source import Failure, QueryFailed, Row, SnapshotReader
from bridge.source.given import given_keys
from bridge.source.postgres import PostgresSource, connect, identify
from bridge.source.reader import PostgresReader
from bridge.store import Store
from bridge.store.rows import GenerationRow, GenerationState

ROWS_MAX = 1000
"""Of one table: what a person or a script looks through."""
_FORMER = "it is of an earlier definition than the file's"


class _Found(NamedTuple):
    """What the source says of one key, in one snapshot."""

    tables: list[dict[str, Any]]
    document: bytes | None
    failure: str
    lsn: int
    parts: Parts


async def explain(config: Config, view: str, text: str) -> dict[str, Any]:
    """The tables behind a document, the document, each target's version of it, and
    its dead letters. Refusal for a key that is none, Transient, Halt."""
    async with session(config.source.dsn) as connection:
        planned, catalog = await plan_one(connection, config, view)
    plan = planned.plan
    remembered = await remember(config)
    found = await _look(config, plan, text, lineage(planned, catalog))
    epoch = remembered.source.epoch if remembered.source else None
    only = replace(config, views={view: config.views[view]})
    return {
        "view": view,
        "key": text,
        "tables": found.tables,
        "source": {
            "position": str(Position(epoch, found.lsn))
            if epoch
            else format_lsn(found.lsn),
            "version": str(Position(epoch, found.lsn).version) if epoch else None,
            "document": None if found.document is None else found.document.decode(),
            "failure": found.failure,
        },
        "targets": await _targets(
            only, plan, found.parts, text, found.document, remembered
        ),
        "dead_letters": await _letters(config, view, text, remembered),
    }


async def keys_of(
    reader: SnapshotReader, plan: ViewPlan, texts: Sequence[str]
) -> dict[str, Parts]:
    """The keys that are written so on the command line. Refusal."""
    hint = f"the key of view {plan.name} is {', '.join(plan.shape.key)}"
    try:
        found = await given_keys(reader, plan, texts)
    except ValueError as error:
        raise Refusal(str(error), hint=hint) from None
    known = {text: parts for text, parts in found.items() if parts is not None}
    if lacking := found.keys() - known.keys():
        raise BridgeError(
            f"no key of view {plan.name} has the digest {min(lacking)}", hint=hint
        )
    return known


async def documents_of(
    reader: SnapshotReader, plan: ViewPlan, keys: Mapping[str, Parts]
) -> tuple[Sequence[Row], Sequence[Failure]]:
    """The documents of the keys that were written so. Refusal for a text that is no
    key of the view, or another text of one."""
    texts = {parts: text for text, parts in keys.items()}
    hint = f"the key of view {plan.name} is {', '.join(plan.shape.key)}"
    for parts in await reader.unfit(plan.cast_sql, texts.keys()):
        raise Refusal(
            f"the key {texts[parts]!r} does not fit the types of its columns", hint=hint
        )
    rows, failures = await reader.documents(plan, list(texts), careful=True)
    found = {row.parts for row in rows}
    if others := found - texts.keys():
        lacking = " or ".join(repr(texts[parts]) for parts in texts.keys() - found)
        written = " or ".join(repr(key_text(parts)) for parts in others)
        raise Refusal(f"the key {lacking} is written {written} in `_id`", hint=hint)
    return rows, failures


async def _look(
    config: Config, plan: ViewPlan, text: str, sources: list[RowSource]
) -> _Found:
    looking = await connect(config.source.dsn)
    async with looking:
        identity = await identify(looking)
    source = PostgresSource(
        config.source.dsn, config.source.search_path, identity, readers=1
    )
    try:
        async with source.read() as reader:
            (parts,) = (await keys_of(reader, plan, [text])).values()
            rows, failures = await documents_of(reader, plan, {text: parts})
            tables = [await _rows(reader, each, parts) for each in sources]
            lsn = reader.insert_lsn
    finally:
        await source.close()
    reason = failures[0].reason if failures else ""
    if len(rows) > 1:
        reason = "the key is not unique"
    document = rows[0].document if len(rows) == 1 else None
    return _Found(tables, document, reason, lsn, parts)


async def _rows(
    reader: PostgresReader, source: RowSource, parts: Parts
) -> dict[str, Any]:
    """The rows of one table that the document is made of, by their keys."""
    found: list[tuple[str, ...]] = []
    reason = ""
    if None in parts:
        reason = "the group without a key is made of rows that lead nowhere else"
    else:
        try:
            found = await reader.rows(source.sql, [*parts, ROWS_MAX + 1])
        except QueryFailed:
            raise Refusal(
                "the key does not fit the types of its columns",
                hint="write it as it stands in `_id`",
            ) from None
    return {
        "table": source.table,
        "occurrence": source.occurrence,
        "key": list(source.columns),
        "rows": [list(row) for row in found[:ROWS_MAX]],
        "more": len(found) > ROWS_MAX,
        "reason": reason,
    }


async def _targets(
    config: Config,
    plan: ViewPlan,
    parts: Parts,
    text: str,
    document: bytes | None,
    remembered: Remembered,
) -> list[dict[str, Any]]:
    found = []
    async with open_sinks(config) as sinks:
        for target in config.targets():
            built = remembered.of(target.sink, target.name)
            for state in (GenerationState.LIVE, GenerationState.BUILDING):
                if state in built:
                    row = built[state]
                    made = _made(sink_target(target, plan), row)
                    stored = await _stored(
                        sinks[target.sink], made, parts, text, document
                    )
                    if row.view_fingerprint not in ("", plan.fingerprint):
                        stored |= {"same": None, "reason": _FORMER}
                    found.append(
                        {"sink": target.sink, "name": target.name}
                        | {"generation": made.number, "state": state.value}
                        | stored
                    )
    return found


def _made(target: Target, row: GenerationRow) -> Generation:
    """A generation, where it was built to be: the file may say otherwise by now."""
    options = row.definition.get("options", target.options)
    return Generation(replace(target, options=options), row.key.number)


async def _stored(
    sink: Sink, generation: Generation, parts: Parts, text: str, document: bytes | None
) -> dict[str, Any]:
    if generation.target.options.get("encoding") == "none":
        reason = "the key is deleted at each change and never written"
        return {"version": None, "same": None, "reason": reason}
    try:
        stored = (await sink.read(generation, [parts])).get(text)
    except BridgeError as error:
        return {"version": None, "same": None, "reason": error.message}
    if stored is None or stored.document is None:
        version = str(stored.version) if stored else None
        return {"version": version, "same": document is None, "reason": ""}
    same = document is not None and sink.same(
        generation.target, document, stored.document
    )
    return {
        "version": str(stored.version),
        "position": str(Position.of_version(stored.version)),
        "same": same,
        "reason": "",
    }


async def _letters(
    config: Config, view: str, text: str, remembered: Remembered
) -> list[dict[str, Any]]:
    if remembered.schema_version is None:
        return []
    async with await Store.open(config.source.dsn) as store:
        return [
            {
                "target": str(letter.generation),
                "stage": letter.stage.value,
                "reason": letter.reason,
                "version": str(letter.version),
                "first_seen": letter.first_seen.isoformat(),
                "attempts": letter.attempts,
            }
            for letter in await store.letters.list(view, [text])
        ]
