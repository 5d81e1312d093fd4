"""What an index says of itself, in `_meta` of its mapping, and how it is found.

    "_meta": {"pgbridge": {
        "owner": "7391…/shop/pgbridge", "epoch": 3, "view": "product",
        "target": "products", "generation": 2, "fingerprint": "4f…", "uuid": "Fq…",
        "histories": {"0": "Tp…"}, "position": "3:0/16B3748", "mapping": "9a…:9.2.0",
        "ceiling": "27021597764222976"}}

The one thing to know: `uuid` is the index's own, put in after it was made. An index
restored from a snapshot has another one, and so tells that it is not what was kept.
`histories` are those of its shards: Elasticsearch begins a new one when a shard is
restored in place, or started from an old copy or from none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from bridge.sink import Generation, Owner, Position
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.plan import index_name

KEY = "pgbridge"
INDEXES_A_REQUEST = 40
"""A request line of Elasticsearch has at most 4,096 bytes; a name has at most 80."""
_FILTER = (
    "filter_path=*.settings.index.uuid,*.settings.index.number_of_shards"
    ",*.settings.index.verified_before_close,*.aliases,*.mappings"
)
_HISTORIES = (
    "filter_path=indices.*.shards.*.routing.primary,"
    "indices.*.shards.*.commit.user_data.history_uuid"
)


@dataclass(frozen=True, slots=True)
class Meta:
    """Whose index it is, and what is in it."""

    owner: str
    epoch: int
    view: str
    target: str
    generation: int
    fingerprint: str
    uuid: str = ""
    """Empty while the index is being prepared."""
    position: Position | None = None
    ceiling: int = 0
    """No version above this one was issued for the generation."""
    histories: Mapping[str, str] = field(default_factory=dict)
    """By shard number."""
    mapping: str = ""
    """Digest of the mapping as it was made, and after a colon the server's version,
    since another one may print the same mapping otherwise. Empty: not known."""

    def dump(self) -> dict[str, Any]:
        """The body of `_meta`. Long numbers are texts, since JSON rounds them."""
        return {
            KEY: {
                "owner": self.owner,
                "epoch": self.epoch,
                "view": self.view,
                "target": self.target,
                "generation": self.generation,
                "fingerprint": self.fingerprint,
                "uuid": self.uuid,
                "position": str(self.position) if self.position else "",
                "ceiling": str(self.ceiling),
                "histories": dict(self.histories),
                "mapping": self.mapping,
            }
        }

    @classmethod
    def load(cls, written: object) -> Meta | None:
        """From the body of `_meta`; None when it is not the bridge's."""
        if not isinstance(written, Mapping) or KEY not in written:
            return None
        try:
            held = written[KEY]
            text = held["position"]
            return cls(
                owner=str(held["owner"]),
                epoch=int(held["epoch"]),
                view=str(held["view"]),
                target=str(held["target"]),
                generation=int(held["generation"]),
                fingerprint=str(held["fingerprint"]),
                uuid=str(held["uuid"]),
                position=Position.parse(text) if text else None,
                ceiling=int(held["ceiling"]),
                histories=dict(held.get("histories", {})),
                mapping=str(held.get("mapping", "")),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def is_of(self, generation: Generation, owner: Owner | None) -> bool:
        """Whether this is that generation, and of that owner where one is known."""
        return (
            self.target == generation.target.name
            and self.generation == generation.number
            and (owner is None or self.owner == str(owner))
        )


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the server has it."""

    name: str
    uuid: str
    shards: int
    aliases: frozenset[str]
    meta: Meta | None
    mapping: str = ""
    """Digest of the mapping without its `_meta`."""
    closed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is the bridge's, and the very one that was prepared."""
        return self.meta is not None and self.meta.uuid == self.uuid


async def find(client: Client, names: Sequence[str]) -> dict[str, Index]:
    """The indexes that these names (or patterns) stand for, aliases followed; those
    that do not exist are left out."""
    found: dict[str, Index] = {}
    for start in range(0, len(names), INDEXES_A_REQUEST):
        joined = ",".join(
            quote(name, safe="*") for name in names[start : start + INDEXES_A_REQUEST]
        )
        answer = await client.ask(
            "GET",
            f"/{joined}?ignore_unavailable=true&allow_no_indices=true"
            f"&expand_wildcards=all&{_FILTER}",
        )
        for name, body in answer.items():
            mapping = dict(body.get("mappings") or {})
            meta = Meta.load(mapping.pop("_meta", None))
            found[name] = Index(
                name=name,
                uuid=body["settings"]["index"]["uuid"],
                shards=int(body["settings"]["index"]["number_of_shards"]),
                aliases=frozenset(body.get("aliases") or ()),
                meta=meta,
                mapping=_digest(mapping),
                closed="verified_before_close" in body["settings"]["index"],
            )
    return found


async def find_one(client: Client, generation: Generation) -> Index | None:
    """The index of a generation; None when there is no index of that very name."""
    name = index_name(generation)
    return (await find(client, [name])).get(name)


async def find_histories(
    client: Client, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """The history of each primary shard that is started, by index."""
    found: dict[str, dict[str, str]] = {}
    for start in range(0, len(names), INDEXES_A_REQUEST):
        joined = ",".join(names[start : start + INDEXES_A_REQUEST])
        answer = await client.ask(
            "GET",
            f"/{joined}/_stats/docs?level=shards&ignore_unavailable=true"
            f"&forbid_closed_indices=false&{_HISTORIES}",
        )
        for name, index in answer.get("indices", {}).items():
            found[name] = {
                number: copy["commit"]["user_data"]["history_uuid"]
                for number, copies in index["shards"].items()
                for copy in copies
                if copy["routing"]["primary"] and "commit" in copy
            }
    return found


def _digest(mapping: Mapping[str, Any]) -> str:
    text = orjson.dumps(mapping, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]


async def put_meta(client: Client, index: str, meta: Meta) -> None:
    """Replace the whole `_meta`: the server does not merge it."""
    await client.ask("PUT", f"/{index}/_mapping", {"_meta": meta.dump()})
