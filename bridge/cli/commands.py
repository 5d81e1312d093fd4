"""The table of commands: their names, order and groups, as `--help` shows them.

The one thing to know: each command is a function of its own module, whose docstring is
its help and whose epilog is an example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

START, LOOK, CHANGE, TRY = (
    "Start here",
    "Look",
    "Change what runs",
    "Try it without servers of your own",
)

app = typer.Typer(
    name="pgbridge",
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "First: [bold]pgbridge init --dsn postgresql://…[/bold], then "
        "[bold]check[/bold], [bold]plan[/bold], [bold]run[/bold].  "
        "Or [bold]pgbridge demo[/bold] to see it move."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"pgbridge {version('pgbridge')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")
    ] = False,
) -> None:
    """Keeps Elasticsearch indexes and Redis caches exact copies of what Postgres
    says, from its replication log."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(
    name: str, function: Callable[..., Any], panel: str, example: str, **more: Any
) -> None:
    app.command(
        name,
        rich_help_panel=panel,
        epilog=f"Example: [bold]{escape(example)}[/bold]",
        **more,
    )(function)


def _dev(context: typer.Context) -> None:
    """Start (`dev up`) and stop (`dev down`) local Postgres, Valkey, Elasticsearch."""
    # Its modules know a lot of servers: loaded only when asked for.
    from bridge.cli import dev

    dev.app(args=context.args, prog_name="pgbridge dev", standalone_mode=False)


def _register() -> None:
    from bridge.cli import dead_letters
    from bridge.cli.backfill import backfill
    from bridge.cli.check import check
    from bridge.cli.demo import demo
    from bridge.cli.drop import drop
    from bridge.cli.explain import explain
    from bridge.cli.init import init
    from bridge.cli.plan import apply, plan
    from bridge.cli.preview import preview
    from bridge.cli.run import run
    from bridge.cli.status import status
    from bridge.cli.switch import pause, promote, resume, rollback
    from bridge.cli.verify import verify
    from bridge.cli.wait import wait

    _add("init", init, START, "pgbridge init --dsn postgresql://me@localhost/shop")
    _add("check", check, START, "pgbridge check --json | jq '.[] | select(.fix)'")
    _add("plan", plan, START, "pgbridge plan --json")
    _add("run", run, START, "pgbridge run --once")
    _add("status", status, LOOK, "pgbridge status --watch")
    _add("preview", preview, LOOK, "pgbridge preview product --key 42")
    _add("explain", explain, LOOK, "pgbridge explain product 42")
    _add("verify", verify, LOOK, "pgbridge verify product --sample 10000")
    _add("wait", wait, LOOK, "pgbridge wait --view product --timeout 5s --searchable")
    app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=LOOK)
    _add("apply", apply, CHANGE, "pgbridge apply --prune")
    _add("backfill", backfill, CHANGE, "pgbridge backfill product --keys 1 2 3")
    _add("promote", promote, CHANGE, "pgbridge promote product")
    _add("rollback", rollback, CHANGE, "pgbridge rollback product --target search")
    _add("pause", pause, CHANGE, "pgbridge pause search")
    _add("resume", resume, CHANGE, "pgbridge resume search")
    _add("drop", drop, CHANGE, "pgbridge drop --targets --yes")
    app.command(
        "dev",
        rich_help_panel=TRY,
        add_help_option=False,
        context_settings={
            "ignore_unknown_options": True,
            "allow_extra_args": True,
            "help_option_names": [],
        },
    )(_dev)
    _add("demo", demo, TRY, "pgbridge demo")


_register()
