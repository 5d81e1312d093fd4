"""Where one document comes from, and where it has got to.

The one thing to know: everything is asked at this moment, the source in one snapshot;
a target whose version is lower than another's is only not there yet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge.config import Config
from bridge.control.planning import open_sinks, plan, sink_target
from bridge.control.session import session
from bridge.control.survey import Remembered, remember
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, Refusal
from bridge.keys import Parts, parse_key
from bridge.position import Position, format_lsn
from bridge.sink import Generation, Sink
from bridge.source.postgres import PostgresSource, connect, identify
from bridge.store import Store
from bridge.store.rows import GenerationState


async def explain(config: Config, view: str, text: str) -> dict[str, Any]:
    """The tables behind a document, the document, each target's version of it, and
    its dead letters. Refusal for a key that is none, Transient, Halt."""
    only = replace(config, views={view: config.views[view]})
    async with session(config.source.dsn) as connection:
        planned = (await plan(connection, only)).plans[view]
    parts = key_of(planned, text)
    remembered = await remember(config)
    document, lsn, failure = await _document(config, planned, parts)
    epoch = remembered.source.epoch if remembered.source else None
    return {
        "view": view,
        "key": text,
        "tables": [
            {
                "table": str(query.table),
                "occurrence": query.occurrence,
                "found_by": list(query.columns),
            }
            for query in planned.key_queries
        ],
        "source": {
            "position": str(Position(epoch, lsn)) if epoch else format_lsn(lsn),
            "document": None if document is None else document.decode(),
            "failure": failure,
        },
        "targets": await _targets(only, planned, parts, text, document, remembered),
        "dead_letters": await _letters(config, view, text, remembered),
    }


def key_of(plan: ViewPlan, text: str) -> Parts:
    """The parts of a key as it is written on the command line. Refusal."""
    try:
        return parse_key(text, len(plan.shape.key))
    except ValueError as error:
        raise Refusal(
            str(error),
            hint=f"the key of view {plan.name} is {', '.join(plan.shape.key)}",
        ) from None


async def _document(
    config: Config, plan: ViewPlan, parts: Parts
) -> tuple[bytes | None, int, str]:
    looking = await connect(config.source.dsn)
    async with looking:
        identity = await identify(looking)
    source = PostgresSource(
        config.source.dsn, config.source.search_path, identity, readers=1
    )
    try:
        async with source.read() as reader:
            rows, failures = await reader.documents(plan, [parts], careful=True)
            lsn = reader.insert_lsn
    finally:
        await source.close()
    reason = failures[0].reason if failures else ""
    if len(rows) > 1:
        reason = "the key is not unique"
    return (rows[0].document if len(rows) == 1 else None), lsn, reason


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
                    generation = Generation(
                        sink_target(target, plan), built[state].key.number
                    )
                    found.append(
                        {"sink": target.sink, "name": target.name}
                        | {"generation": generation.number, "state": state.value}
                        | await _stored(
                            sinks[target.sink], generation, parts, text, document
                        )
                    )
    return found


async def _stored(
    sink: Sink, generation: Generation, parts: Parts, text: str, document: bytes | None
) -> dict[str, Any]:
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
