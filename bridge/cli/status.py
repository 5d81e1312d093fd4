"""`pgbridge status`: every sink and target at a glance.

The one thing to know: it reads the source's own tables, and so tells as much when the
daemon is not there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, load
from bridge.cli.output import console, say, say_json, say_table
from bridge.cli.words import count, duration, share, size

if TYPE_CHECKING:
    from bridge.config import Config

_WATCH_S = 1.0
_HEADINGS = ("SINK", "STATE", "TARGET", "GEN", "DOCUMENTS", "LAG", "DEAD", "NOTE")
_BY_HAND = ("paused", "halted")
"""What a sink comes out of only when somebody has it so."""
_GAP = 2
"""Between two columns of the table."""
_STYLES = {"halted": "bold red", "down": "red", "parked": "yellow", "paused": "yellow"}


def status(
    config: ConfigFile = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second.")
    ] = False,
) -> None:
    """Show state, generation, documents and lag of every target."""
    loaded = load(config)
    while True:
        found = _look(loaded)
        if watch and not as_json:
            console().clear()
        if as_json:
            say_json(found)
        else:
            _print(found)
        if not watch:
            return
        time.sleep(_WATCH_S)


def _look(config: Config) -> dict[str, Any]:
    import asyncio

    from bridge.control.status import status as look

    return asyncio.run(look(config))


def _print(found: Mapping[str, Any]) -> None:
    say(f"source  {_source(found)}")
    if refused := found["source"].get("configuration_refused"):
        say(f"the edited file is refused, the one before holds: {refused}")
    if not found["targets"]:
        say("no targets yet: `pgbridge run` makes those of the file")
        return
    sinks = {sink["name"]: sink for sink in found["sinks"]}
    rows, styles, shown = [], [], set()
    for target in sorted(found["targets"], key=lambda t: (t["sink"], t["name"])):
        sink = sinks.get(target["sink"], {"state": "", "reason": "", "owed_keys": 0})
        first = target["sink"] not in shown
        shown.add(target["sink"])
        generation = target["generation"] or target["building"]
        rows.append(
            (
                target["sink"] if first else "",
                sink["state"] if first else "",
                target["name"],
                f"g{generation}" if generation else "-",
                count(target["documents"] or 0),
                _lag(target),
                count(target["dead_letters"] or 0),
                _note(target, sink, first=first),
            )
        )
        styles.append(_STYLES.get(target["state"]) or _STYLES.get(sink["state"], ""))
    shortened, below = _beside(rows, console().width)
    say_table(
        _HEADINGS,
        shortened,
        right=(4, 5, 6),
        styles=styles,
    )
    for name in sinks.keys() - shown:
        if sinks[name]["state"] != "ok":
            say(
                f"sink {name} is {sinks[name]['state']}; no target of the file is in it"
            )
    for command in reversed(found["commands"]):
        if command["state"] in ("pending", "running"):
            what = f"{command['kind']}, by {command['by']}"
            why = f": {command['message']}" if command["message"] else ""
            say(f"command {command['id']} ({what}) is {command['state']}{why}")
    for line in below:
        say(line)
    troubled = sum(sink["state"] != "ok" for sink in sinks.values())
    halted = sum(_halted(each, sinks.get(each["sink"])) for each in found["targets"])
    for number, of, what in (
        (troubled, len(sinks), "sinks"),
        (halted, len(rows), "targets"),
    ):
        if number:
            verb = "needs" if number == 1 else "need"
            say(f"{number} of {of} {what} {verb} attention")


def _beside(
    rows: Sequence[tuple[str, ...]], width: int
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The rows without the notes for which a terminal of that width has no room, and
    these as lines of their own, to stand below."""
    *columns, notes = zip(_HEADINGS, *rows, strict=True)
    room = width - sum(max(map(len, column)) + _GAP for column in columns)
    if max(map(len, notes)) <= room:
        return list(rows), []
    below = [f"{row[2]}: {row[-1]}" for row in rows if len(row[-1]) > room]
    kept = [(*row[:-1], row[-1] if len(row[-1]) <= room else "below") for row in rows]
    return kept, below


def _halted(target: Mapping[str, Any], sink: Mapping[str, Any] | None) -> bool:
    """Whether the target itself has halted, not the sink that it is in."""
    return target["state"] == "halted" and (sink is None or sink["state"] != "halted")


def _source(found: Mapping[str, Any]) -> str:
    source = found["source"]
    parts = [source["state"] + (f" at {at}" if (at := source["position"]) else "")]
    if source["reason"]:
        parts.append(source["reason"])
    if source["state"] == "streaming":
        # What the log has beyond it may be the bridge's own: commits are what counts.
        lags = [target["lag_seconds"] or 0.0 for target in found["targets"]]
        behind = max(lags, default=0.0)
        parts.append(f"{duration(behind)} behind" if behind else "level")
    elif source["lag_bytes"] is not None:
        parts.append(f"{size(source['lag_bytes'])} behind")
    if source["retained_bytes"] is not None:
        held = f"log held back {size(source['retained_bytes'])}"
        if budget := source.get("wal_budget_bytes"):
            held += f" of {size(budget)}"
        parts.append(held)
    return ", ".join(parts)


def _lag(target: Mapping[str, Any]) -> str:
    seconds, lag_bytes = target["lag_seconds"], target["lag_bytes"]
    if seconds is None:
        return "-"
    return duration(seconds) + (f", {size(lag_bytes)}" if seconds and lag_bytes else "")


def _moving(target: Mapping[str, Any]) -> str:
    """`61 %, 9,800/s, 12 s left`."""
    parts = []
    if target["progress"] is not None:
        parts.append(share(target["progress"]))
    if rate := target.get("rate"):
        parts.append(f"{count(rate)}/s")
    if left_s := target.get("left_seconds"):
        parts.append(f"{duration(left_s)} left")
    return ", ".join(parts)


def _note(target: Mapping[str, Any], sink: Mapping[str, Any], *, first: bool) -> str:
    """What there is to say beside the figures; of the sink as a whole only once."""
    parts = []
    building = target["building"]
    if building or target["progress"] is not None:
        what = f"building g{building}" if building else "backfill"
        parts.append(f"{what}: {_moving(target)}".rstrip(": "))
    reason = target["reason"]
    if _halted(target, sink):
        parts.append(f"halted: {reason}")
    elif reason and (first or reason != (sink["reason"] or sink["state"])):
        parts.append(reason)
    if differing := target.get("differences"):
        parts.append(
            f"{count(differing)} differ from the source: "
            f"`pgbridge verify {target['view']} --repair`"
        )
    if first and sink["owed_keys"]:
        on = "" if sink["state"] in _BY_HAND else "; goes on by itself"
        parts.append(f"{count(sink['owed_keys'])} owed keys{on}")
    if previous := target["previous"]:
        newer = previous > (target["generation"] or previous)
        kept = f"g{previous} kept for rollback"
        parts.append(f"rolled back, g{previous} kept" if newer else kept)
    return "; ".join(parts)
