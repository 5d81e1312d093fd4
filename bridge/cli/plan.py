"""`pgbridge plan` and `pgbridge apply`: what there is to do, and doing it.

The one thing to know: both begin with the same survey; `plan` ends with 2 when there
is something to do, so that a pipeline can ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli import failures
from bridge.cli.options import AsJson, ConfigFile, load
from bridge.cli.output import console, note, say, say_json

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.control.reconcile import Step
    from bridge.control.survey import Survey
    from bridge.errors import BridgeError

_SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "rebuild": ("~", "yellow"),
    "keep": ("=", "dim"),
    "drop": ("-", "red"),
}
_VERBS = {
    "create": ("to create", "to build"),
    "update": ("to change", "to change"),
    "rebuild": ("to make anew", "to rebuild"),
    "drop": ("to drop", "to stop"),
    "keep": ("unchanged", "unchanged"),
}
"""What is said of a number of steps: of the source, of targets."""
_LEFT_OVER = "to prune"


def plan(
    config: ConfigFile = None,
    as_json: AsJson = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Also print the statements, view by view.")
    ] = False,
) -> None:
    """Show what `run` or `apply` would do, and why; changes nothing.

    Exit 2 when there is something to do.
    """
    import asyncio

    steps, statements, lacking = asyncio.run(_plan(load(config), sql=sql))
    if as_json:
        shown = {"sql": statements} if sql else {}
        say_json({"steps": [_as_json(step) for step in steps], **shown})
    else:
        _print(steps)
        say(f"{_summary(steps)}     (nothing was changed)")
        for statement in statements:
            say(statement)
    for halt in lacking:
        failures.tell(halt)
    if lacking or any(step.does_something for step in steps):
        raise typer.Exit(2)


async def _plan(
    config: Config, *, sql: bool
) -> tuple[Sequence[Step], list[str], list[BridgeError]]:
    from bridge.control import fitness
    from bridge.control.survey import examine, survey

    async with survey(config, count=True) as looked:
        await fitness.require(looked, admin=True)
        await examine(looked)
        statements = list(_statements(looked)) if sql else []
        return looked.steps, statements, list(looked.lacking.values())


def _statements(looked: Survey) -> Sequence[str]:
    lines = [
        f"-- publication: {change.why}\n{change};"
        for change in looked.publication_changes
    ]
    for name, view in looked.planned.plans.items():
        lines.append(f"-- view {name}: a range of keys, to build\n{view.scan_sql};")
        lines.append(
            f"-- view {name}: the documents of some keys\n{view.documents_sql};"
        )
        for query in view.key_queries:
            what = f"-- view {name}: keys of changed rows of {query.occurrence}"
            key = ", ".join(query.columns)
            lines.append(f"{what}\n{query.sql or f'-- the columns {key} are the key'};")
    return lines


def apply(
    config: ConfigFile = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop what is no longer in the file.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Go on with a database that is not the one the sinks have followed.",
        ),
    ] = False,
) -> None:
    """Make schema, publication, slot and empty generations, and stop.

    `run` fills and promotes them; until it does, the slot holds log back.
    """
    import asyncio

    asyncio.run(_apply(load(config), prune=prune, take_over=take_over))


async def _apply(config: Config, *, prune: bool, take_over: bool) -> None:
    from bridge.control import apply as applying
    from bridge.control import installing
    from bridge.control.survey import examine, survey

    permission = installing.Permission(
        admin=True, prune=prune, rebuild_lost=True, take_over=take_over
    )
    if prune:
        async with survey(config) as looked:
            await applying.prune_first(looked, permission, say)
    async with survey(config) as looked:
        await examine(looked)
        daemon = looked.remembered.daemon
        if daemon is None or not daemon.alive:
            await applying.apply(looked, permission, say)
            say(
                "everything is as the file says; no daemon runs, and until "
                "`pgbridge run` does, the slot holds log back"
            )
            return
        for halt in looked.lacking.values():
            raise halt
        # What runs takes up the rest by itself, in order with the data.
        await installing.install_schema(looked, permission, say)
        await installing.install_notices(looked, permission, say)
        await installing.publish_tables(looked, permission, {}, say)
        note(
            f"the daemon on {daemon.host} (pid {daemon.pid}) takes up the file by "
            "itself; `pgbridge status` shows how far it is"
        )


def _print(steps: Sequence[Step]) -> None:
    from rich.text import Text

    out = console()
    width = max(len(step.name) for step in steps)
    for step in steps:
        sign, style = _SIGNS["drop" if step.left_over else step.action.value]
        out.print(
            Text(
                f"  {sign} {step.kind.value:<11} {step.name:<{width}}  {step.why}",
                style,
            )
        )


def _summary(steps: Sequence[Step]) -> str:
    counts = Counter(
        _LEFT_OVER
        if step.left_over
        else _VERBS[step.action.value][step.kind.value == "target"]
        for step in steps
    )
    verbs = dict.fromkeys(verb for both in _VERBS.values() for verb in both)
    verbs[_LEFT_OVER] = None
    return ", ".join(f"{counts[verb]} {verb}" for verb in verbs if counts[verb])


def _as_json(step: Step) -> dict[str, str]:
    return {
        "action": step.action.value,
        "kind": step.kind.value,
        "name": step.name,
        "why": step.why,
    }
