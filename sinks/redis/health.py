"""What an operator should know of the server, and what the server knows to be durable.

The one thing to know: only replicas that are connected now are counted on; a server
without replicas and without an append-only file keeps nothing for sure, and what it
loses is found by its mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.sink import Build, Finding, Generation, Level, Owner, Target
from sinks.redis.layout import Layout, layout_of
from sinks.redis.options import read_target_options
from sinks.redis.places import Places, in_the_way, taken
from sinks.redis.server import Server
from sinks.redis.template import pieces

VERSION_MIN = (6, 2)
SAMPLE_STEPS_MAX = 200
SAMPLE_COUNT = 1_000
"""Keys looked at in a step: at most 200,000 of a server are looked at in all."""


async def check(server: Server) -> list[Finding]:
    """Findings that concern every target."""
    with server.sorting():
        facts: Mapping[str, Any] = await server.client.info()
    findings = [_version(facts)]
    if facts.get("cluster_enabled"):
        findings.append(
            Finding(
                Level.ERROR,
                "the server is a node of a Redis Cluster",
                "give the address of a single server or of a primary with replicas",
            )
        )
    if facts.get("role") != "master":
        findings.append(
            Finding(
                Level.ERROR,
                "the server is a replica and takes no writes",
                "give the address of its primary",
            )
        )
    if evicts_all(facts):
        findings.append(
            Finding(
                Level.WARNING,
                f"maxmemory-policy {facts['maxmemory_policy']} may evict any key, the "
                "bridge's own too; a document is then missing until it changes",
                "config set maxmemory-policy noeviction",
            )
        )
    elif facts.get("maxmemory") and facts.get("maxmemory_policy") != "noeviction":
        findings.append(
            Finding(
                Level.WARNING,
                f"maxmemory-policy {facts['maxmemory_policy']} may evict the memory of "
                "deletes before a late write has come",
                "config set maxmemory-policy noeviction",
            )
        )
    findings.append(_durability(facts))
    return findings


def evicts_all(facts: Mapping[str, Any]) -> bool:
    """Whether keys that never expire can be evicted."""
    return bool(facts.get("maxmemory")) and str(
        facts.get("maxmemory_policy", "")
    ).startswith("allkeys")


async def examine(
    server: Server, places: Places, target: Target, owner: Owner
) -> list[Finding]:
    """Findings that concern one target before anything of it is made.

    Refusal when its options ask for what cannot be.
    """
    layout = layout_of(Generation(target, 1))
    findings: list[Finding] = []
    if other := await places.other_owner(owner):
        claimed = taken(other)
        findings.append(Finding(Level.ERROR, claimed.message, claimed.hint))
    known = await places.described(target)
    for described in known.values():
        if halt := in_the_way(described, target.sink):
            findings.append(Finding(Level.ERROR, halt.message, halt.hint))
            break
    alike = await places.named_alike(layout)
    if alike is not None:
        findings.append(Finding(Level.ERROR, alike.message, alike.hint))
    with server.sorting():
        facts = await server.client.info()
    if layout.mirrors and evicts_all(facts):
        findings.append(
            Finding(
                Level.ERROR,
                "documents without a `ttl` would be evicted by maxmemory-policy "
                f"{facts['maxmemory_policy']}",
                "config set maxmemory-policy noeviction (or volatile-ttl), or give "
                "the target a `ttl`",
            )
        )
    places_known = {described["place"] for described in known.values()}
    side_by_side = layout.place == f"g{layout.number}"
    fresh = not known if side_by_side else layout.place not in places_known
    if layout.held and fresh and not alike and await _taken(server, layout):
        findings.append(
            Finding(
                Level.ERROR,
                f"there are keys named like {_shown(layout)} that the bridge did not "
                "write",
                "choose another `key`, or delete them",
            )
        )
    return findings


async def room(server: Server, builds: Sequence[Build]) -> list[Finding]:
    """Whether what is to be built fits below `maxmemory`."""
    with server.sorting():
        facts: Mapping[str, Any] = await server.client.info("memory")
    limit, used = int(facts.get("maxmemory") or 0), int(facts["used_memory"])
    wanted = sum(
        build.size_bytes
        for build in builds
        if read_target_options(build.target.options).encoding != "none"
    )
    if not limit or used + wanted <= limit or evicts_all(facts):
        return []
    return [
        Finding(
            Level.ERROR,
            f"the documents to be built are about {wanted >> 20:,} MiB, and of"
            f" {limit >> 20:,} MiB {used >> 20:,} are taken",
            f"config set maxmemory {2 * (used + wanted)}",
        )
    ]


def durable_offset(facts: Mapping[str, Any]) -> int | None:
    """How much of the server's writes every connected replica has; None without.

    -1: nothing of it, since one is still being given its first copy. Its offset is the
    server's own then, where nobody was told of writes before.
    """
    offsets = [
        int(value["offset"]) if value.get("state") == "online" else -1
        for name, value in facts.items()
        if re.fullmatch(r"slave\d+", name) and isinstance(value, Mapping)
    ]
    return min(offsets) if offsets else None


def _version(facts: Mapping[str, Any]) -> Finding:
    text = str(facts.get("redis_version", "0"))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version < VERSION_MIN:
        return Finding(
            Level.ERROR,
            f"the server speaks as Redis {text}, which is older than 6.2",
            "upgrade it to Redis 6.2 or later, or to Valkey",
        )
    own = facts.get("valkey_version")
    name = f"Valkey {own}" if own else f"Redis {text}"
    return Finding(Level.OK, f"{name}, {facts.get('role', 'unknown role')}")


def _durability(facts: Mapping[str, Any]) -> Finding:
    replicas = int(facts.get("connected_slaves", 0))
    if facts.get("aof_enabled"):
        return Finding(
            Level.OK, f"an append-only file is kept; {replicas} replicas are connected"
        )
    if replicas:
        return Finding(Level.OK, f"{replicas} replicas are connected")
    return Finding(
        Level.WARNING,
        "no append-only file and no replica: a crash loses what was written last, and "
        "the targets are then rebuilt",
        "config set appendonly yes",
    )


async def _taken(server: Server, layout: Layout) -> bool:
    """Whether a sample of keys has one that the template could have named."""
    pattern = _pattern(layout)
    cursor = 0
    with server.sorting():
        for _ in range(SAMPLE_STEPS_MAX):
            cursor, names = await server.client.scan(
                cursor, match=pattern, count=SAMPLE_COUNT
            )
            if any(not name.startswith(b"pgbridge:") for name in names):
                return True
            if cursor == 0:
                break
    return False


def _shown(layout: Layout) -> str:
    return layout.options.template or f"{layout.keys.name}:*"


def _pattern(layout: Layout) -> str:
    """The glob of every name that the template can give."""
    template = layout.options.template
    if not template:
        return f"{layout.keys.name}:*"
    return "".join(
        re.sub(r"([*?\[\]\\^])", r"\\\1", literal) + ("*" if name is not None else "")
        for literal, name in pieces(template)
    )
