"""`pgbridge explain`: one document, from its tables to its targets.

The one thing to know: it looks at this moment, and needs no daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, ViewName, known_view, load
from bridge.cli.output import say, say_json


def explain(
    view: ViewName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As in `_id`.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show where a document comes from, and its version in every target."""
    import asyncio

    from bridge.control.explain import explain as look

    loaded = load(config)
    known_view(loaded, view)
    found = asyncio.run(look(loaded, view, key))
    if as_json:
        say_json(found)
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    say(f"{found['view']} {found['key']}")
    for table in found["tables"]:
        alias = table["occurrence"]
        name = table["table"] + ("" if table["table"].endswith(alias) else f" {alias}")
        say(f"  from    {name}, found by {', '.join(table['found_by'])}")
    source = found["source"]
    say(f"  source  at {source['position']}")
    say(f"          {source['document'] or source['failure'] or 'no such document'}")
    for target in found["targets"]:
        different = "differs" if target["version"] else "not there"
        same = {True: "the same", False: different, None: target["reason"]}
        version = target["version"]
        at = f"version {version}" if version else "no document"
        if target.get("position"):
            at += f" ({target['position']})"
        say(
            f"  target  {target['sink']}/{target['name']} g{target['generation']} "
            f"({target['state']}): {at}, {same[target['same']]}"
        )
    for letter in found["dead_letters"]:
        say(
            f"  dead    {letter['target']}: {letter['reason']} ({letter['stage']}, "
            f"{letter['attempts']} attempts since {letter['first_seen']})"
        )
