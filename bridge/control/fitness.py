"""Whether the source lets everything be made that is wanted, asked before any of it is.

The one thing to know: these are errors of `check`; here the first of them stops
`plan`, `apply` and `run`, so that none of them leaves half of its work behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.control import check_server, check_tables
from bridge.control.check import one, rows
from bridge.control.survey import Survey
from bridge.errors import Halt
from bridge.sink import Finding, Level


async def require(looked: Survey, *, admin: bool, partial: bool = False) -> None:
    """Halt with the first thing of the source that is in the way.

    With `admin` what `source.admin_dsn` may do is not; with `partial` neither is a
    publication that is there and lacks tables, since only their views wait for it.
    """
    facts = await one(looked.session, "server")
    admin = admin and looked.config.source.admin_dsn is not None
    found = [*check_server.server(facts), *check_server.role(facts, admin=admin)]
    if looked.slot is None:
        found += check_server.room(facts)
    if looked.publication is None or not partial:
        found += await _publication(looked, facts, admin=admin)
    for finding in found:
        if finding.level is Level.ERROR:
            raise Halt(finding.what, hint=finding.fix)


async def _publication(
    looked: Survey, facts: Mapping[str, Any], *, admin: bool
) -> list[Finding]:
    if admin or not looked.publication_changes:
        return []
    name = looked.config.source.publication
    wanted = check_tables.uses(looked.planned.plans)
    return list(
        check_tables.publication(
            await one(looked.session, "publication", publication=name),
            await rows(looked.session, "used_tables", oids=list(wanted)),
            looked.config.source,
            may_create=facts["may_create"],
        )
    )
