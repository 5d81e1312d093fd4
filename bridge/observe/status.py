"""The status document: what the daemon knows of itself, put together when asked.

The one thing to know: nothing is asked of a server here. What has to be looked up
(retained log, counts of documents) is refreshed beside it every few seconds. And the
ledger knows only of what is fed: of anything else it would tell the end of the stream.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.assembly import Assembly
from bridge.backfill.life import Life
from bridge.control.letters import generation_key
from bridge.lanes import LaneState
from bridge.observe.http import Readiness
from bridge.position import Position
from bridge.sink import Generation
from bridge.store.rows import GenerationKey, moving


class Heard(Protocol):
    """What tells when the server was last heard."""

    @property
    def heard_s(self) -> float:
        """By `time.monotonic`; 0: never."""


@dataclass(slots=True)
class SourceStatus:
    """What is known of the stream; also while there is none."""

    state: str = "starting"
    reason: str = ""
    retained_bytes: int = 0
    server_lsn: int = 0
    """End of the log, as the server was last asked."""
    capture: Heard | None = None
    """The stream, which knows when the server was last heard."""
    refused: str = ""
    """Why the edited configuration was not taken up; empty: it was."""

    def document(self) -> dict[str, Any]:
        """The document of a daemon that serves nothing yet."""
        return {"source": self.source(None), "sinks": [], "targets": []}

    def source(self, position: Position | None, lag_bytes: int = 0) -> dict[str, Any]:
        """The part about the source."""
        return {
            "state": self.state,
            "reason": self.reason,
            "position": None if position is None else str(position),
            "lag_bytes": lag_bytes,
            "retained_bytes": self.retained_bytes,
            "configuration_refused": self.refused or None,
        }


class Status:
    """The status of one life of the daemon."""

    def __init__(
        self,
        assembly: Assembly,
        life: Life,
        known: SourceStatus,
        since: Mapping[GenerationKey, datetime],
    ) -> None:
        """`since`: `Positions.since` as this life began, for what it does not feed."""
        self._assembly = assembly
        self._life = life
        self._known = known
        self._since = since

    def document(self) -> dict[str, Any]:
        """In the form of `pgbridge status --json`."""
        pipeline = self._assembly.pipeline
        end = pipeline.ledger.end
        return {
            "source": self._known.source(
                Position(pipeline.epoch, end), max(0, self._known.server_lsn - end)
            ),
            "sinks": [self._sink(name) for name in self._assembly.lanes],
            "targets": [
                self._target(sink, name) for sink, name in self._assembly.targets
            ],
        }

    def ready(self, lag_s_max: float, silence_s_max: float) -> Readiness:
        """Whether the stream moves and every live target is close enough."""
        if not self._assembly.pipeline.streaming:
            reason = self._known.reason or "the stream is not open"
            return Readiness(ready=False, reason=reason)
        heard_s = self._known.capture.heard_s if self._known.capture else 0.0
        silence = time.monotonic() - heard_s
        if silence > silence_s_max:
            reason = f"the source has said nothing for {silence:.0f} s"
            return Readiness(ready=False, reason=reason)
        for lane in self._assembly.lanes.values():
            if lane.shown in (LaneState.DOWN, LaneState.PARKED):
                reason = f"sink {lane.name} is {lane.shown}: {lane.reason}"
                return Readiness(ready=False, reason=reason)
        for target in self.document()["targets"]:
            lane = self._assembly.lanes[target["sink"]]
            if lane.state is LaneState.PAUSED:
                continue
            name = f"{target['sink']}/{target['name']}"
            if target["state"] == "halted":
                reason = f"{name} is halted: {target['reason']}"
                return Readiness(ready=False, reason=reason)
            if target["state"] != "live":
                continue
            lag_s = target["lag_seconds"]
            if lag_s is None or lag_s > lag_s_max:
                behind = "nobody knows how far" if lag_s is None else f"{lag_s:.0f} s"
                return Readiness(ready=False, reason=f"{name} is {behind} behind")
        return Readiness(ready=True)

    def lag_s(self, generation: Generation, *, sweeps: bool = True) -> float:
        """Age of the oldest commit that the generation has not kept; 0 when level.

        `sweeps`: see `Ledger.oldest`.
        """
        ledger = self._assembly.pipeline.ledger
        since_s = ledger.behind_since_s(generation, sweeps=sweeps)
        return max(0.0, time.time() - since_s) if since_s else 0.0

    def _behind_s(self, generation: Generation, *, fed: bool) -> float | None:
        """The lag of what readers see; None: nobody knows since when it misses what."""
        if fed:
            return self.lag_s(generation)
        since = self._since.get(generation_key(generation))
        return None if since is None else max(0.0, time.time() - since.timestamp())

    def _sink(self, name: str) -> dict[str, Any]:
        lane = self._assembly.lanes[name]
        return {
            "name": name,
            "type": self._assembly.config.sinks[name].type,
            "state": lane.shown.value,
            "reason": lane.reason,
            "owed_keys": lane.owed + lane.recorded_debts,
            "waiting_bytes": lane.bytes,
            "in_flight": lane.in_flight,
        }

    def _target(self, sink: str, name: str) -> dict[str, Any]:
        life, target = self._life, self._assembly.targets[sink, name]
        live = life.live(sink, name)
        building = next(
            (g for g in life.building if g.target == target and g != live), None
        )
        shown = live or building
        halted = self._assembly.halted.get((sink, name), "")
        halted = halted or self._assembly.stale.get((sink, name), "")
        lane = self._assembly.lanes[sink]
        if not halted and lane.state is LaneState.HALTED:
            halted = lane.reason
        state = "halted" if halted else "live" if live else "building"
        feed = None if shown is None else lane.feeds.get(shown)
        ledger = self._assembly.pipeline.ledger
        applied = ledger.applied(shown) if shown and feed else 0
        position = Position(self._assembly.epoch, applied) if applied else None
        lag_s = None if shown is None else self._behind_s(shown, fed=feed is not None)
        previous = life.previous(sink, name)
        shown_target = {
            "view": target.view,
            "sink": sink,
            "name": name,
            "state": state,
            "reason": halted,
            "generation": live and live.number,
            "building": building and building.number,
            "previous": previous and previous.number,
            "documents": life.documents.get(shown, 0) if shown else 0,
            "position": position and str(position),
            "lag_bytes": max(0, self._known.server_lsn - applied) if applied else None,
            "lag_seconds": None if lag_s is None else round(lag_s, 3),
            "dead_letters": len(feed.dead) if feed else 0,
            "differences": life.differing.get(shown, 0) if shown else 0,
        }
        return shown_target | moving(life.under_way, shown_target)
