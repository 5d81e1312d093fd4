"""`pgbridge dev`: local servers for trying things out.

The one thing to know: what it starts runs on until `dev down`, and is found again by
the state file in its directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.dev import detached

app = typer.Typer(no_args_is_help=True, help="Local servers, without containers.")

Directory = Annotated[
    Path, typer.Option("--directory", "-d", help="Where it is noted what runs.")
]
DEFAULT = Path(".pgbridge-dev")


@app.command()
def up(directory: Directory = DEFAULT) -> None:
    """Start Postgres, Elasticsearch and Valkey, and print where they listen.

    Whatever runs already is left alone. The first time downloads Elasticsearch.

    Example: pgbridge dev up && pgbridge -c .pgbridge-dev/pgbridge.toml check
    """
    addresses = detached.up(directory)
    typer.echo(f"postgres       {addresses.postgres}")
    typer.echo(f"elasticsearch  {addresses.elasticsearch}")
    typer.echo(f"redis          {addresses.redis}")
    typer.echo(
        f"{directory / detached.CONFIG_FILE} names them; "
        "`pgbridge dev down` stops them and removes their data.",
        err=True,
    )


@app.command()
def down(
    directory: Directory = DEFAULT,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data for the next `up`.")
    ] = False,
) -> None:
    """Stop what `dev up` started, and remove its data.

    Example: pgbridge dev down --keep
    """
    stopped = detached.down(directory, keep=keep)
    what = "nothing was running" if not stopped else f"{stopped} servers stopped"
    typer.echo(f"{what}, {'data kept' if keep else 'no data left'}.")
