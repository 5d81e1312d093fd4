"""Everything that an operator should know before starting: source and every sink.

The one thing to know: nothing is changed. What cannot be asked, because a server is
away or refuses, is a finding like any other, and the rest is asked all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.config import Config, TargetConfig
from bridge.control import check_server, check_tables
from bridge.control.check_indexes import indexes
from bridge.control.planning import (
    build,
    open_sinks,
    plan_configured,
    read_views,
    sink_target,
)
from bridge.control.session import (
    Session,
    address,
    session,
    sql,
    try_replication,
    wrapped,
)
from bridge.derive.view import ViewPlan
from bridge.errors import BridgeError, QueryRefusal, Refusal
from bridge.sink import Build, Finding, Level, Owner, Sink


@dataclass(frozen=True, slots=True)
class Part:
    """The findings of one server. `name` is `source` or the sink's."""

    name: str
    title: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether anything here stands in the way."""
        return any(finding.level is Level.ERROR for finding in self.findings)


@dataclass(slots=True)
class _Known:
    """What the source has told, for the sinks to be asked about."""

    plans: dict[str, ViewPlan] = field(default_factory=dict)
    owner: Owner | None = None
    builds: list[Build] = field(default_factory=list)


async def check(config: Config) -> list[Part]:
    """Look at the source and at every sink. Refusal for a view that cannot be kept."""
    known = _Known()
    parts = [await _source(config, known)]
    if findings := list(_daemon(config)):
        parts.append(Part("daemon", f"http {config.daemon.http}", findings))
    async with open_sinks(config) as sinks:
        for name, sink in sinks.items():
            parts.append(await _sink(config, name, sink, known))
    return parts


def _daemon(config: Config) -> Iterator[Finding]:
    http = config.daemon.http
    if http is not None and not http.is_loopback:
        yield Finding(
            Level.WARNING,
            f"http {http} can be reached from other machines: whoever does reads "
            "status and metrics",
            f'http = "127.0.0.1:{http.port}"  # under [daemon], unless it is meant',
        )


async def _source(config: Config, known: _Known) -> Part:
    try:
        async with session(config.source.dsn) as connection:
            facts = await one(connection, "server")
            assert facts is not None
            findings = [
                *check_server.server(facts),
                *check_server.role(facts),
                *check_server.slot(
                    facts,
                    await one(connection, "slot", slot=config.source.slot),
                    config.source.slot,
                ),
                *check_server.settings(facts, config.source),
                *check_server.open_transactions(
                    await rows(
                        connection,
                        "open_transactions",
                        age_s=check_server.LONG_TRANSACTION_S,
                    )
                ),
            ]
            if facts["may_replicate"] or facts["is_superuser"]:
                findings += await replication(config)
            known.owner = await owner(connection, config)
            findings += await _views(connection, config, facts, known)
            known.builds = await _builds(connection, config, facts, known.plans)
            title = f"{address(config.source.dsn)}  {check_server.title(facts)}"
    except Refusal:
        raise
    except BridgeError as error:
        return Part(
            "source",
            address(config.source.dsn),
            [Finding(Level.ERROR, error.message, error.hint)],
        )
    return Part("source", title, findings)


async def _builds(
    connection: Session,
    config: Config,
    facts: Mapping[str, Any],
    plans: Mapping[str, ViewPlan],
) -> list[Build]:
    """What is to be built: of which targets there is nothing yet."""
    begun = await rows(connection, "begun") if facts["is_installed"] else []
    there = {(row["sink"], row["name"]) for row in begun}
    return [
        await build(connection, target, plans[target.view])
        for target in config.targets()
        if target.view in plans and (target.sink, target.name) not in there
    ]


async def _views(
    connection: Session, config: Config, facts: Mapping[str, Any], known: _Known
) -> list[Finding]:
    """Findings of the tables that the views read, and of the publication."""
    catalog = await read_views(connection, config)
    tables = await rows(connection, "used_tables", oids=list(catalog.tables))
    refusals: list[QueryRefusal] = []
    for name, view in config.views.items():
        try:
            known.plans[name] = plan_configured(view, catalog)
        except QueryRefusal as refusal:
            refusals.append(refusal)
    # A role that may not read a table cannot plan its view: say which grants, and all
    # that can be said of the others.
    lacking = {
        row["oid"] for row in tables if refusals and not check_tables.is_read(row)
    }
    if refusals and not lacking:
        raise refusals[0]
    unknown = {oid: check_tables.Use({}, []) for oid in lacking}
    wanted = unknown | check_tables.uses(known.plans)
    used = [row for row in tables if row["oid"] in wanted]
    return [
        *check_tables.tables(used, wanted, facts["role"]),
        *await indexes(connection, known.plans),
        *check_tables.publication(
            await one(connection, "publication", publication=config.source.publication),
            used,
            config.source,
            may_create=facts["may_create"],
        ),
    ]


async def _sink(config: Config, name: str, sink: Sink, known: _Known) -> Part:
    options = config.sinks[name].options
    url = options.get("url", "")
    title = f"{config.sinks[name].type}  {_bare(url)}".rstrip()
    findings: list[Finding] = []
    try:
        findings += await sink.check()
        for target in config.targets():
            if target.sink == name and target.view in known.plans and known.owner:
                asked = sink_target(target, known.plans[target.view])
                with placed(config, target):
                    findings += await sink.examine(asked, known.owner)
        findings += await sink.room([b for b in known.builds if b.target.sink == name])
    except Refusal:
        raise
    except BridgeError as error:
        findings.append(Finding(Level.ERROR, error.message, error.hint))
    return Part(name, title, findings)


@contextmanager
def placed(config: Config, target: TargetConfig) -> Iterator[None]:
    """Give a sink's Refusal of a target the target's place in the file."""
    try:
        yield
    except Refusal as refusal:
        index = config.views[target.view].targets.index(target)
        place = f"views.{target.view}.targets[{index}]"
        raise Refusal(f"{place}: {refusal.message}", hint=refusal.hint) from None


def _bare(url: object) -> str:
    """The address or addresses without user and password."""
    if isinstance(url, (list, tuple)):
        return ", ".join(map(_bare, url))
    scheme, slashes, rest = str(url).partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


async def replication(config: Config) -> list[Finding]:
    """Whether a replication connection is let in, which pg_hba.conf decides apart."""
    try:
        await try_replication(config.source.dsn)
    except BridgeError as error:
        return [
            Finding(
                Level.ERROR,
                f"a replication connection is refused: {error.message}",
                "add a line for this role and database to pg_hba.conf, and "
                "select pg_reload_conf();",
            )
        ]
    return []


async def owner(connection: Session, config: Config) -> Owner:
    """Whose targets they are: the source as every sink is told of it."""
    row = await one(connection, "identity")
    assert row is not None
    known = row["system_identifier"]
    if row["remembers"]:
        # A cluster that has taken another's place goes by the name of that one.
        source = await one(connection, "known_as")
        known = known if source is None else source["known_as"]
    return Owner(known, row["database"], config.source.slot)


async def rows(connection: Session, name: str, **values: object) -> list[Any]:
    """What the statement `name` of this package gives."""
    with wrapped():
        cursor = await connection.execute(sql(name), values or None)
        return await cursor.fetchall()


async def one(connection: Session, name: str, **values: object) -> Any:
    """The only row that the statement gives, or None."""
    found = await rows(connection, name, **values)
    assert len(found) <= 1, name
    return found[0] if found else None
