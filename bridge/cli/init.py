"""`pgbridge init`: a commented configuration to begin with.

The one thing to know: it never writes over a file that is there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import ConfigFile
from bridge.cli.output import note, say

if TYPE_CHECKING:
    from bridge.control.proposals import Proposal

_DSN = "postgresql://bridge:${PGPASSWORD}@localhost/shop"
_EXAMPLE = '''
# A view is one SQL select; whatever row it reads changes, its documents follow.
# [views.product]
# query = """
#   select p.id, p.title, p.price, c.name as category
#     from product p join category c on c.id = p.category_id
# """
#
# [[views.product.targets]]
# sink = "search"                # an index behind the alias `product`
#
# [[views.product.targets]]
# sink = "cache"
# key = "product:{id}"           # a Redis key a row, its value the document
# ttl = "1h"
'''


def init(
    config: ConfigFile = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="Look at this database and propose views along its foreign keys. "
            "Without a password: libpq takes it from PGPASSWORD or ~/.pgpass.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a commented pgbridge.toml; with --dsn, with views of your database."""
    from bridge.config import config_path
    from bridge.errors import Refusal

    path = config_path(config)
    if os.path.lexists(path):
        raise Refusal(
            f"{path} exists already",
            hint="edit it, move it away, or name another with -c FILE",
        )
    proposals: Sequence[Proposal] = ()
    if dsn is not None:
        import asyncio

        proposals = asyncio.run(_look(dsn))
    text = _file(dsn, proposals)
    _write(path, text)
    say(f"wrote {path}" + (f" with {_named(proposals)}" if proposals else ""))
    if dsn is not None and not proposals:
        note("no table with a primary key was found that this role may read")
    note("next: put the addresses of your sinks right, then `pgbridge check`")


async def _look(dsn: str) -> list[Proposal]:
    from bridge.config.transport import verified
    from bridge.control.proposals import propose, read
    from bridge.control.session import session

    async with session(verified(dsn), key="--dsn") as connection:
        return propose(*await read(connection))


def _write(path: Path, text: str) -> None:
    from bridge.errors import BridgeError

    try:
        # It may hold a password: for its owner alone, and never over another file.
        path.touch(mode=0o600, exist_ok=False)
        try:
            path.write_text(text, "utf-8")
        except OSError:
            path.unlink()
            raise
    except OSError as error:
        raise BridgeError(
            f"{path} cannot be written: {error.strerror}",
            hint="name a file in a directory that is there and yours with -c FILE",
        ) from None


def _named(proposals: Sequence[Proposal]) -> str:
    names = ", ".join(proposal.name for proposal in proposals)
    return f"{'a view' if len(proposals) == 1 else 'views'} of {names}"


def _file(dsn: str | None, proposals: Sequence[Proposal]) -> str:
    parts = [
        f"""\
# pgbridge: what is copied from where to where. `pgbridge check` says what is missing,
# `pgbridge plan` what would happen, `pgbridge run` does it.
# ${{NAME}} and ${{NAME:-default}} come from the environment.

[source]
dsn = {toml_text(dsn.replace("${", "$${") if dsn else _DSN)}
# dsn_file = "dsn"               # or from a file
# slot = "pgbridge"              # replication slot, made by `run` or `apply`
# publication = "pgbridge"       # holds exactly the tables that views read
# admin_dsn = "${{ADMIN_DSN:-}}"   # for `apply` and `drop`, what the role may not do
# search_path = ["public"]       # where unqualified names are looked up
# wal_budget = "4GiB"            # log that a slow or dead sink may hold back

# [daemon]
# http = "127.0.0.1:8480"        # /live /ready /status /metrics; "" turns it off
# ready_lag = "60s"              # further behind than this is not ready

[sinks.search]
type = "elasticsearch"
url = "${{ELASTICSEARCH_URL:-http://127.0.0.1:9200}}"
# api_key = "${{ES_API_KEY:-}}"

[sinks.cache]
type = "redis"
url = "${{REDIS_URL:-redis://127.0.0.1:6379/0}}"
"""
    ]
    if not proposals:
        parts.append(_EXAMPLE)
    told: set[str] = set()
    parts += [_view(proposal, told) for proposal in proposals]
    return "".join(parts)


def _view(proposal: Proposal, told: set[str]) -> str:
    """One view, with the statements that are not `told` above it already."""
    indented = "\n".join(f"  {line}" for line in proposal.query.splitlines())
    text = f"""
[views.{proposal.name}]
query = {_block(indented)}
"""
    for column, statement in proposal.later:
        above = " (by the statement above)" if statement in told else ""
        text += f"# one more column, once the log carries what it needs{above}:\n"
        if not above:
            told.add(statement)
            lines = statement.split("; ")
            text += "".join(f"#   {line.rstrip(';')};\n" for line in lines)
        text += "".join(f"#     {line.strip()}\n" for line in column.splitlines())
    return (
        text
        + f"""
[[views.{proposal.name}.targets]]
sink = "search"

[[views.{proposal.name}.targets]]
sink = "cache"
"""
    )


def toml_text(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _block(text: str) -> str:
    """A TOML string over several lines."""
    escaped = text.replace("\\", "\\\\").replace('"""', '""\\"').replace("${", "$${")
    return f'"""\n{escaped}\n"""'
