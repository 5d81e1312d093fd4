"""What an operator should know: of the server, and of one target before it is made.

The one thing to know: nothing here changes anything; a target's mapping and settings
are validated by having the server simulate a template that is never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from bridge.sink import Build, Finding, Generation, Halt, Level, Owner, Refusal, Target
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.meta import Index, find
from sinks.elasticsearch.places import Places, in_the_way
from sinks.elasticsearch.plan import IndexPlan, index_name, plan

OLDEST = (8, 19)
_TEMPLATE_PRIORITY = 987_654_321
"""Of the template that is only simulated: two of one priority may not overlap."""
_FLOOD_LEFT = 0.05
"""What is left of a disk when its indexes become read-only, by default."""
_OURS = "*--g*"
_CLUSTER_BLOCKS = ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete")


class Checking:
    """`check` and `examine`."""

    def __init__(self, client: Client, places: Places) -> None:
        self._client, self._places = client, places

    async def check(self) -> list[Finding]:
        """Version, health, rights, disk, blocks."""
        findings: list[Finding] = []
        version = await self._client.version()
        shown = ".".join(map(str, version))
        if version < OLDEST:
            findings.append(
                Finding(
                    Level.ERROR,
                    f"Elasticsearch {shown} is too old",
                    "upgrade it to 8.19 or 9",
                )
            )
        else:
            findings.append(Finding(Level.OK, f"Elasticsearch {shown}"))
        findings += await self._health()
        findings += await self._disk()
        findings += await self._blocks()
        findings += await self._rights()
        return findings

    async def _health(self) -> list[Finding]:
        url = self._client.shown_url
        health = await self._client.ask("GET", "/_cluster/health")
        if health["status"] != "red":
            return [Finding(Level.OK, f"the cluster is {health['status']}")]
        return [
            Finding(
                Level.ERROR,
                "the cluster is red: some documents cannot be written or found",
                f"curl '{url}/_cluster/allocation/explain?pretty'",
            )
        ]

    async def _disk(self) -> list[Finding]:
        if not await self._thresholds():
            return []
        findings = []
        for name, total in await self._disks():
            used = 1 - total["available_in_bytes"] / max(total["total_in_bytes"], 1)
            if used >= 0.85:
                level = Level.ERROR if used >= 0.95 else Level.WARNING
                findings.append(
                    Finding(
                        level,
                        f"the disk of node {name} is {used:.0%} full: at 85 %"
                        " no shard is placed there, at 95 % its indexes are read-only",
                        "free space, or add a node",
                    )
                )
        return findings

    async def _thresholds(self) -> bool:
        """Whether the cluster heeds how full its disks are."""
        name = "cluster.routing.allocation.disk.threshold_enabled"
        return bool((await self._setting(name)) != "false")

    async def _setting(self, name: str) -> Any:
        answer = await self._client.request(
            "GET",
            "/_cluster/settings?include_defaults=true&flat_settings=true"
            f"&filter_path=*.{name.replace('.', '%5C.')},*.{name}",
        )
        found = answer.json if answer.ok and isinstance(answer.json, dict) else {}
        for scope in ("transient", "persistent", "defaults"):
            if name in found.get(scope, {}):
                return found[scope][name]
        return None

    async def _blocks(self) -> list[Finding]:
        return [
            self._block(
                "the cluster", name, "_cluster/settings", {"persistent": {name: None}}
            )
            for name in _CLUSTER_BLOCKS
            if (await self._setting(name)) == "true"
        ]

    def _block(self, what: str, name: str, path: str, body: object) -> Finding:
        return Finding(
            Level.ERROR,
            f"{what} has the block {name}: nothing is written",
            self._put(path, body),
        )

    def _put(self, path: str, body: object) -> str:
        """The command that sends this."""
        return (
            f"curl -X PUT '{self._client.shown_url}/{path}'"
            f" -H 'content-type: application/json' -d '{orjson.dumps(body).decode()}'"
        )

    async def _rights(self) -> list[Finding]:
        privileges = ["create_index", "manage", "read", "write"]
        body = {
            "cluster": ["monitor"],
            "index": [{"names": [_OURS], "privileges": privileges}],
        }
        answer = await self._client.request(
            "POST", "/_security/user/_has_privileges", body
        )
        if not answer.ok or not isinstance(answer.json, dict):
            return []  # no security, or no right to ask
        if answer.json.get("has_all_requested", True):
            return [Finding(Level.OK, "the role has the privileges it needs")]
        missing = [n for n, has in answer.json.get("cluster", {}).items() if not has]
        for held in answer.json.get("index", {}).values():
            missing += [name for name, has in held.items() if not has]
        return [
            Finding(
                Level.WARNING,
                f"the role lacks, on every index, {', '.join(missing)}",
                "give it monitor on the cluster, and create_index, manage, read and"
                " write on the targets' names, NAME and NAME--g*",
            )
        ]

    # One target.

    async def examine(self, target: Target, owner: Owner) -> list[Finding]:
        """Everything that `prepare` and `publish` would stop at.

        Refusal when `mappings` or `settings` ask for what cannot be.
        """
        made = plan(target)
        if self._places.owner not in (None, owner):
            return [
                Finding(
                    Level.ERROR,
                    f"{self._client.sink} is written by {self._places.owner}",
                    "one bridge a sink: stop the other",
                )
            ]
        found = await find(self._client, [target.name, f"{target.name}--g*"])
        findings = self._in_the_way(found, target, owner)
        await self._simulate(target, made)
        findings += await self._blocks_of(found, target, owner)
        return findings

    def _in_the_way(
        self, found: Mapping[str, Index], target: Target, owner: Owner
    ) -> list[Finding]:
        findings = []
        for name, index in found.items():
            meta = index.meta
            if not _named(name, target) and target.name not in index.aliases:
                continue
            foreign = meta is None or meta.owner != str(owner)
            if name == target.name or foreign or meta.target != target.name:  # type: ignore[union-attr]
                halt: Halt = in_the_way(self._client, index, target.name)
                findings.append(Finding(Level.ERROR, halt.message, halt.hint))
        return findings

    async def _blocks_of(
        self, found: Mapping[str, Index], target: Target, owner: Owner
    ) -> list[Finding]:
        """Blocks of the target's own indexes; another's are another's business."""
        own = {
            name
            for name, index in found.items()
            if index.meta is not None and index.meta.owner == str(owner)
        }
        path = f"/{quote(target.name)}--g*/_settings/index.blocks.*"
        answer = await self._client.request("GET", f"{path}?flat_settings=true")
        blocked = answer.json if answer.ok and isinstance(answer.json, dict) else {}
        return [
            self._block(f"index {index}", name, f"{index}/_settings", {name: None})
            for index, body in blocked.items()
            for name, value in body["settings"].items()
            if value == "true" and index in own
        ]

    async def _simulate(self, target: Target, made: IndexPlan) -> None:
        """Refusal when the server would not make such an index."""
        settings = {**made.building, **made.serving}
        body = {
            "index_patterns": [index_name(Generation(target, 0))],
            "priority": _TEMPLATE_PRIORITY,
            "template": {
                "settings": {k: v for k, v in settings.items() if v is not None},
                "mappings": made.mapping,
            },
        }
        answer = await self._client.request("POST", "/_index_template/_simulate", body)
        if answer.status != 400:
            return  # valid, or no right to ask: `prepare` will tell
        reason = answer.error[1]
        # "index_template [simulate_…] invalid, cause [Validation Failed: 1: …]"
        reason = reason.partition("cause [")[2].rstrip("]") or reason
        raise Refusal(
            f"the index of {target} cannot be made: {reason}",
            hint="mend `mappings` or `settings` of the target",
        )

    # All that is to be made.

    async def room(self, builds: Sequence[Build]) -> list[Finding]:
        """Whether limit of shards and disks leave room for all of these indexes."""
        if not builds:
            return []
        plans = [plan(build.target) for build in builds]
        wanted = sum(made.shards for made in plans)
        size_bytes = sum(
            build.size_bytes * made.copies
            for build, made in zip(builds, plans, strict=True)
        )
        return [*await self._shards(wanted), *await self._disk_left(size_bytes)]

    async def _shards(self, wanted: int) -> list[Finding]:
        limit = int(await self._setting("cluster.max_shards_per_node") or 1000)
        health = await self._client.ask("GET", "/_cluster/health")
        nodes = max(health["number_of_data_nodes"], 1)
        room = limit * nodes
        taken = health["active_shards"] + health["unassigned_shards"]
        if taken + wanted <= room:
            return []
        enough = max(limit * 2, -(-(taken + 2 * wanted) // nodes))
        more = {"persistent": {"cluster.max_shards_per_node": enough}}
        return [
            Finding(
                Level.ERROR,
                f"{wanted} shards are needed, and {taken} of {room} are taken",
                f"delete indexes, or {self._put('_cluster/settings', more)}",
            )
        ]

    async def _disk_left(self, wanted: int) -> list[Finding]:
        """Of the rows' size: an index is rarely larger, and seldom half as large."""
        if not wanted or not await self._thresholds():
            return []
        left = sum(
            max(total["available_in_bytes"] - total["total_in_bytes"] * _FLOOD_LEFT, 0)
            for _, total in await self._disks()
        )
        if wanted <= left:
            return []
        return [
            Finding(
                Level.ERROR,
                f"the documents to be built are about {wanted >> 20:,} MiB, and"
                f" {int(left) >> 20:,} MiB are left before indexes become read-only",
                "free space, or add a node",
            )
        ]

    async def _disks(self) -> list[tuple[str, Mapping[str, int]]]:
        """Name and file system of each node; nothing where that may not be asked."""
        path = "/_nodes/stats/fs?filter_path=nodes.*.name,nodes.*.fs.total"
        answer = await self._client.request("GET", path)
        nodes = (answer.json or {}).get("nodes", {}) if answer.ok else {}
        return [(node["name"], node["fs"]["total"]) for node in nodes.values()]


def _named(name: str, target: Target) -> bool:
    """Whether an index has the name of one of the target's generations."""
    prefix = f"{target.name}--g"
    return name == target.name or (
        name.startswith(prefix) and name[len(prefix) :].isdecimal()
    )
