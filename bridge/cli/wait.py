"""`pgbridge wait`: until a position of the log is in the targets.

The one thing to know: without `--lsn` a message is put into the log and waited for, so
that an idle source cannot stall it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import ConfigFile, duration, known_view, load
from bridge.cli.output import say
from bridge.errors import BridgeError, Exit, Refusal

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.control.session import Session
    from bridge.sink import Sink

_LOOK_S = 0.2


def wait(
    config: ConfigFile = None,
    lsn: Annotated[
        str | None,
        typer.Option(metavar="LSN", help="Such as 16/B3748; default: now."),
    ] = None,
    view: Annotated[
        str | None, typer.Option(metavar="VIEW", help="Default: every view.")
    ] = None,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Exit 3 after this long.")
    ] = "60s",
    searchable: Annotated[
        bool, typer.Option("--searchable", help="And until searches find it.")
    ] = False,
) -> None:
    """Return when everything up to a position is in the targets."""
    from bridge.position import Position, format_lsn, parse_lsn

    loaded = load(config)
    views = _fed(loaded, view)
    patience_s = duration(timeout, "--timeout")
    wanted = epoch = None
    if lsn is not None:
        try:
            if ":" in lsn:
                epoch, wanted = Position.parse(lsn)
            else:
                wanted = parse_lsn(lsn)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    reached, late = asyncio.run(
        _wait(loaded, views, wanted, patience_s, epoch=epoch, searchable=searchable)
    )
    at = format_lsn(reached)
    if late:
        from bridge.cli import failures

        failures.tell(
            BridgeError(
                f"{at} is not in {', '.join(late)} after {timeout}",
                hint="`pgbridge status` tells what holds them up",
            )
        )
        raise typer.Exit(Exit.TIMED_OUT)
    say(f"everything up to {at} is {'searchable' if searchable else 'kept'}")


def _fed(config: Config, view: str | None) -> list[str]:
    """The views to wait for: the one that was named, or all with a target. Refusal."""
    if view is None:
        return [name for name, each in config.views.items() if each.targets]
    if not config.views[known_view(config, view)].targets:
        raise Refusal(
            f"view {view} has no targets: there is nothing to wait for",
            hint="leave --view out to wait for all the others",
        )
    return [view]


async def _wait(
    config: Config,
    views: Sequence[str],
    wanted: int | None,
    patience_s: float,
    *,
    epoch: int | None,
    searchable: bool,
) -> tuple[int, list[str]]:
    """The position waited for, and the targets that have not reached it."""
    from bridge.cli.issue import is_running
    from bridge.control.session import session
    from bridge.position import format_lsn
    from bridge.store import Store

    deadline = time.monotonic() + patience_s
    async with await Store.open(config.source.dsn) as store:
        await is_running(store)
        source = await store.read_source()
    if epoch is not None and source is not None and source.epoch != epoch:
        raise Refusal(
            f"that position is of epoch {epoch}, and the source's history is in "
            f"{source.epoch}",
            hint="leave --lsn out to wait for all that is committed now",
        )
    async with session(config.source.dsn, read_only=False) as connection:
        if wanted is None:
            wanted = await _mark(connection)
        while new := await _not_taken_up(connection, config, views):
            if time.monotonic() >= deadline:
                return wanted, new
            await asyncio.sleep(_LOOK_S)
        for view in views:
            left_s = max(0.0, deadline - time.monotonic())
            cursor = await connection.execute(
                "select bridge.wait_for(%s::pg_lsn, %s, %s * interval '1 s') as ok",
                [format_lsn(wanted), view, left_s],
            )
            row = await cursor.fetchone()
            if not row or not row["ok"]:
                return wanted, await _late(connection, views, wanted)
        # Whatever they were last told, nothing arrives in these now.
        while held := await _held_back(connection, views):
            if time.monotonic() >= deadline:
                return wanted, held
            await asyncio.sleep(_LOOK_S)
    return wanted, await _searchable(config, views, deadline) if searchable else []


async def _not_taken_up(
    connection: Session, config: Config, views: Sequence[str]
) -> list[str]:
    """The targets of these views that the source's own tables do not have yet."""
    cursor = await connection.execute(
        "select t.view, t.sink, t.name from bridge.target t where t.wanted"
    )
    known = {(row["view"], row["sink"], row["name"]) for row in await cursor.fetchall()}
    return [
        f"{target} (not taken up yet)"
        for view in views
        for target in config.views[view].targets
        if (target.view, target.sink, target.name) not in known
    ]


async def _mark(connection: Session) -> int:
    """Put a message into the log: where it stands. All that was committed before is
    below, and what others write after it is not waited for."""
    from bridge.position import parse_lsn

    cursor = await connection.execute(
        "select pg_logical_emit_message(true, 'pgbridge', 'wait')::text as lsn"
    )
    row = await cursor.fetchone()
    assert row is not None
    return parse_lsn(row["lsn"])


async def _late(connection: Session, views: Sequence[str], wanted: int) -> list[str]:
    from bridge.control.status import targets
    from bridge.position import Position

    late = []
    for target in await targets(connection):
        at = target["position"]
        reached = at is not None and Position.parse(at).lsn >= wanted
        if target["view"] not in views or (reached and target["state"] == "live"):
            continue
        why = target["reason"] or target["state"]
        late.append(
            f"{target['sink']}/{target['name']}"
            + ("" if why == "live" else f" ({why})")
        )
    # A sink that stands aside may have been told as level since, with nothing to write.
    return late or await _held_back(connection, views) or list(views)


async def _held_back(connection: Session, views: Sequence[str]) -> list[str]:
    """The targets whose sinks are paused or parked, each with which it is."""
    cursor = await connection.execute(
        """
        select s.sink, s.name, case when k.paused then 'paused' else k.state end as why
        from bridge.status() s join bridge.sink k on k.name = s.sink
        where s.view = any(%s) and (k.paused or k.state = 'parked')
        """,
        [list(views)],
    )
    return [
        f"{row['sink']}/{row['name']} ({row['why']})" for row in await cursor.fetchall()
    ]


async def _searchable(
    config: Config, views: Sequence[str], deadline: float
) -> list[str]:
    """Make what is kept visible to searches; those in which it is not by the deadline,
    each with why."""
    from bridge.control.planning import open_sinks

    async with open_sinks(config) as sinks:
        while unseen := await _refresh(config, sinks, views, deadline):
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(_LOOK_S)
    return unseen


async def _refresh(
    config: Config, sinks: Mapping[str, Sink], views: Sequence[str], deadline: float
) -> list[str]:
    """Refresh the live generations; those that could not be, each with why."""
    from bridge.control.remove import former_target
    from bridge.control.survey import remember
    from bridge.errors import Transient
    from bridge.sink import Generation
    from bridge.store.rows import GenerationState

    unseen = []
    for key, row in (await remember(config)).generations.items():
        shown = row.state is GenerationState.LIVE and row.view in views
        if key.sink not in sinks or not shown:
            continue
        generation = Generation(former_target(row.view, key), key.number)
        try:
            async with asyncio.timeout(max(_LOOK_S, deadline - time.monotonic())):
                await sinks[key.sink].refresh(generation)
        except (Transient, TimeoutError) as problem:
            why = str(problem) or "it does not answer"
            unseen.append(f"{key.sink}/{key.name} ({why})")
    return unseen
