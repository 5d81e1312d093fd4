"""The edge to the server: one request, and what its failures mean.

The one thing to know: every answer of the server is either taken by the caller or
becomes `Transient` or `Halt` here, and no text of the server that may quote a row's
value goes into either: of an error on the way of documents only its type is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson
from elastic_transport import (
    ConnectionError as NoConnection,
)
from elastic_transport import (
    ConnectionTimeout,
    NodeConfig,
    Serializer,
    TlsError,
    TransportError,
)
from elastic_transport.client_utils import basic_auth_to_header
from elasticsearch import Elasticsearch

from bridge.sink import Halt, Transient
from sinks.elasticsearch.options import Options
from sinks.elasticsearch.threads import Threads

T = TypeVar("T")

CONTROL_THREADS = 6
"""Beside the writes: searches, counts, the audit."""
BODY_BYTES_MAX = 100 << 20
"""`http.max_content_length` where nobody may be asked for it."""
JSON = {"content-type": "application/json", "accept": "application/json"}
"""Neither 8 nor 9 refuses the plain media type, as they do each other's own."""
NDJSON = {"content-type": "application/x-ndjson", "accept": "application/json"}

# At level INFO it logs a line a request, at DEBUG whole bodies: documents.
logging.getLogger("elastic_transport").setLevel(logging.WARNING)


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def error(self) -> tuple[str, str]:
        """Type and reason of the error in the body, as far as it has any.

        The innermost cause's reason is the one that tells what is wrong.
        """
        error = self._error
        kind, reason = str(error.get("type", "")), str(error.get("reason", ""))
        cause = error.get("caused_by")
        while isinstance(cause, dict):
            reason = str(cause.get("reason") or reason)
            cause = cause.get("caused_by")
        return kind, reason

    @property
    def kinds(self) -> list[str]:
        """The type of the error, and those of what shards have met: of a search that
        failed on shards, the type itself tells nothing."""
        roots = [each for each in self._error.get("root_cause") or [] if each]
        kinds = [self.error[0], *(str(root.get("type", "")) for root in roots)]
        return [kind for kind in dict.fromkeys(kinds) if kind]

    @property
    def _error(self) -> dict[str, Any]:
        found = self.json
        error = found.get("error") if isinstance(found, dict) else None
        return error if isinstance(error, dict) else {}


class _Bytes(Serializer):
    """Bodies go out and come in as they are."""

    def __init__(self, mimetype: str) -> None:
        self.mimetype = mimetype  # type: ignore[misc]

    def loads(self, data: bytes) -> bytes:
        return data

    def dumps(self, data: bytes) -> bytes:
        return data


class Client:
    """Requests to one cluster. Several nodes share the load and stand in for each
    other; a request is never repeated here, that is the bridge's to do."""

    def __init__(self, sink: str, options: Options) -> None:
        self.sink = sink
        self.options = options
        self._body_bytes_max: int | None = None
        self._timeout_s = options.request_timeout_s
        count = options.concurrency + CONTROL_THREADS
        self.threads = Threads(f"elasticsearch {sink}", count)
        # The client's own methods speak the media type of one major version, which the
        # other refuses; its transport takes ours.
        client = Elasticsearch(
            [_node(url, options, count) for url in options.urls],
            serializers={
                kind: _Bytes(kind)
                for kind in ("application/json", "application/x-ndjson", "text/*")
            },
            max_retries=0,
            meta_header=False,
            max_dead_node_backoff=10.0,
        )
        self._transport = client.transport

    def close(self) -> None:
        """Close what is idle; what is under way ends by itself."""
        self._transport.close()
        self.threads.close()

    async def run(self, call: Callable[[], T]) -> T:
        """`call`, which may use `send`, in a thread."""
        return await self.threads.run(call)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        lines: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """One request; blocks. `lines`: the body is newline-delimited JSON.

        Transient when there is no answer, Halt when the server is not to be trusted.
        """
        try:
            meta, answer = self._transport.perform_request(
                method,
                path,
                body=body,
                headers=NDJSON if lines else JSON,
                request_timeout=timeout_s or self._timeout_s,
            )
        # From none: the library's own text may hold what must not be shown.
        except TlsError:
            raise Halt(
                f"{self.sink}: no trusted TLS connection to {self._where}",
                hint="name the certificate authority with `ca_file`, or, where that"
                " is wanted, turn verification off with `verify = false`",
            ) from None
        except ConnectionTimeout:
            raise Transient(
                f"{self.sink}: {self._where} did not answer in time",
                hint="see that it runs, and is not overloaded",
            ) from None
        except NoConnection:
            raise Transient(
                f"{self.sink}: {self._where} cannot be reached",
                hint="see that it runs, and that `url` of the sink names its host and"
                " port",
            ) from None
        except TransportError as error:
            raise Halt(
                f"{self.sink}: {self._where} gave no HTTP answer"
                f" ({type(error).__name__})",
                hint="see that `url` is the address of an Elasticsearch server",
            ) from None
        return Answer(meta.status, answer if answer is not None else b"")

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """One request with a JSON body; any status is an answer."""
        sent = None if body is None else orjson.dumps(body)
        return await self.run(
            lambda: self.send(method, path, sent, timeout_s=timeout_s)
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer's JSON. Transient or Halt when it was not carried out."""
        answer = await self.request(method, path, body, timeout_s=timeout_s)
        if not answer.ok:
            raise self.failure(answer, f"{method} {path.partition('?')[0]}")
        if (found := answer.json) is None:
            raise Halt(
                f"{self.sink}: {self._where} does not answer as Elasticsearch does",
                hint="see that `url` is the address of an Elasticsearch server",
            )
        return found

    def failure(
        self, answer: Answer, doing: str, *, quote: bool = True
    ) -> Transient | Halt:
        """What a refused request means for the bridge.

        `quote`: the server's reason may be shown, since there was no document in it.
        """
        kinds, (kind, reason) = answer.kinds, answer.error
        told = " ".join([f"{self.sink}: {doing} was answered {answer.status}", *kinds])
        if reason and quote:
            told += f": {reason}"
        if answer.status in (401, 403) and kind != "cluster_block_exception":
            return Halt(told, hint=_rights_hint(answer.status))
        passing = not PASSING.isdisjoint(kinds) or answer.status in (408, 429)
        if passing or answer.status >= 500:
            return Transient(told)
        return Halt(
            told, hint="mend what it says, then `pgbridge resume` goes on with the sink"
        )

    async def version(self) -> tuple[int, ...]:
        """The oldest version among the nodes, as (major, minor, patch)."""
        answer = await self.ask("GET", "/_nodes/_all?filter_path=nodes.*.version")
        versions = [
            tuple(int(part) for part in node["version"].split("-")[0].split("."))
            for node in answer["nodes"].values()
        ]
        return min(versions)

    def body_bytes_max(self) -> int:
        """The largest body that every node takes; blocks. Transient: no answer."""
        if self._body_bytes_max is None:
            path = "/_nodes/http?filter_path=nodes.*.http.max_content_length_in_bytes"
            answer = self.send("GET", path)
            nodes = (answer.json or {}).get("nodes", {}) if answer.ok else {}
            limits = [n["http"]["max_content_length_in_bytes"] for n in nodes.values()]
            self._body_bytes_max = min(limits, default=BODY_BYTES_MAX)
        return self._body_bytes_max

    @property
    def _where(self) -> str:
        return " or ".join(self.options.urls)

    @property
    def shown_url(self) -> str:
        """The first address, for commands that an operator copies."""
        return self.options.urls[0]


PASSING = frozenset(
    {
        "cluster_block_exception",
        "index_closed_exception",
        "master_not_discovered_exception",
        "process_cluster_event_timeout_exception",
        "no_shard_available_action_exception",
        "circuit_breaking_exception",
        "es_rejected_execution_exception",
        "unavailable_shards_exception",
        "index_not_found_exception",
        "receive_timeout_transport_exception",
        "node_not_connected_exception",
        # Of a listing: its point in time has ended, or went with a node or a shard.
        "search_context_missing_exception",
        "illegal_index_shard_state_exception",
        "index_shard_closed_exception",
        "shard_not_found_exception",
    }
)
"""Errors that pass, by themselves, when an operator lifts a block, or when what was
asked of a server that has lost sight of it is begun again."""


def _rights_hint(status: int) -> str:
    if status == 401:
        return "give a valid `api_key`, or `username` and `password`, of the sink"
    return (
        "the role needs the cluster privilege monitor and, on the targets' indexes,"
        " all of create_index, manage, read and write"
    )


def _node(url: str, options: Options, connections: int) -> NodeConfig:
    parts = urlsplit(url)
    headers = {"connection": "keep-alive"}
    if options.api_key:
        headers["authorization"] = f"ApiKey {options.api_key}"
    elif options.credentials:
        headers["authorization"] = basic_auth_to_header(options.credentials)
    assert parts.hostname and parts.port, url
    secure = parts.scheme == "https"
    return NodeConfig(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port,
        path_prefix=parts.path,
        headers=headers,
        connections_per_node=connections,
        request_timeout=options.request_timeout_s,
        verify_certs=options.verify if secure else None,
        ca_certs=(options.ca_file or None) if secure else None,
        ssl_show_warn=False,
    )
