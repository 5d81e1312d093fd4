"""`pgbridge explain`: a document from its rows to its targets, or how a view is kept.

The one thing to know: it looks at this moment, and needs no daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bridge.cli.options import AsJson, ConfigFile, ViewName, known_view, load
from bridge.cli.output import say, say_json

_ROWS_SHOWN = 10


def explain(
    view: ViewName,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY", help="As in `_id`; without it, how the view is kept."
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the rows of a document and its version in every target.

    Without KEY: the view's tables, the key queries with Postgres' plans of them, and
    the replica identity that each table needs.
    """
    import asyncio

    from bridge.control.explain import explain as look
    from bridge.control.explain_view import explain_view

    loaded = load(config)
    known_view(loaded, view)
    if key is None:
        found = asyncio.run(explain_view(loaded, view))
    else:
        found = asyncio.run(look(loaded, view, key))
    if as_json:
        say_json(found)
    elif key is None:
        _print_view(found)
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    say(f"{found['view']} {found['key']}")
    for table in found["tables"]:
        rows = [":".join(row) for row in table["rows"]]
        listed = ", ".join(rows[:_ROWS_SHOWN]) or table["reason"] or "no row"
        if len(rows) > _ROWS_SHOWN:
            count = f"{len(rows) - _ROWS_SHOWN:,}"
            listed += f" and {'over ' if table['more'] else ''}{count} more"
        by = ", ".join(table["key"])
        say(f"  from    {_aliased(table)}, by {by}: {listed}")
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


def _aliased(table: Mapping[str, Any]) -> str:
    name, alias = table["table"], table["occurrence"]
    return str(name) if name.endswith(f".{alias}") else f"{name} {alias}"


def _print_view(found: Mapping[str, Any]) -> None:
    say(f"{found['view']}, a document for each {', '.join(found['key'])}")
    if found["from_the_log"]:
        say("  documents are made of the rows in the log, without asking Postgres")
    for table in found["tables"]:
        say(f"\ntable {table['table']}")
        say(f"  reads       {', '.join(table['columns'])}")
        if table["identity"]:
            say(f"  old values  {', '.join(table['identity'])}, out of the log")
        for lack in table["lacks"]:
            say(f"  error       {lack['what']}")
            _print_fix(lack["fix"])
    for query in found["key_queries"]:
        by = ", ".join(query["columns"])
        say(f"\nchange of {_aliased(query)}, known by {by}")
        if query["sql"] is None:
            say("  these columns are the key: nothing is looked for")
        else:
            _print_statement(query)
    say("\ndocuments of keys")
    _print_statement(found["documents"])


def _print_statement(statement: Mapping[str, Any]) -> None:
    for line in statement["sql"].splitlines():
        say(f"    {line}")
    if statement["plan"]:
        say("  plan, sequential scans discouraged")
    for line in statement["plan"]:
        say(f"    {line}")
    if statement["indexes"]:
        say(f"  indexes     {', '.join(statement['indexes'])}")
    for scan in statement["scans"]:
        columns = ", ".join(scan["columns"])
        say(f"  no index    {scan['table']} is read whole for {columns}")
        _print_fix(scan["fix"])


def _print_fix(fix: str) -> None:
    for part in fix.split("; "):
        say(f"                {part.rstrip(';')};")
