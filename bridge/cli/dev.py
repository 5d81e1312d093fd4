"""`pgbridge dev`: local servers for trying things out.

The one thing to know: what it starts runs on until `dev down`, and is found again by
the state file in its directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.words import plural
from bridge.dev import detached

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Local servers, without containers.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: [bold]pgbridge dev up[/bold]",
)

Directory = Annotated[
    Path, typer.Option("--directory", "-d", help="Where it is noted what runs.")
]
DEFAULT = Path(".pgbridge-dev")
Config = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration that names them; default pgbridge.toml in there.",
        show_default=False,
    ),
]


@app.command(
    epilog="Example: [bold]pgbridge dev up && "
    "pgbridge check -c .pgbridge-dev/pgbridge.toml[/bold]"
)
def up(directory: Directory = DEFAULT, config: Config = None) -> None:
    """Start Postgres, Elasticsearch and Valkey, and print where they listen.

    Whatever runs already is left alone. The first time downloads Elasticsearch.
    """
    addresses = detached.up(directory, config)
    typer.echo(f"postgres       {addresses.postgres}")
    typer.echo(f"elasticsearch  {addresses.elasticsearch}")
    typer.echo(f"redis          {addresses.redis}")
    typer.echo(
        f"{config or directory / detached.CONFIG_FILE} names them; "
        "`pgbridge dev down` stops them and removes their data.",
        err=True,
    )


@app.command(epilog="Example: [bold]pgbridge dev down --keep[/bold]")
def down(
    directory: Directory = DEFAULT,
    config: Config = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data for the next `up`.")
    ] = False,
) -> None:
    """Stop what `dev up` started, and remove its data."""
    stopped = detached.down(directory, config, keep=keep)
    what = f"{plural(stopped, 'server')} stopped" if stopped else "nothing was running"
    typer.echo(f"{what}, {'data kept' if keep else 'no data left'}.")
